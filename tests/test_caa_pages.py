"""The pages and the completion of the caa_ programs: true to the programs."""

import re
import subprocess
from pathlib import Path

import pytest

from clufs.caa import ocf
from clufs.caa.action_script import (
    NamedScript,
    OcfAgent,
    ScriptFile,
    SystemdUnit,
    parse_action_script,
)
from clufs.caa.attributes import ATTRIBUTES
from clufs.caa.definitions import OPTION_KEYS, TYPES, parse_definitions
from clufs.caa.environment import PATH
from tests.cli.caa_files import Clu
from tests.test_man_pages import MOUNT, plain

PROGRAMS = [page.stem for page in sorted(MOUNT.glob("caa_*.8"))]


def listed(program: str, directory: Path) -> set[str]:
    """The options that --help lists."""
    text = Clu(directory).run(program, "--help").out
    return set(re.findall(r"^  (-\w+)", text, re.M)) - {"-h"} | set(
        re.findall(r"^  (-h) [A-Z]", text, re.M)
    )


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_options_are_documented_and_exist(program: str, tmp_path: Path) -> None:
    tags = set(re.findall(r"^\.TP\n\.B[IR]? (-\w+)", plain(f"{program}.8", "OPTIONS"), re.M))
    # caa_report's -h is its --help, by the manual's name.
    assert tags
    assert tags - ({"-h"} if program == "caa_report" else set()) == listed(program, tmp_path)


@pytest.mark.parametrize("program", PROGRAMS)
def test_completion_offers_the_options(program: str, tmp_path: Path) -> None:
    own = listed(program, tmp_path) | {"--help"}
    assert offers(f"{program} -", tmp_path) == own | ({"-h"} if program == "caa_report" else set())


def test_every_attribute_is_documented() -> None:
    page = plain("caa.5", "ATTRIBUTES")
    rows = dict(re.findall(r"^([A-Z_]+)\t(\S+)\t", page, re.M))
    in_words = {"SUBNET", "DEVICE_NAME"}
    assert rows.keys() == ATTRIBUTES.keys() - in_words
    for name, default in rows.items():
        meant = {"required": None, "none": ""}.get(default, default)
        assert ATTRIBUTES[name].default == meant, name
    for name in in_words:
        assert f"{name} (required)" in page


def test_the_forms_of_an_action_script_are_documented() -> None:
    page = plain("caa.5", "ACTION SCRIPTS")
    forms = {
        "NAME": NamedScript("NAME"),
        "/ PATH": ScriptFile("/PATH"),
        "systemd: UNIT": SystemdUnit("UNIT"),
        "ocf: PROVIDER : AGENT": OcfAgent("PROVIDER", "AGENT"),
    }
    tags = [tag.replace('"', "") for tag in re.findall(r"^\.TP\n\.[BI]+ (.*)", page, re.M)]
    assert tags == [*forms]
    assert {tag: parse_action_script(tag.replace(" ", "")) for tag in tags} == forms
    assert PATH in page
    assert f"{ocf.ROOT}/resource.d/PROVIDER/AGENT" in page


def test_the_types_of_a_sites_attributes_are_documented() -> None:
    page = plain("caa.5", "TEMPLATES")
    for kind in TYPES:
        assert re.search(rf"\b{kind}\b", page)
    example = page.partition(".EX\n")[2].partition(".EE")[0]
    assert parse_definitions(example.encode()).keys() == {"USR_DEBUG"}


def test_every_key_of_o_is_documented() -> None:
    page = plain("caa_profile.8", "OPTIONS")
    assert dict(re.findall(r"^\.B (\w\w)\n([A-Z_]+)\b", page, re.M)) == OPTION_KEYS


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("caa_start c", {"clock"}),
        ("caa_start -c ", {"provolone", "polishham"}),
        ("caa_stop clock d", {"dhcp"}),
        ("caa_relocate -s pro", {"provolone"}),
        ("caa_balance ", {"clock", "dhcp"}),
        ("caa_register ", {"clock", "dhcp", "idea"}),
        ("caa_stat -t d", {"dhcp"}),
        ("caa_report ", set()),
        ("caa_report -a c", {"clock"}),
        ("caa_report -b ", set()),
        ("caa_profile -print ", {"clock", "dhcp", "idea"}),
        ("caa_profile -create x -t ", {"application", "network", "tape", "changer"}),
        ("caa_profile -create x -p f", {"favored"}),
        ("caa_profile -create x -h p", {"provolone", "polishham"}),
        ("caa_profile -create x -r ", {"clock", "dhcp"}),
        ("caa_profile -create ", set()),
        ("caa_profile -create x -B mount/clufsd.s", {"mount/clufsd.service"}),
    ],
)
def test_completion_offers(line: str, offered: set[str], tmp_path: Path) -> None:
    clu = Clu(tmp_path)
    clu.add("clock")
    clu.add("dhcp")
    (tmp_path / "resources/idea.cap").write_text("NAME=idea\n")
    for member in ("provolone", "polishham"):
        (tmp_path / "members" / member).mkdir(parents=True)
    (tmp_path / "members/self").symlink_to("provolone")
    assert offers(line, tmp_path) == offered


def offers(line: str, root: Path) -> set[str]:
    words = line.split(" ")
    script = f"""
        . mount/caa.bash
        compopt() {{ :; }}
        COMP_WORDS=({" ".join(word or "''" for word in words)}) COMP_CWORD={len(words) - 1}
        _caa
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(
        ["bash", "-c", script],
        capture_output=True,
        text=True,
        cwd=MOUNT.parent,
        env={"CLU_ROOT": str(root)},
    )
    assert done.stderr == ""
    return set(done.stdout.split())
