"""The man pages, the unit and the completion: well formed, and true to the programs."""

import configparser
import errno
import re
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from clufs import config, errors
from clufs.cli import clufs
from clufs.cli.mount import Call, parse, plan_for
from clufs.dlm.modes import COMPATIBLE, QUECVT_LEGAL, Mode
from clufs.errors import RequestError
from clufs.tree import grammar

MOUNT = Path(__file__).parent.parent / "mount"
BIN = Path(sys.executable).parent
PAGES = sorted(MOUNT.glob("*.[578]"))
LONG_OPTION = re.compile(r"--[a-z][a-z-]*")


def plain(name: str, section: str | None = None) -> str:
    """The text of a page, or of one of its sections, without roff's escapes and font names."""
    text = (MOUNT / name).read_text()
    if section:
        text = text.replace("\\-", "-")
        text = re.split(rf"^\.S[HS] \"?{re.escape(section)}.*\n", text, flags=re.M)[1]
        text = re.split(r"^\.S[HS] ", text, flags=re.M)[0]
    return re.sub(r"\\f[A-Z]|\\&", "", text).replace("\\-", "-")


def tagged(name: str, section: str) -> set[str]:
    """The words in bold of the paragraphs' tags in a section."""
    lines = plain(name, section).splitlines()
    tags = [lines[at + 1] for at, line in enumerate(lines) if line == ".TP"]
    return {word.strip('",') for tag in tags for word in tag.split()[1:]} - {"", ","}


def usage(*command: str) -> str:
    done = subprocess.run([BIN / command[0], *command[1:]], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_all_pages_are_there() -> None:
    names = "clu_get_info.8 clufs-files.7 clufs-keygen.8 clufs-lab.8 clufs.8 clufs.toml.5 clufsd.8"
    caa = [page.name for page in PAGES if page.name.startswith("caa")]
    assert [page.name for page in PAGES] == [*caa, *names.split(), "mount.clufs.8"]
    programs = "balance profile register relocate report start stat stop unregister".split()
    assert caa == ["caa.5", *(f"caa_{program}.8" for program in programs)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_is_clean_roff(page: Path) -> None:
    done = subprocess.run(
        ["groff", "-t", "-man", "-ww", "-Tutf8", page], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_is_read_by_man(page: Path) -> None:
    done = subprocess.run(["man", "-l", page], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "NAME" in done.stdout
    assert "SEE ALSO" in done.stdout


@pytest.mark.parametrize(
    "command",
    [["clufsd"], *(["clufs", one] for one in ("run", "doctor", "import-ase", "top"))],
    ids=" ".join,
)
def test_every_option_of_a_program_is_documented_and_exists(command: list[str]) -> None:
    help_text = usage(*command, "--help")
    section = " ".join(command) if len(command) > 1 else None
    page = plain(f"{command[0]}.8", section)
    documented = {*LONG_OPTION.findall(page), *re.findall(r"(?<=[ \"])-[a-z](?=[ \"\n])", page)}
    assert documented
    listed = {*LONG_OPTION.findall(help_text), *re.findall(r"(?<=[ \[(])-[a-z]\b", help_text)}
    assert listed - {"-h", "--help"} == documented


def test_every_option_of_keygen_and_lab_is_documented_and_exists() -> None:
    assert set(LONG_OPTION.findall(plain("clufs-keygen.8"))) == {"--dir"}
    assert "--dir" in usage("clufs", "keygen", "--help")
    actions = tagged("clufs-lab.8", "COMMANDS")
    text = usage("clufs", "lab", "--help")
    assert actions == set(re.findall(r"^    ([a-z]+) ", text, re.M))
    listed = {
        o for one in actions for o in LONG_OPTION.findall(usage("clufs", "lab", one, "--help"))
    }
    assert listed - {"--help"} == set(LONG_OPTION.findall(plain("clufs-lab.8")))


def test_every_option_of_lun_is_documented_and_exists() -> None:
    listed = {
        option
        for command in ("format", "show")
        for option in LONG_OPTION.findall(usage("clufs", "lun", command, "--help"))
    }
    assert listed - {"--help"} == set(LONG_OPTION.findall(plain("clufs.8", "clufs lun")))


def test_the_options_of_clu_get_info_are_documented_and_exist() -> None:
    listed = set(re.findall(r"^  (-\w+)", usage("clu_get_info", "-h"), re.M))
    assert tagged("clu_get_info.8", "OPTIONS") - {"MEMBERID"} == listed - {"-h"}


def test_the_commands_of_clufs_are_documented() -> None:
    page = plain("clufs.8")
    assert all(f".B clufs {name}\n" in page for name in clufs.COMMANDS)
    for option in ("--help", "--version"):
        assert option in page
        assert usage("clufs", option)


def test_the_options_of_mount_exist(tmp_path: Path) -> None:
    tags = tagged("mount.clufs.8", "OPTIONS") - {"PATH", "DIR", "TYPE"}
    flags = {tag for tag in tags if tag.startswith("-")}
    assert flags == {"-s", "-f", "-n", "-v", "-t"}
    parse(["clufs", "/clu", *sorted(flags - {"-t"}), "-t", "clufs"])
    values = {"config=": "config=/c", "state=": f"state={tmp_path}", "x-*": "x-systemd.automount"}
    options = tuple(values.get(tag, tag) for tag in sorted(tags - flags))
    assert len(options) == 8
    plan_for(Call("clufs", "/clu", options))


def test_every_key_of_the_configuration_is_documented() -> None:
    for table in msgspec.structs.fields(config.Config):
        if table.name == "luns":
            continue
        keys = {field.name for field in msgspec.structs.fields(table.type)}
        if table.name == "fencing":
            keys |= {"kind", *config.CommandAgent.__struct_fields__}
        assert tagged("clufs.toml.5", f"TABLE [{table.name}]") == keys
    assert tagged("clufs.toml.5", "TABLES [[luns]]") == set(config.Lun.__struct_fields__)


def test_every_word_is_documented() -> None:
    documented = {word for word in tagged("clufs-files.7", "Words") if word.islower()}
    for word in documented:
        value = {"value=": "", "valuehex=": "00", "timeout=": "1", "hint=": "7", "group=": "g"}
        line = f"EX {word}{value.get(word, 'USR1' if word.endswith('=') else '')}"
        grammar.parse(line.encode())
    known = {*grammar._Builder._plain_words, *grammar._Builder._with_argument, "value"} - {"all"}
    assert {word.rstrip("=") for word in documented} == known


def test_every_errno_is_documented() -> None:
    kinds = {kind for kind in vars(errors).values() if isinstance(kind, type)}
    raised = {kind.errno for kind in kinds if issubclass(kind, RequestError)}
    # Of RequestError itself, of making what is there already, and of any file system's names.
    raised -= {errno.EIO, errno.EEXIST, errno.ENAMETOOLONG}
    raised -= {errno.ENOTDIR, errno.EISDIR, errno.EMLINK}
    assert raised == {getattr(errno, name) for name in tagged("clufs-files.7", "ERRORS")}


def test_the_table_of_modes_is_true() -> None:
    rows = re.findall(r"^([A-Z]{2})\|[^|]*\|([^\n]*)$", plain("clufs-files.7", "Asking"), re.M)
    shown = {name: cells.split("|") for name, cells in rows}
    for asked in Mode:
        expected = ["yes" if COMPATIBLE[asked][granted] else "-" for granted in Mode]
        assert shown[asked.name] == expected


def test_the_sentence_on_quecvt_is_true() -> None:
    said = {"NL": "CR CW PR PW EX", "CR": "CW PR PW EX", "CW": "PW EX", "PR": "PW EX"}
    text = " ".join(plain("clufs-files.7", "Words").split())
    assert (
        "Legal from NL to any other mode, from CR to CW, PR, PW and EX,"
        " from CW and PR to PW and EX." in text
    )
    for held in Mode:
        legal = [to.name for to in Mode if QUECVT_LEGAL[held][to]]
        assert legal == said.get(held.name, "").split()


def test_it_opens_with_who_owns_a_lock() -> None:
    description = plain("clufs-files.7", "First: who owns a lock")
    assert description.startswith(".B A writer that is gone at once holds nothing afterwards.")


def test_the_unit_is_what_the_daemon_needs() -> None:
    unit = configparser.ConfigParser(interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(MOUNT / "clufsd.service")
    service = unit["Service"]
    assert service["Type"] == "notify"
    assert float(service["WatchdogSec"]) > 0
    assert service["OOMScoreAdjust"] == "-1000"
    assert service["StateDirectory"] == service["RuntimeDirectory"] == "clufs"
    assert f"/{service['StateDirectory']}" in config.STATE_DIR
    assert service["ExecStart"].endswith(f" /clu --config {config.CONFIG_FILE}")
    assert float(service["TimeoutStopSec"]) > config.Daemon().stop_s
    assert "corosync.service" in unit["Unit"]["After"]


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("clufs ", {*clufs.COMMANDS, "--help", "--version"}),
        ("clufs ru", {"run"}),
        ("clufs run -", {"-m", "-n", "-t", "--"}),
        ("clufs run -m ", {mode.name for mode in Mode}),
        ("clufs run -m P", {"PR", "PW"}),
        ("clufs run f -- tru", {"true"}),
        ("clufs doctor -", {"--config"}),
        ("clufs keygen -", {"--dir"}),
        ("clufs import-ase --", {"--dir", "--force"}),
        ("clufs drain -", {"--off", "-n", "-q", "--help"}),
        ("clufs what-if ", {"lost"}),
        ("clufs top -", {"-b", "-d", "-n"}),
        ("clufs lun ", {"format", "show"}),
        ("clufs lun format --m", {"--members"}),
        ("clufs lab re", {"resume", "restart"}),
        ("clufs lab up --m", {"--members"}),
        ("clufs lab up --quorum", {"--quorum-disk"}),
        ("clufs lab up --fence-by ", {"keeper", "luns"}),
        ("clufs lab tour -", {"--fast", "--dir"}),
        ("clufs lab kill m --what ", {"clufsd", "corosync", "member"}),
        ("clufs lab exec m -- tru", {"true"}),
        ("clufsd -", {"--state", "--config", "--version", "--help"}),
        ("clufsd --config mount/clufsd.s", {"mount/clufsd.service"}),
        ("clufsd mou", {"mount"}),
    ],
)
def test_completion_offers(line: str, offered: set[str]) -> None:
    replies = offers(line)
    assert replies >= offered if "--" in line.split() else replies == offered


def test_completion_knows_the_members_of_a_lab(tmp_path: Path) -> None:
    for name in ("provolone", "polishham", "m4"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "clufs.toml").touch()
    assert offers(f"clufs lab kill --dir {tmp_path} p") == {"provolone", "polishham"}
    assert offers(f"clufs lab up --dir {tmp_path} ") == set()


def test_completion_knows_the_members(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("provolone", "polishham"):
        (tmp_path / "members" / name).mkdir(parents=True)
    monkeypatch.setenv("CLU_ROOT", str(tmp_path))
    assert offers("clufs drain p") == {"provolone", "polishham"}
    assert offers("clufs what-if lost po") == {"polishham"}


def test_the_options_of_drain_are_documented_and_exist() -> None:
    listed = set(re.findall(r"^  (-{1,2}\w+)", usage("clufs", "drain", "--help"), re.M)) - {"-h"}
    assert tagged("clufs.8", "clufs drain") == listed
    assert "clufs what-if lost MEMBER" in usage("clufs", "what-if", "--help")


def offers(line: str) -> set[str]:
    words = line.split(" ")
    script = f"""
        . mount/clufs.bash
        compopt() {{ :; }}
        COMP_WORDS=({" ".join(word or "''" for word in words)}) COMP_CWORD={len(words) - 1}
        _{words[0]}
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, cwd=MOUNT.parent)
    assert done.stderr == ""
    return set(done.stdout.split())
