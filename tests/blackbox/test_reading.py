"""Reading a lock file: snapshots, strict, times, extended attributes, sequencers (contract 2.3)."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.blackbox.clu import SHELLS, Clu, Shell
from tests.blackbox.people import ALICE, ROOT


class Holder:
    """A descriptor of the test's own that holds EX on a lock file, to write values with."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.fd = os.open(path, os.O_RDWR | os.O_CREAT)
        self.says("EX")

    def says(self, line: str) -> None:
        os.write(self.fd, f"{line}\n".encode())

    def value(self, text: str) -> None:
        """Store a value; EX is kept."""
        self.says(f"EX value={text}")

    def close(self) -> None:
        os.close(self.fd)


@pytest.fixture
def holder(clu: Clu, name: str) -> Iterator[Holder]:
    holder = Holder(clu.public / name)
    yield holder
    holder.close()


@pytest.fixture
def fd(holder: Holder) -> Iterator[int]:
    """Another open of the same file, only to read."""
    fd = os.open(holder.path, os.O_RDONLY)
    yield fd
    os.close(fd)


def test_an_empty_value_reads_as_nothing_and_another_with_its_newline(holder: Holder) -> None:
    assert holder.path.read_bytes() == b""
    assert holder.path.stat().st_size == 0
    holder.value("two words")
    assert holder.path.read_bytes() == b"two words\n"
    assert holder.path.stat().st_size == len(b"two words\n")


def test_reading_needs_no_lock_and_waits_for_nobody(holder: Holder) -> None:
    holder.value("seen by all")
    assert ALICE.runs(f"cat {holder.path.name}", holder.path.parent) == (0, "seen by all\n")


def test_one_open_is_one_snapshot_whatever_the_size_of_the_reads(holder: Holder, fd: int) -> None:
    holder.value("the first value")
    begin = os.read(fd, 4)
    holder.value("another, longer value")
    rest = b"".join(iter(lambda: os.read(fd, 1), b""))
    assert begin + rest == b"the first value\n"
    assert os.read(fd, 100) == b""


def test_a_seek_to_the_begin_is_a_new_snapshot(holder: Holder, fd: int) -> None:
    holder.value("one")
    assert os.read(fd, 100) == b"one\n"
    holder.value("two")
    os.lseek(fd, 0, os.SEEK_SET)
    assert os.read(fd, 2) + os.read(fd, 100) == b"two\n"


def test_pread_at_an_offset_reads_there(holder: Holder, fd: int) -> None:
    holder.value("0123456789")
    assert os.pread(fd, 3, 4) == b"456"
    assert os.pread(fd, 100, 9) == b"9\n"
    assert os.pread(fd, 100, 11) == b""
    assert os.pread(fd, 100, 2**40) == b""
    assert os.lseek(fd, 0, os.SEEK_END) == 11


def test_the_first_read_after_a_write_begins_a_snapshot_wherever_the_offset_is(
    holder: Holder,
) -> None:
    holder.value("first")
    assert os.lseek(holder.fd, 0, os.SEEK_CUR) > 0
    assert os.read(holder.fd, 3) + os.read(holder.fd, 3) == b"first\n"
    assert os.read(holder.fd, 3) == b""
    holder.value("second")
    assert os.read(holder.fd, 100) == b"second\n"
    assert os.pread(holder.fd, 3, 1) == b"eco"
    os.lseek(holder.fd, 0, os.SEEK_SET)
    assert os.read(holder.fd, 100) == b"second\n"


def test_writes_that_append_or_truncate_are_the_same_requests(clu: Clu, name: str) -> None:
    for flags in (os.O_APPEND, os.O_TRUNC, os.O_SYNC, os.O_APPEND | os.O_TRUNC):
        fd = os.open(clu.public / name, os.O_RDWR | os.O_CREAT | flags)
        os.write(fd, b"EX\n")
        os.write(fd, b"EX value=appended\n")
        assert os.read(fd, 100) == b"appended\n"
        os.close(fd)


@pytest.mark.parametrize("kind", SHELLS)
def test_a_shell_reads_its_descriptor_byte_by_byte(
    clu: Clu, name: str, shell: Callable[..., Shell], kind: str
) -> None:
    one = shell(kind, cwd=clu.public)
    one.ask(f"exec 9<>{name}; echo EX >&9; echo 'EX value=three little words' >&9")
    assert one.ask('read -r a b c <&9; echo "$c $b $a"') == (0, "words little three\n")
    assert one.ask("read -r a <&9")[0] == 1
    one.ask("echo 'EX value=again' >&9")
    assert one.ask('read -r a <&9; echo "$a"; exec 9>&-') == (0, "again\n")


def test_bytes_that_are_no_text_are_read_as_they_are(holder: Holder) -> None:
    holder.says("EX valuehex=00ff0a41")
    assert holder.path.read_bytes() == b"\x00\xff\nA\n"
    assert os.getxattr(holder.path, "user.clu.value") == b"\x00\xff\nA"
    report = holder.path.parents[2] / "status" / "locks" / "public" / holder.path.name
    assert "VALUE=\\000\\377\\012A\n" in report.read_text()


def test_the_time_is_that_of_the_last_value(holder: Holder) -> None:
    before = time.time()
    holder.value("now")
    after = time.time()
    written = holder.path.stat().st_mtime
    assert before - 0.1 <= written <= after + 0.1
    time.sleep(0.02)
    holder.says("PR")
    assert holder.path.stat().st_mtime == written
    assert holder.path.stat().st_nlink == 1


def make_invalid(holder: Holder) -> None:
    holder.value("doubtful")
    holder.says("PR invalidate")


def test_an_invalid_value_shows_in_four_places_and_still_reads(
    clu: Clu, holder: Holder, shell: Callable[..., Shell]
) -> None:
    name = holder.path.name
    reader = shell(cwd=clu.public)
    assert reader.ask(f"test -k {name}")[0] == 1
    make_invalid(holder)
    assert os.getxattr(holder.path, "user.clu.valid") == b"0"
    assert reader.ask(f"test -k {name}")[0] == 0
    assert reader.ask(f"ls -l {name}")[1].startswith("-rw-rw-rwT ")
    assert "VALID=0\n" in clu.report(name)
    assert reader.ask(f"echo 'NL strict' > {name}")[0] == 0
    assert holder.path.read_text() == "doubtful\n"
    holder.says("EX")
    holder.value("certain")
    assert os.getxattr(holder.path, "user.clu.valid") == b"1"
    assert reader.ask(f"test -k {name}")[0] == 1
    assert "VALID=1\n" in clu.report(name)


def test_strict_refuses_an_invalid_value_on_that_descriptor_alone(clu: Clu, holder: Holder) -> None:
    make_invalid(holder)
    strict = os.open(holder.path, os.O_RDWR)
    os.write(strict, b"PR strict\n")
    with pytest.raises(OSError) as refused:
        os.read(strict, 100)
    assert refused.value.errno == errno.ESTALE
    assert f"locks/public/{holder.path.name} ESTALE the value block is invalid" in clu.errors()
    assert holder.path.read_text() == "doubtful\n"
    os.write(strict, b"NL\n")
    holder.says("EX")
    holder.value("certain")
    os.lseek(strict, 0, os.SEEK_SET)
    assert os.read(strict, 100) == b"certain\n"
    os.close(strict)


XATTRS = "converting granted grantmode master mode quorum sequencer valid valseq value waiting"


def test_getfattr_shows_everything_at_once(
    clu: Clu, name: str, shell: Callable[..., Shell]
) -> None:
    holder, waiter = shell(cwd=clu.public), shell(cwd=clu.public)
    holder.ask(f"echo EX > {name}; echo 'PW value=hello' > {name}")
    waiter.begin(f"echo EX > {name}")
    clu.until_queued(name)
    status, printed = holder.ask(f"getfattr -d {name}")
    facts = dict(line.split("=", 1) for line in printed.splitlines() if "=" in line)
    assert status == 0
    assert [key.removeprefix("user.clu.") for key in sorted(facts)] == XATTRS.split()
    expected = {
        "value": "hello", "mode": "PW", "grantmode": "PW", "valid": "1", "quorum": "1",
        "granted": "1", "converting": "0", "waiting": "1",
    }  # fmt: skip
    for key, value in expected.items():
        assert facts[f"user.clu.{key}"] == f'"{value}"', key
    assert int(facts["user.clu.valseq"].strip('"')) > 0
    holder.ask(f"echo UN > {name}")
    assert waiter.hear()[0] == 0


def test_mode_and_sequencer_are_the_callers(
    clu: Clu, name: str, shell: Callable[..., Shell]
) -> None:
    shell(cwd=clu.public).ask(f"echo EX > {name}")
    listed = ALICE.runs(f"getfattr -d {name}", clu.public)[1]
    assert "user.clu.grantmode" in listed
    assert "user.clu.mode" not in listed and "user.clu.sequencer" not in listed
    assert ALICE.calls(f"os.getxattr({name!r}, 'user.clu.mode')", clu.public) == "ENODATA"
    assert ALICE.calls(f"os.getxattr({name!r}, 'user.clu.other')", clu.public) == "ENODATA"
    assert ALICE.calls(f"os.getxattr({name!r}, 'security.selinux')", clu.public) == "ENODATA"


def test_a_descriptor_tells_its_own_lock(clu: Clu, holder: Holder) -> None:
    other = os.open(holder.path, os.O_RDWR)
    os.write(other, b"NL\n")
    assert os.getxattr(holder.fd, "user.clu.mode") == b"EX"
    assert os.getxattr(other, "user.clu.mode") == b"NL"
    assert os.getxattr(holder.fd, "user.clu.sequencer") != os.getxattr(other, "user.clu.sequencer")
    os.close(other)


def test_attributes_are_read_and_not_written(clu: Clu, holder: Holder) -> None:
    name = holder.path.name
    for code in ("os.setxattr({0!r}, 'user.clu.value', b'x')", "os.removexattr({0!r}, 'user.x')"):
        assert ROOT.calls(code.format(name), clu.public) == "EPERM"
    assert f"locks/public/{name} EPERM attributes are read, not written" in clu.errors()


def test_a_sequencer_is_good_while_its_lock_is_held_and_stale_for_ever_after(
    clu: Clu, name: str, shell: Callable[..., Shell]
) -> None:
    checker = clu.root / "status" / "sequencer"
    holder = shell(cwd=clu.public)

    def take() -> str:
        holder.ask(f"echo EX > {name}")
        ask = f"getfattr --only-values -n user.clu.sequencer {name}; echo"
        return holder.ask(ask)[1].strip()

    first = take()
    block, mode, number = first.split(" ")
    assert (block, mode) == (f"public/{name}", "EX")
    assert 0 < int(number) < 2**63
    checker.write_text(first + "\n")
    holder.ask(f"echo UN > {name}")
    second = take()
    assert int(second.split(" ")[2]) > int(number)
    checker.write_text(second)
    for stale in (first, second.replace(" EX ", " PW "), second.replace("public/", "private/")):
        with pytest.raises(OSError) as refused:
            checker.write_text(stale)
        assert refused.value.errno == errno.ESTALE
    assert "status/sequencer ESTALE the lock of this sequencer is no longer held" in clu.errors()
    holder.ask(f"echo UN > {name}")


@pytest.mark.parametrize("text", ["x", "public/f EX", "public/f EX one", "a\nb", "public/\\9 EX 1"])
def test_what_is_no_sequencer_is_refused(clu: Clu, text: str) -> None:
    with pytest.raises(OSError) as refused:
        (clu.root / "status" / "sequencer").write_text(text)
    assert refused.value.errno == errno.EINVAL
    assert "status/sequencer EINVAL " in clu.errors().splitlines()[-1]
