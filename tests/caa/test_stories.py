"""The stories in `cases`: each event is followed by what the case says."""

import re
from pathlib import Path

import pytest

from tests.caa.stories import CASES, main, tell

_SECTIONS = """
    2.1 2.2 2.2.2 2.2.2.1 2.2.2.2 2.2.2.3 2.2.3 2.2.4 2.2.5 2.3 2.3.1 2.3.3 2.4 2.6 2.7 2.8 2.9 2.10
""".split()
PATHS = sorted(CASES.glob("*.txt"))


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_the_story_goes_as_written(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert tell(text) == text


def test_every_story_names_what_it_states() -> None:
    for path in PATHS:
        first = path.read_text(encoding="utf-8").splitlines()[0]
        assert re.match(r"# (manual 2\.\d+(\.\d+){0,2}|facts|contract 4): .", first), path.stem


def test_the_sections_of_the_manual_are_all_there() -> None:
    told = "\n".join(path.read_text(encoding="utf-8").splitlines()[0] for path in PATHS)
    for section in _SECTIONS:
        assert f"manual {section}:" in told, section
    assert len(PATHS) >= 100


def test_a_story_that_goes_another_way_is_found_and_can_be_rewritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.caa.stories.CASES", tmp_path)
    case = tmp_path / "one.txt"
    case.write_text("# manual 2.6: x\nmembers a\napplication x\n\n> begin\n> caa_start x\nwrong\n")
    said: list[str] = []
    assert main([], said.append) == 1
    assert main(["--rewrite"], said.append) == 0
    assert "[1] Attempting to start 'x' on member 'a'" in case.read_text()
    assert main([], said.append) == 0
    assert said == ["one differs", "one rewritten"]
