"""Lock files of blocks that another member masters, through the kernel."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from clufs.dlm.interface import Suspended
from clufs.errors import NoQuorum
from clufs.timeouts import QUERY_S
from clufs.tree.reserved import reserve
from tests.fuse.member import HERE, THERE, THIRD, Mounted, member_mounted
from tests.fuse.mounted import Client, until

READ = "print(open(sys.argv[1]).read(), end='')"
ECHO = "os.close(os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666))"


@pytest.fixture
async def clu(tmp_path: Path) -> AsyncIterator[Mounted]:
    async with member_mounted(tmp_path) as member:
        yield member


@pytest.fixture
def name(clu: Mounted) -> bytes:
    """Its directory is a third member; another has EX on it and has stored a value."""
    name = clu.name()
    clu.holds(THERE, "EX", name)
    clu.holds(THERE, "EX value=ripe-cheese", name)
    return name


async def test_the_value_is_read_where_no_lock_is(clu: Mounted, name: bytes) -> None:
    assert await clu.runs(READ, clu.path(name)) == "ripe-cheese\n"
    clu.holds(THERE, "EX value=", name)
    assert await clu.runs(READ, clu.path(name)) == ""


async def test_a_name_that_nobody_holds_is_not_there(clu: Mounted, name: bytes) -> None:
    assert await clu.runs(READ, clu.public / "nobody") == "ENOENT\n"
    clu.says(THERE, "anna", "UN", name)
    assert await clu.runs(READ, clu.path(name)) == "ENOENT\n"


async def test_stat_shows_what_the_master_knows(clu: Mounted, name: bytes) -> None:
    code = "s = os.stat(sys.argv[1])\nprint(oct(s.st_mode), s.st_size, s.st_nlink, s.st_mtime_ns)"
    block = clu.nodes[THERE].blocks[name]
    assert block.value_at is not None
    written_ns = clu.trees[THERE].wall_ns(block.value_at)
    assert await clu.runs(code, clu.path(name)) == f"0o100666 12 1 {written_ns}\n"
    clu.dies(THERE, "anna")
    clu.holds(THERE, "NL", name)
    clu.holds(THERE, "EX", name, "bert")
    clu.dies(THERE, "bert")
    assert not clu.nodes[THERE].blocks[name].valid
    assert (await clu.runs(code, clu.path(name))).startswith("0o101666 0 1 ")


async def test_one_open_is_one_snapshot(clu: Mounted, name: bytes) -> None:
    code = """f = os.open(sys.argv[1], os.O_RDONLY)
print(os.read(f, 4).decode(), end="", flush=True)
while not os.path.exists(sys.argv[2]): time.sleep(0.01)
print(os.read(f, 50).decode(), end="")
os.lseek(f, 0, 0)
print(os.read(f, 50).decode(), end="")"""
    flag = clu.root.parent / "flag"
    async with trio.open_nursery() as nursery:

        async def change() -> None:
            await until(lambda: any(h.snapshot for h in clu.operations.handles.values()))
            clu.holds(THERE, "EX value=another", name)
            flag.touch()

        nursery.start_soon(change)
        assert await clu.runs(code, clu.path(name), flag) == "ripe-cheese\nanother\n"


async def test_attributes_are_the_masters(clu: Mounted, name: bytes) -> None:
    clu.says(THIRD, "carl", "PR", name)
    clu.settle()
    code = """for key in sorted(os.listxattr(sys.argv[1])):
    print(key[9:] + '=' + os.getxattr(sys.argv[1], key).decode())"""
    valseq = clu.nodes[THERE].blocks[name].valseq
    assert await clu.runs(code, clu.path(name)) == (
        f"converting=0\ngranted=1\ngrantmode=EX\nmaster={THERE}\nquorum=1\nvalid=1\n"
        f"valseq={valseq}\nvalue=ripe-cheese\nwaiting=1\n"
    )


async def test_the_report_is_the_masters(clu: Mounted, name: bytes) -> None:
    clu.says(THIRD, "carl", "PR", name)
    clu.settle()
    clu.says(HERE, "bert", "PW", name)
    clu.settle()
    printed = await clu.runs(READ, clu.root / "status" / "locks" / os.fsdecode(name))
    lines = printed.splitlines()
    assert lines[2:5] == [f"MASTER={THERE}", "GRANTMODE=EX", "VALUE=ripe-cheese"]
    assert [line.split()[:5] for line in lines[7:]] == [
        ["GRANTED", "EX", "-", THERE, "0"],
        ["WAITING", "-", "PR", THIRD, "0"],
        ["WAITING", "-", "PW", HERE, "0"],
    ]
    assert lines[8].endswith(f"waits for EX held by 0 (-) on {THERE}")
    size = "print(os.stat(sys.argv[1]).st_size)"
    path = clu.root / "status" / "locks" / os.fsdecode(name)
    assert await clu.runs(size, path) == f"{len(printed)}\n"


async def test_names_of_all_members_are_listed_and_forgotten_again(
    clu: Mounted, name: bytes
) -> None:
    clu.holds(THIRD, "EX", b"public/third")
    clu.sub_holds(THIRD, b"public/third", b"row")
    clu.holds(HERE, "EX", clu.name(HERE))
    for path in (clu.public, clu.root / "status" / "locks" / "public"):
        code = "print(*sorted(os.listdir(sys.argv[1])))"
        expected = sorted([b"third", b"third.sub", name[7:], clu.name(HERE)[7:]])
        assert await clu.runs(code, path) == b" ".join(expected).decode() + "\n"
        code = "print(*os.listdir(sys.argv[1] + '/third.sub'))"
        assert await clu.runs(code, path) == "row\n"
    inodes = "print(all(e.inode() == e.stat().st_ino for e in os.scandir(sys.argv[1])))"
    assert await clu.runs(inodes, clu.public) == "True\n"
    Path("/proc/sys/vm/drop_caches").write_text("2")
    directory = clu.tree.directories[b"public"]
    await until(lambda: directory.files.keys() <= {clu.name(HERE)[7:]} and not directory.subs)


async def test_a_walk_finds_everything(clu: Mounted, name: bytes) -> None:
    printed = await clu.shell("find . -type f | xargs grep -rH cheese; ls -l | tail -1; du -s .")
    lines = printed.splitlines()
    assert lines[0] == f"./{name[7:].decode()}:ripe-cheese"
    assert lines[1].startswith("-rw-rw-rw- 1 root root 12 ")
    assert len(lines) == 3


async def test_a_lock_here_answers_for_its_block(clu: Mounted, name: bytes) -> None:
    """Whoever has CW or more keeps all others from writing the value."""
    clu.holds(THERE, "NL", name)
    clu.holds(HERE, "PR", name, "bert")
    messages = clu.messages
    assert await clu.runs(READ, clu.path(name)) == "ripe-cheese\n"
    assert await clu.runs(ECHO, clu.path(name)) == ""
    assert clu.messages == messages
    clu.holds(HERE, "CR", name, "bert")
    clu.holds(THERE, "PW", name)
    clu.holds(THERE, "PW value=new", name)
    assert await clu.runs(READ, clu.path(name)) == "new\n"


async def test_what_opening_costs(clu: Mounted, name: bytes) -> None:
    """To open for writing takes the question whether the name exists; stat(2) no other one."""
    assert await clu.runs(ECHO, clu.path(name)) == ""
    messages = clu.messages
    assert await clu.runs(ECHO, clu.path(name)) == ""
    assert clu.messages - messages == 2
    assert await clu.runs("os.stat(sys.argv[1])", clu.path(name)) == ""
    assert clu.messages - messages == 4
    code = "print(os.read(os.open(sys.argv[1], os.O_RDONLY), 99))"
    assert await clu.runs(code, clu.path(name)) == "b'ripe-cheese\\n'\n"
    assert clu.messages - messages == 8


async def test_a_new_name_is_asked_for_only_to_look_it_up(clu: Mounted) -> None:
    assert await clu.runs(ECHO, clu.path(clu.name())) == ""
    assert clu.messages == 2


async def test_exclusive_creation_minds_other_members(clu: Mounted, name: bytes) -> None:
    code = "os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)"
    assert await clu.runs(code, clu.path(name)) == "EEXIST\n"
    assert await clu.runs(code, clu.public / "new") == ""


async def test_rm_of_what_others_hold_is_refused(clu: Mounted, name: bytes) -> None:
    assert await clu.runs("os.unlink(sys.argv[1])", clu.path(name)) == "EPERM\n"
    assert await clu.runs("os.unlink(sys.argv[1])", clu.public / "nobody") == "ENOENT\n"


async def test_a_sequencer_of_another_member_is_checked_by_the_master(
    clu: Mounted, name: bytes
) -> None:
    number = clu.lock(THERE, "anna", name).number
    code = "os.write(os.open(sys.argv[1], os.O_WRONLY), sys.argv[2].encode()); print('held')"
    file = clu.root / "status" / "sequencer"
    assert await clu.runs(code, file, f"{name.decode()} EX {number}") == "held\n"
    assert await clu.runs(code, file, f"{name.decode()} PW {number}") == "ESTALE\n"
    clu.holds(THERE, "NL", name)
    assert await clu.runs(code, file, f"{name.decode()} EX {number}") == "ESTALE\n"
    clu.silent = {THERE}
    assert await clu.runs(code, file, f"{name.decode()} EX {number}") == "EHOSTDOWN\n"


async def test_a_silent_master_costs_a_second_and_holds_nobody_else_up(
    clu: Mounted, name: bytes
) -> None:
    clu.holds(HERE, "EX", clu.name(HERE))
    clu.silent = {THERE}
    answers: list[str] = []
    began = time.monotonic()

    async def read() -> None:
        answers.append(await clu.runs(READ, clu.path(name)))

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(read)
        await until(lambda: len(clu.queries[HERE]._open) == 20)
        asked = time.monotonic()
        assert await clu.runs(READ, clu.path(clu.name(HERE))) == ""
        assert await clu.runs("os.listdir(sys.argv[1])", clu.root) == ""
        assert not answers or time.monotonic() - asked < QUERY_S / 2
    assert answers == ["EHOSTDOWN\n"] * 20
    assert time.monotonic() - began < 5 * QUERY_S
    why = (clu.journals.refusals.show(0)).decode().splitlines()
    assert f"EHOSTDOWN {THERE} does not answer" in why[-1]


async def test_a_name_that_nobody_can_tell_of_may_be_asked_for(clu: Mounted, name: bytes) -> None:
    clu.silent = {THERE, THIRD}
    assert await clu.runs(ECHO, clu.path(name)) == ""
    assert await clu.runs(READ, clu.path(name)) == "EHOSTDOWN\n"
    assert await clu.runs("os.getxattr(sys.argv[1], 'user.clu.valid')", clu.path(name)) == (
        "EHOSTDOWN\n"
    )
    assert await clu.runs("os.listdir(sys.argv[1])", clu.public) == "EHOSTDOWN\n"
    report = clu.root / "status" / "locks" / os.fsdecode(name)
    assert await clu.runs(READ, report) == "EHOSTDOWN\n"


async def test_a_listing_is_whole_or_refused(clu: Mounted, name: bytes) -> None:
    clu.silent = {THIRD}
    began = time.monotonic()
    assert await clu.runs("os.listdir(sys.argv[1])", clu.public) == "EHOSTDOWN\n"
    assert time.monotonic() - began < 3 * QUERY_S
    clu.late()
    assert (
        await clu.runs("print(os.listdir(sys.argv[1]))", clu.public) == f"['{name[7:].decode()}']\n"
    )


async def test_without_quorum_copies_answer_and_say_so(clu: Mounted, name: bytes) -> None:
    clu.holds(THERE, "NL", name)
    clu.holds(HERE, "CR", name, "bert")
    own = clu.name(HERE)
    clu.says(HERE, "bert", "EX", own)
    other = clu.path(clu.name(THERE))
    clu.nodes[HERE].step(0.0, Suspended())
    quorum = "print(os.getxattr(sys.argv[1], 'user.clu.quorum').decode())"
    assert await clu.runs(READ, clu.path(name)) == "ripe-cheese\n"
    assert await clu.runs(quorum, clu.path(name)) == "0\n"
    assert await clu.runs(READ, other) == "EHOSTDOWN\n"
    assert await clu.runs(quorum, clu.path(own)) == "0\n"
    file = clu.root / "status" / "sequencer"
    code = "os.write(os.open(sys.argv[1], os.O_WRONLY), sys.argv[2].encode()); print('held')"
    number = clu.lock(HERE, "bert", own).number
    assert await clu.runs(code, file, f"{own.decode()} EX {number}") == "EHOSTDOWN\n"


async def test_namespaces_of_other_members_come_and_go(clu: Mounted) -> None:
    root = clu.tree.root
    root.namespace_put(b"db", 1000, 1000, 0o770)
    code = "s = os.stat(sys.argv[1])\nprint(oct(s.st_mode), s.st_uid, s.st_gid)"
    path = clu.root / "locks" / "db"
    assert await clu.runs(code, path) == "0o40770 1000 1000\n"
    root.namespace_put(b"db", 1000, 1001, 0o700)
    assert await clu.runs(code, path) == "0o40700 1000 1001\n"
    assert clu.events == [("namespace-made", b"db")]
    root.namespace_dropped(b"db")
    assert await clu.runs(code, path) == "ENOENT\n"
    assert clu.events[1:] == [("namespace-removed", b"db")]


async def test_a_dropped_namespace_stays_while_a_lock_in_it_is_held_here(clu: Mounted) -> None:
    clu.tree.root.namespace_put(b"db", 0, 0, 0o777)
    names = (b"db/f%d" % i for i in range(1000))
    name = next(name for name in names if clu.directory(name) == HERE)
    code = """f = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
os.write(f, b'EX')
print('held', flush=True)
while not os.path.exists(sys.argv[2]): time.sleep(0.01)
print(os.path.exists(sys.argv[1]))
os.close(f)"""
    flag = clu.root.parent / "flag"

    async def drop() -> None:
        await until(lambda: name in clu.nodes[HERE].blocks)
        clu.tree.root.namespace_dropped(b"db")
        flag.touch()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(drop)
        assert await clu.runs(code, clu.path(name), flag) == "held\nTrue\n"
    assert await clu.runs("print(os.path.exists(sys.argv[1]))", clu.path(b"db")) == "False\n"


async def test_rmdir_of_a_namespace_that_another_member_uses_is_refused(clu: Mounted) -> None:
    path = clu.root / "locks" / "db"
    assert await clu.runs("os.mkdir(sys.argv[1])", path) == ""
    clu.trees[THERE].root.namespace_put(b"db", 0, 0, 0o700)
    clu.holds(THERE, "EX", b"db/x")
    assert await clu.runs("os.rmdir(sys.argv[1])", path) == "ENOTEMPTY\n"
    clu.silent = {THIRD}
    clu.says(THERE, "anna", "UN", b"db/x")
    assert await clu.runs("os.rmdir(sys.argv[1])", path) == "EHOSTDOWN\n"
    clu.late()
    assert await clu.runs("os.rmdir(sys.argv[1])", path) == ""
    assert b"db" not in clu.store.kept


async def test_what_others_do_to_a_namespace_meanwhile_is_not_undone(
    clu: Mounted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The caller hears of a change when the next ones have been made already."""
    path = clu.root / "locks" / "db"

    async def dropped() -> None:
        clu.tree.root.namespace_dropped(b"db")

    async def made() -> None:
        clu.tree.root.namespace_put(b"db", 0, 0, 0o777)

    monkeypatch.setattr(clu.store, "answered", dropped)
    assert await clu.runs("os.mkdir(sys.argv[1])", path) == "ENOENT\n"
    assert await clu.runs("print(os.path.exists(sys.argv[1]))", path) == "False\n"
    clu.tree.root.namespace_put(b"db", 0, 0, 0o700)
    assert await clu.runs("os.chmod(sys.argv[1], 0o770)", path) == ""
    assert await clu.runs("print(os.path.exists(sys.argv[1]))", path) == "False\n"
    clu.tree.root.namespace_put(b"db", 0, 0, 0o700)
    monkeypatch.setattr(clu.store, "answered", made)
    assert await clu.runs("os.rmdir(sys.argv[1])", path) == ""
    assert await clu.runs("print(os.path.exists(sys.argv[1]))", path) == "True\n"


async def test_a_namespace_is_there_when_the_store_says_so(
    clu: Mounted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slow store holds up nobody; one without quorum refuses."""
    path = clu.root / "locks" / "db"
    kept = trio.Event()
    monkeypatch.setattr(clu.store, "wait", kept.wait)
    done: list[str] = []

    async def make() -> None:
        done.append(await clu.runs("os.mkdir(sys.argv[1])", path))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(make)
        await trio.sleep(0.3)
        assert await clu.runs("os.listdir(sys.argv[1])", clu.root) == ""
        assert not done
        assert b"db" not in clu.tree.directories
        kept.set()
    assert done == [""]
    assert b"db" in clu.tree.directories

    async def refuse() -> None:
        raise NoQuorum("no majority")

    monkeypatch.setattr(clu.store, "wait", refuse)
    assert await clu.runs("os.mkdir(sys.argv[1])", clu.root / "locks" / "b2") == "EHOSTDOWN\n"
    assert await clu.runs("os.rmdir(sys.argv[1])", path) == "EHOSTDOWN\n"
    assert await clu.runs("os.chmod(sys.argv[1], 0o777)", path) == "EHOSTDOWN\n"
    assert await clu.runs("print(oct(os.stat(sys.argv[1]).st_mode))", path) == "0o40700\n"


BY_PATH = """
def say(line):
    fd = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    os.write(fd, line)
    os.close(fd)
for _ in range(int(sys.argv[2])):
    say(b"EX")
    say(b"UN")"""

BY_DESCRIPTOR = """
fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT, 0o666)
for _ in range(int(sys.argv[2])):
    os.write(fd, b"EX")
    os.write(fd, b"NL")"""


@pytest.mark.parametrize(
    ("code", "questions", "requests"), [(BY_PATH, 2, 4), (BY_DESCRIPTOR, 0, 4)]
)
async def test_what_a_lock_and_its_release_cost(
    clu: Mounted, name: bytes, code: str, questions: int, requests: int
) -> None:
    """By path the question whether the name exists comes on top: 2 messages; nothing else asks.

    So few that the lock's master does not move here.
    """
    clu.holds(THERE, "NL", name)
    counts = []
    for cycles in (1, 6, 16):
        messages, sent = clu.messages, clu.sent
        assert await clu.runs(code, clu.path(name), cycles) == ""
        await until(lambda: not clu.nodes[HERE].copies and not clu.nodes[HERE].open_requests())
        counts.append((clu.messages - messages, clu.sent - sent))
    (asked, sent), (asked_more, sent_more) = counts[1:]
    assert (asked_more - asked, sent_more - sent) == (10 * questions, 10 * requests)


async def test_a_write_that_waits_for_others_dies_of_a_signal(clu: Mounted, name: bytes) -> None:
    """A sequencer is asked about; a signal that the caller ignores does not end the wait."""
    asked: list[bytes] = []

    async def holds(name: bytes, mode: str, number: int) -> bool:
        asked.append(name)
        await trio.sleep_forever()
        raise AssertionError

    clu.queries[HERE].holds = holds  # type: ignore[method-assign]
    code = """signal.signal(signal.SIGUSR1, lambda number, frame: 1 / 0)
signal.signal(signal.SIGHUP, signal.SIG_IGN)
try:
    os.write(os.open(sys.argv[1], os.O_WRONLY), b"public/x EX 7")
except ZeroDivisionError:
    print("interrupted")"""
    path = clu.root / "status" / "sequencer"
    async with Client(code, path) as client, Client(code, path) as killed:
        await until(lambda: len(asked) == 2)
        client.signal(signal.SIGHUP)
        killed.signal(signal.SIGKILL)
        assert (await killed.result())[0] == -signal.SIGKILL
        assert client.process.poll() is None
        client.signal(signal.SIGUSR1)
        assert await client.result() == (0, "interrupted\n")


async def test_cp_copies_reports_of_locks_that_only_others_know(
    clu: Mounted, name: bytes, tmp_path: Path
) -> None:
    """It compares the inode that it opened with the one that it found before."""
    reserve(clu.trees[THERE])
    clu.holds(THERE, "EX", b".caa/planner")
    locks = clu.root / "status" / "locks"
    code = (
        "import time\nfor _ in range(5):\n"
        "    print(os.stat(sys.argv[1]).st_ino, os.stat(sys.argv[2]).st_ino)\n"
        "    time.sleep(0.05)"
    )
    both = await clu.runs(code, locks / ".caa" / "planner", locks / os.fsdecode(name))
    assert len(set(both.splitlines())) == 1
    code = "import subprocess\nsubprocess.run(['cp', '-a', *sys.argv[1:]], check=True)"
    for number in range(2):
        copied = tmp_path / f"copy{number}"
        assert await clu.runs(code, locks, copied) == ""
        assert "GRANTED EX" in (copied / ".caa" / "planner").read_text()
        assert "GRANTED EX" in (copied / os.fsdecode(name)).read_text()
