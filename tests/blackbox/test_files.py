"""The rules of every file of /clu (contract 1): plain text, exact sizes, errors of each user, events."""

from __future__ import annotations

import errno
import os
import re
import select
import stat
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.blackbox.clu import Clu, Shell, until
from tests.blackbox.people import ALICE, BOB, ROOT

FACTS = re.compile(r"([A-Z_]+=.*\n)+")
LINE_OF_AN_EVENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z [a-z-]+( [a-z]+=\S+)*\n")
LINE_OF_AN_ERROR = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z \d+ \S+ (E[A-Z]+|-) .+\n")


def files(root: Path) -> list[Path]:
    """Every regular file of the tree that can be read."""
    found = [path for path in root.rglob("*") if path.is_file()]
    return [path for path in found if path.stat().st_mode & 0o444]


@pytest.fixture
def busy(clu: Clu, shell: Callable[..., Shell]) -> Clu:
    """A /clu with a holder, a waiter, values, a namespace and refusals in it."""
    holder, waiter = shell(cwd=clu.public), shell(cwd=clu.public)
    holder.ask("echo EX > busy; echo 'EX value=some text' > busy; echo NONSENSE > busy")
    if not clu.queue("busy", "WAITING"):
        waiter.begin("echo PR > busy")
        clu.until_queued("busy")
    return clu


def test_every_file_is_lines_of_text_and_as_long_as_stat_says(busy: Clu) -> None:
    paths = files(busy.root)
    assert len(paths) > 10
    for path in paths:
        with path.open("rb") as file:
            size, text = os.fstat(file.fileno()).st_size, file.read()
        assert len(text) == size, path
        assert not text or text.endswith(b"\n"), path
        assert all(line.isprintable() for line in text.decode().split("\n")), path


@pytest.mark.parametrize("report", ["cluster", "quorum"])
def test_a_report_is_key_and_value(clu: Clu, report: str) -> None:
    assert FACTS.fullmatch((clu.root / "status" / report).read_text())


def test_the_report_of_a_lock_tells_all(busy: Clu) -> None:
    lines = busy.report("busy").splitlines()
    facts = dict(line.split("=", 1) for line in lines[:7])
    assert list(facts) == "NAME NAMESPACE MASTER GRANTMODE VALUE VALID VALSEQ".split()
    assert (facts["NAME"], facts["NAMESPACE"], facts["GRANTMODE"]) == ("busy", "public", "EX")
    assert (facts["VALUE"], facts["VALID"]) == ("some text", "1")
    member = os.readlink(busy.root / "members" / "self")
    assert facts["MASTER"] == member
    granted, waiting = lines[7:]
    assert re.fullmatch(rf"GRANTED EX - {member} \d+ dash \d+\.\d{{3}}", granted)
    pid = granted.split()[4]
    why = rf"waits for EX held by {pid} \(dash\) on {member}"
    assert re.fullmatch(rf"WAITING - PR {member} \d+ dash \d+\.\d{{3}} {why}", waiting)


def test_the_members(clu: Clu) -> None:
    members = clu.root / "members"
    own = members / os.readlink(members / "self")
    facts = {path.name: path.read_text() for path in own.iterdir()}
    told = {"id", "state", "votes", "address", "version", "incarnation", "fence"}
    assert set(facts) == told | {"drain", "if_lost"}
    assert facts["state"] == "member\n"
    assert facts["fence"] == ""
    assert (members / "self" / "id").read_text() == facts["id"] == "1\n"


def test_only_root_may_say_that_a_member_is_off_and_one_that_is_here_is_not(clu: Clu) -> None:
    fence = clu.root / "members" / "self" / "fence"
    assert "EACCES" in ALICE.calls("open('self/fence', 'w')", fence.parent.parent)
    for word, why in (("confirmed", "is not lost"), ("off", "itself"), ("on", "off, confirmed")):
        with pytest.raises(OSError) as refused:
            fence.write_text(f"{word}\n")
        assert refused.value.errno == errno.EINVAL
        assert why in clu.errors().splitlines()[-1]


def test_reports_are_not_written_not_even_by_root(clu: Clu) -> None:
    written = {"locks", "templates", "fence", "drain"}
    for path in files(clu.root):
        if not written & set(path.parts[len(clu.root.parts) :]):
            mode = stat.S_IMODE(path.stat().st_mode)
            assert mode == 0o444, path
            with pytest.raises(OSError) as refused:
                path.write_text("x\n")
            assert refused.value.errno == errno.EPERM, path
    errors = clu.errors()
    assert "status/cluster EPERM /status/cluster is not written to" in errors
    assert "events EPERM /events is not written to" in errors


def test_nothing_is_made_or_removed_outside_the_namespaces(clu: Clu) -> None:
    for line in (
        "touch new", "mkdir new", "touch status/new", "mkdir members/new", "rm events",
        "rm status/errors", "rmdir status", "rm members/self", "rmdir locks", "ln -s a b",
    ):  # fmt: skip
        status, printed = ROOT.runs(line, clu.root)
        assert status == 1 and "not permitted" in printed, (line, printed)


def test_the_refusals_of_others_are_not_shown_but_root_sees_all(clu: Clu) -> None:
    ALICE.runs("echo ALICES > nonsense", clu.public)
    BOB.runs("echo BOBS > nonsense", clu.public)
    sees = {who.uid: who.runs("cat errors", clu.root / "status")[1] for who in (ALICE, BOB, ROOT)}
    assert "'ALICES'" in sees[1001] and "'BOBS'" not in sees[1001]
    assert "'BOBS'" in sees[1002] and "'ALICES'" not in sees[1002]
    assert "'ALICES'" in sees[0] and "'BOBS'" in sees[0]
    for text in sees.values():
        assert all(LINE_OF_AN_ERROR.fullmatch(line) for line in text.splitlines(keepends=True))


def test_each_sees_the_size_of_the_own_refusals(clu: Clu) -> None:
    ALICE.runs("echo ALICES > nonsense", clu.public)
    for who in (ALICE, BOB, ROOT):
        sizes = who.runs("stat -c %s errors; wc -c < errors", clu.root / "status")[1].split()
        assert sizes[0] == sizes[1], who


def test_the_kernel_remembers_no_entry_and_no_attribute(
    clu: Clu, name: str, shell: Callable[..., Shell]
) -> None:
    path = clu.public / name
    holder = shell(cwd=clu.public)
    for length in range(3):
        assert not path.exists()
        holder.ask(f"echo EX > {name}")
        assert path.stat().st_size == 0
        holder.ask(f"echo 'EX value={'v' * (length + 1)}' > {name}")
        assert path.stat().st_size == length + 2
        holder.ask(f"echo UN > {name}")
    assert not path.exists()


def test_events_are_one_line_each(clu: Clu) -> None:
    text = (clu.root / "events").read_text()
    assert " start member=" in text.splitlines()[0]
    assert all(LINE_OF_AN_EVENT.fullmatch(line) for line in text.splitlines(keepends=True))


def make_event(clu: Clu, name: str) -> None:
    (clu.root / "locks" / name).mkdir()
    (clu.root / "locks" / name).rmdir()


def test_an_open_of_events_grows_and_polls(clu: Clu, name: str) -> None:
    with (clu.root / "events").open("rb", buffering=0) as events:
        poller = select.poll()
        poller.register(events, select.POLLIN)
        assert poller.poll(0)
        begin = events.read(1_000_000)
        assert os.fstat(events.fileno()).st_size == len(begin)
        assert events.read(100) == b""
        assert not poller.poll(0)
        make_event(clu, name)
        assert poller.poll(10_000)
        more = events.read(1_000_000)
        assert f" namespace-made name={name} ".encode() in more
        assert os.fstat(events.fileno()).st_size == len(begin) + len(more)
        events.seek(0)
        assert events.read(1_000_000) == begin + more


def test_poll_wakes_a_reader_that_sleeps_on_events(clu: Clu, name: str) -> None:
    code = """
import select, sys
events = open(sys.argv[1], "rb", buffering=0)
events.read(1_000_000)
poller = select.poll()
poller.register(events, select.POLLIN)
print("sleeps", flush=True)
poller.poll()
print(events.read(1_000_000).decode(), end="")
"""
    command = [sys.executable, "-S", "-c", code, str(clu.root / "events")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as reader:
        assert reader.stdout is not None
        assert reader.stdout.readline() == "sleeps\n"
        make_event(clu, name)
        assert f"name={name}" in reader.stdout.read()


@pytest.mark.parametrize("program", ["tail", "busybox tail"])
def test_tail_follows_events(clu: Clu, program: str, tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    name = program.replace(" ", "_")
    with seen.open("wb") as out:
        tail = subprocess.Popen(
            [*program.split(), "-n", "1", "-f", clu.root / "events"], stdout=out
        )
        try:
            until(lambda: seen.stat().st_size, "the last event")
            make_event(clu, name)
            until(lambda: f"namespace-removed name={name}" in seen.read_text(), "the new event")
            assert tail.poll() is None
        finally:
            tail.kill()
            tail.wait()


class CluWithFewEvents(Clu):
    program = (
        sys.executable,
        "-c",
        "import sys; from clufs.tree import journals; journals.EVENTS_KEPT = 100;"
        " from clufs.cli.clufsd import main; sys.exit(main(sys.argv[1:]))",
    )


def test_the_oldest_events_go_and_an_old_open_stays_true(tmp_path: Path) -> None:
    with ExitStack() as opened:
        clu = CluWithFewEvents(tmp_path)
        opened.callback(clu.close)
        path = clu.root / "events"
        old = opened.enter_context(path.open("rb", buffering=0))
        first = old.read(1_000_000)
        for number in range(101):
            make_event(clu, f"again{number}")
        text = path.read_bytes()
        assert text.count(b"\n") == 100
        assert path.stat().st_size == len(text)
        size = os.fstat(old.fileno()).st_size
        rest = b"".join(iter(lambda: old.read(4096), b""))
        assert len(first) + len(rest) == size
        assert rest.endswith(text[len(text) // 2 :])
