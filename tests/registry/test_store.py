"""What outlives the daemon: the log, numbers that never repeat; and what became of the disk meanwhile."""

from __future__ import annotations

import contextlib
import errno
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from clufs.errors import StateError
from clufs.registry.commands import CommandId, Entry, PutNamespace
from clufs.registry.log import Snapshot, Stored, Write
from clufs.registry.state import State
from clufs.registry.store import RegistryStore
from tests.registry.cluster import Cluster


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A state directory on a file system of its own."""
    directory = tmp_path / "small"
    directory.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=600k", "none", directory], check=True)
    yield directory
    subprocess.run(["umount", "-l", directory], check=True)


def test_a_state_directory_has_one_user(tmp_path: Path) -> None:
    store = RegistryStore(tmp_path)
    with pytest.raises(StateError, match="is used by another clufsd"):
        RegistryStore(tmp_path)
    store.close()
    RegistryStore(tmp_path).close()


def test_a_damaged_registry_is_named_and_left_as_it_is(tmp_path: Path) -> None:
    damaged = tmp_path / "registry.sqlite"
    damaged.write_bytes(b"this is not a database, and not empty either" * 100)
    before = damaged.read_bytes()
    with pytest.raises(StateError, match="not a database"):
        RegistryStore(tmp_path)
    assert damaged.read_bytes() == before


def test_a_state_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StateError, match=r"file/state: Not a directory"):
        RegistryStore(tmp_path / "file" / "state")


def entry(at: int, view: int = 1, name: bytes = b"db") -> Entry:
    return Entry(at, view, CommandId(1, 1, at), PutNamespace(name, 1, 1, 0o700, new=True))


def state(count: int) -> bytes:
    """A snapshot of so many namespaces."""
    made = State()
    for at in range(count):
        made.apply(PutNamespace(b"namespace %d" % at, 1, 1, 0o700, new=True))
    return made.snapshot()


def filled(directory: Path, count: int = 50) -> Stored:
    """A state directory with a log, a snapshot in its middle and a base; what is on its disk."""
    store = RegistryStore(directory)
    entries = tuple(entry(at, name=b"x" * 200) for at in range(1, count + 1))
    store.write(Write(1, 1, 0, 0, entries, 0))
    snapshot = Snapshot(count // 2, state(100))
    store.write(Write(2, 2, 5, count, (entry(count + 1, 2),), count, snapshot, b"origin"))
    stored = store.stored
    store.close()
    return stored


def test_what_was_written_is_read_again(tmp_path: Path) -> None:
    stored = filled(tmp_path)
    store = RegistryStore(tmp_path)
    assert store.stored == stored
    assert (stored.adopted, stored.base, stored.last, stored.committed) == (2, 5, 51, 50)
    assert (stored.origin, len(stored.token)) == (b"origin", 16)
    store.close()


@pytest.mark.parametrize("seed", range(12))
def test_the_store_does_what_the_replica_believes(tmp_path: Path, seed: int) -> None:
    """Logs cut, replaced by snapshots and made shorter in any way come back as `Stored.after` says."""
    random = Random(seed)
    store = RegistryStore(tmp_path)
    expected = store.stored
    for ticket in range(25):
        keep = random.randint(expected.base, expected.last)
        base, snapshot = expected.base, None
        if random.random() < 0.3:
            base = keep = random.randint(expected.base, expected.last + 5)
            snapshot = Snapshot(base, state(ticket))
        elif random.random() < 0.3:
            base = random.randint(expected.base, keep)
            snapshot = Snapshot(keep, state(ticket))
        last = max(base, keep)
        new = tuple(entry(last + at, ticket) for at in range(1, random.randint(1, 4)))
        write = Write(ticket, ticket, base, keep, new, last, snapshot, b"%d" % ticket)
        store.write(write)
        expected = expected.after(write)
        if random.random() < 0.3:
            store.close()
            store = RegistryStore(tmp_path)
        assert store.stored == expected
    store.close()
    store = RegistryStore(tmp_path)
    assert store.stored == expected
    store.close()


def test_torn_bytes_anywhere_are_found_or_do_not_matter(tmp_path: Path) -> None:
    stored = filled(tmp_path)
    path = tmp_path / "registry.sqlite"
    good = path.read_bytes()
    found = 0
    for at in range(0, len(good), 61):
        path.write_bytes(
            good[:at] + bytes(byte ^ 0xFF for byte in good[at : at + 8]) + good[at + 8 :]
        )
        try:
            store = RegistryStore(tmp_path)
        except StateError:
            found += 1
        else:
            assert store.stored == stored, f"other content after a tear at {at}"
            store.close()
    assert found > len(good) / 61 / 3


def test_a_page_of_another_time_is_found(tmp_path: Path) -> None:
    """Each page alone put back as it was one write before: a write that the disk lost."""
    filled(tmp_path)
    path = tmp_path / "registry.sqlite"
    before = path.read_bytes()
    store = RegistryStore(tmp_path)
    changed = entry(51, 3, b"changed")
    store.write(Write(3, 3, 5, 50, (changed, entry(52, 3)), 51, origin=b"origin"))
    stored = store.stored
    store.close()
    now = path.read_bytes()
    page = int.from_bytes(now[16:18], "big")
    found = 0
    for at in range(0, len(now), page):
        old = before[at : at + page] or bytes(page)
        if old == now[at : at + page]:
            continue
        path.write_bytes(now[:at] + old + now[at + page :])
        try:
            store = RegistryStore(tmp_path)
        except StateError:
            found += 1
        else:
            assert store.stored == stored, f"other content with page {at // page} of before"
            store.close()
    assert found


def test_a_truncated_file_is_found(tmp_path: Path) -> None:
    filled(tmp_path)
    path = tmp_path / "registry.sqlite"
    good = path.read_bytes()
    for size in range(0, len(good), 2048):
        path.write_bytes(good[:size])
        with pytest.raises(StateError, match=f"^state directory {tmp_path}: "):
            RegistryStore(tmp_path)


def test_a_lost_file_is_not_a_new_member(tmp_path: Path) -> None:
    filled(tmp_path)
    (tmp_path / "registry.sqlite").unlink()
    with pytest.raises(StateError, match=r"registry\.sqlite is lost, or older than it was"):
        RegistryStore(tmp_path)


def test_a_copy_of_before_is_found(tmp_path: Path) -> None:
    filled(tmp_path)
    path = tmp_path / "registry.sqlite"
    before = path.read_bytes()
    store = RegistryStore(tmp_path)
    store.keep_view(99)
    store.close()
    path.write_bytes(before)
    with pytest.raises(StateError, match="older than it was: generation 3 of 4"):
        RegistryStore(tmp_path)


def test_a_full_disk_refuses_no_number(small_disk: Path) -> None:
    """A member goes into the next view, and comes back, whatever has filled its disk."""
    stored = filled(small_disk)
    store = RegistryStore(small_disk)
    with open(small_disk / "fill", "wb", buffering=0) as fill, pytest.raises(OSError):
        while True:
            fill.write(bytes(4096))
    with pytest.raises(StateError) as refusal:
        store.write(Write(3, 3, 5, 50, (entry(51, 3, bytes(100_000)),), 51, origin=b"origin"))
    assert refusal.value.errno == errno.ENOSPC
    for number in (100, 101):
        store.keep_view(number)
        incarnation = store.next_incarnation()
    store.close()
    again = RegistryStore(small_disk)
    assert (again.view, again.incarnation, again.stored) == (101, incarnation, stored)
    again.close()


def test_a_stamp_that_is_behind_or_torn_is_no_fault(tmp_path: Path) -> None:
    stored = filled(tmp_path)
    stamp = tmp_path / "registry.stamp"
    good = stamp.read_bytes()
    for changed in (b"", good[:512], bytes(512) + good[512:], good[:512] + b"torn" + good[516:]):
        stamp.write_bytes(changed)
        store = RegistryStore(tmp_path)
        assert store.stored == stored
        store.close()


def test_a_full_disk_is_told_and_nothing_is_changed(tmp_path: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "none", tmp_path], check=True)
    try:
        stored = filled(tmp_path, 10)
        store = RegistryStore(tmp_path)
        with (tmp_path / "filler").open("wb", 0) as filler, contextlib.suppress(OSError):
            while filler.write(bytes(4096)):
                pass
        large = tuple(entry(at, 2, b"x" * 250) for at in range(12, 400))
        write = Write(3, 2, 5, 11, large, 10, origin=b"origin")
        with pytest.raises(StateError, match="full") as caught:
            store.write(write)
        assert caught.value.errno == errno.ENOSPC
        assert store.stored == stored
        (tmp_path / "filler").unlink()
        store.write(write)
        store.close()
        store = RegistryStore(tmp_path)
        assert store.stored == stored.after(write)
        store.close()
    finally:
        subprocess.run(["umount", tmp_path], check=True)


WRITER = """
import sys
from pathlib import Path
from clufs.registry.store import RegistryStore
from clufs.registry.log import Write
from tests.registry.test_store import entry
store = RegistryStore(Path(sys.argv[1]))
while True:
    last = store.stored.last
    store.write(Write(last, 1, 0, last, (entry(last + 1),), last))
    print(last + 1, flush=True)
"""


def test_kill_9_at_any_moment_keeps_every_write_that_returned(tmp_path: Path) -> None:
    random = Random(0)
    before = 0
    for _ in range(6):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, tmp_path], stdout=subprocess.PIPE, text=True
        ) as writer:
            assert writer.stdout is not None
            assert int(writer.stdout.readline()) == before + 1
            time.sleep(random.random() / 20)
            writer.kill()
            told = [before + 1, *(int(line) for line in writer.stdout)][-1]
        store = RegistryStore(tmp_path)
        before = store.stored.last
        store.close()
        assert told <= before <= told + 1


def test_a_member_of_before_keeps_its_namespaces_and_views(tmp_path: Path) -> None:
    with contextlib.closing(sqlite3.connect(tmp_path / "registry.sqlite")) as old:
        old.executescript(
            "CREATE TABLE meta (key TEXT PRIMARY KEY, number INTEGER NOT NULL) STRICT;"
            "CREATE TABLE namespaces (name BLOB PRIMARY KEY, uid INTEGER NOT NULL,"
            " gid INTEGER NOT NULL, mode INTEGER NOT NULL) STRICT;"
            "INSERT INTO meta VALUES ('view', 7);"
            "INSERT INTO namespaces VALUES (x'6462', 1001, 100, 504), (x'ff', 0, 0, 448);"
        )
    store = RegistryStore(tmp_path)
    spaces = [(b"db", 1001, 100, 0o770), (b"\xff", 0, 0, 0o700)]
    assert store.view == 7
    cluster = Cluster((1,))
    cluster.disks[1] = store.stored
    store.close()
    cluster.start(1)
    cluster.part([1])
    cluster.settle()
    assert sorted(cluster.up[1].replica.state.namespaces.items()) == [
        (name, (uid, gid, mode)) for name, uid, gid, mode in spaces
    ]


def test_a_file_of_a_later_clufs_is_left_alone(tmp_path: Path) -> None:
    filled(tmp_path)
    with contextlib.closing(sqlite3.connect(tmp_path / "registry.sqlite")) as later:
        later.execute("PRAGMA user_version = 3")
    with pytest.raises(StateError, match="version 3, a later clufs's"):
        RegistryStore(tmp_path)


def test_numbers_never_come_again(tmp_path: Path) -> None:
    store = RegistryStore(tmp_path)
    store.keep_view(12)
    store.keep_view(5)
    assert store.view == 12
    lives = [store.next_incarnation(), store.next_incarnation(1000), store.next_incarnation(900)]
    store.close()
    again = RegistryStore(tmp_path)
    assert [*lives, again.next_incarnation()] == [1, 1000, 1001, 1002]
    assert again.view == 12
    again.close()
