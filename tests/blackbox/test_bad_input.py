"""Bad input: the errno of the contract, a sentence in /clu/status/errors, and nothing changed."""

from __future__ import annotations

import errno
import mmap
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.blackbox.clu import Clu, Shell
from tests.blackbox.people import ALICE, ROOT

KEPT = "must not change"


@pytest.fixture
def held(clu: Clu, name: str) -> Iterator[int]:
    """A descriptor that holds EX, with a value; neither may change."""
    fd = os.open(clu.public / name, os.O_RDWR | os.O_CREAT)
    os.write(fd, b"EX\n")
    os.write(fd, f"EX value={KEPT}\n".encode())
    before = [line.rsplit(" ", 1)[0] for line in clu.report(name).splitlines()]
    yield fd
    after = [line.rsplit(" ", 1)[0] for line in clu.report(name).splitlines()]
    assert after == before
    assert (clu.public / name).read_text() == KEPT + "\n"
    os.close(fd)


WRITES = {
    b"x" * 1_000_000: (errno.EMSGSIZE, "a request has at most 4096 bytes"),
    b"NL\0\n": (errno.EINVAL, "a NUL byte in the request"),
    b"NL \xff\xfe\n": (errno.EINVAL, "unknown word '\\377\\376'"),
    b"NL " + b" ".join(b"word%d" % n for n in range(40)): (errno.EINVAL, "unknown word 'word0'"),
    b"EX value=" + b"v" * 1025: (errno.EMSGSIZE, "at most 1024 bytes, this one 1025"),
    b"EX valuehex=" + b"aa" * 1025: (errno.EMSGSIZE, "at most 1024 bytes, this one 1025"),
    b"NL\nEX\n": (errno.EINVAL, "two lines in one write"),
    b"XE\n": (errno.EINVAL, "'XE' is neither a mode"),
    b"NL nowiat\n": (errno.EINVAL, "unknown word 'nowiat'"),
    b"\n": (errno.EINVAL, "an empty request"),
    b"value=x\n": (errno.EINVAL, "nothing before 'value='"),
    b"NL timeout=soon\n": (errno.EINVAL, "'timeout=soon'"),
    b"NL signal=NOSUCH\n": (errno.EINVAL, "'signal=NOSUCH' names no signal"),
    b"NL all\n": (errno.EINVAL, "'all' does not go with NL"),
    b"NL persistent group=g\n": (errno.EINVAL, "'persistent' does not go with 'group'"),
    b"NL group=nobody-made-it\n": (errno.ENOENT, "group 'nobody-made-it' is not there"),
}


@pytest.mark.parametrize("data", WRITES, ids=lambda data: repr(data[:16]))
def test_a_write_that_means_nothing(clu: Clu, name: str, held: int, data: bytes) -> None:
    number, why = WRITES[data]
    with pytest.raises(OSError) as refused:
        os.write(held, data)
    assert refused.value.errno == number
    last = clu.errors().splitlines()[-1]
    assert f" {os.getpid()} locks/public/{name} {errno.errorcode[number]} " in last
    assert why in last


def test_an_empty_write_asks_for_nothing(held: int) -> None:
    assert os.write(held, b"") == 0


def test_pwrite_and_writev_are_one_request_each(clu: Clu, name: str) -> None:
    fd = os.open(clu.public / name, os.O_RDWR | os.O_CREAT)
    assert os.pwrite(fd, b"EX\n", 5_000_000) == 3
    assert os.writev(fd, [b"EX ", b"value=", b"joined"]) == 15
    assert (clu.public / name).read_text() == "joined\n"
    os.close(fd)


@pytest.mark.parametrize("flags", [os.O_APPEND, os.O_DIRECT, os.O_SYNC, os.O_NONBLOCK, os.O_TRUNC])
def test_flags_of_the_open_do_not_matter(clu: Clu, name: str, flags: int) -> None:
    fd = os.open(clu.public / name, os.O_RDWR | os.O_CREAT | flags)
    assert os.write(fd, b"EX\n") == 3
    assert os.write(fd, b"EX value=x\n") == 11
    assert os.pread(fd, 4096, 0) == b"x\n"
    os.fsync(fd)
    os.close(fd)


def errno_of(call: Callable[..., object], *arguments: object) -> int | None:
    try:
        call(*arguments)
    except OSError as error:
        return error.errno
    return 0


def test_a_lock_file_has_no_size_to_be_set(clu: Clu, name: str, held: int) -> None:
    assert errno_of(os.ftruncate, held, 100) == errno.EINVAL
    assert f"locks/public/{name} EINVAL no file here can be given a size" in clu.errors()
    assert errno_of(os.ftruncate, held, 0) == 0
    assert errno_of(os.truncate, clu.public / name, 7) == errno.EINVAL
    assert errno_of(os.posix_fallocate, held, 0, 100) in (errno.EOPNOTSUPP, errno.EINVAL)


def test_a_lock_file_is_no_memory(held: int) -> None:
    assert errno_of(lambda: mmap.mmap(held, 16)) == errno.ENODEV
    with mmap.mmap(held, len(KEPT) + 1, flags=mmap.MAP_PRIVATE) as private:
        assert private[:] == f"{KEPT}\n".encode()
        private[0] = 0


def test_seeks_go_anywhere_and_reads_there_end(held: int) -> None:
    assert os.pread(held, 100, 0) == f"{KEPT}\n".encode()
    assert os.lseek(held, 2**40, os.SEEK_SET) == 2**40
    assert os.read(held, 10) == b""
    assert errno_of(os.lseek, held, -1, os.SEEK_SET) == errno.EINVAL
    assert os.pread(held, 4, 5) == KEPT.encode()[5:9]


def test_a_lock_file_is_moved_linked_and_replaced_by_nothing(
    clu: Clu, name: str, held: int, tmp_path: Path
) -> None:
    path, other = clu.public / name, clu.public / f"{name}_other"
    elsewhere = tmp_path / "file"
    elsewhere.touch()
    assert errno_of(os.rename, path, other) == errno.EPERM
    assert errno_of(os.link, path, other) == errno.EPERM
    assert errno_of(os.symlink, path, other) == errno.EPERM
    assert errno_of(os.mknod, other) == errno.EPERM
    assert errno_of(os.mkfifo, other) == errno.EPERM
    code = f"socket.socket(socket.AF_UNIX).bind({name + '_other'!r})"
    assert ROOT.calls(code, clu.public) == "EPERM"
    assert errno_of(os.rename, path, elsewhere) == errno.EXDEV
    assert errno_of(os.rename, elsewhere, path) == errno.EXDEV
    assert not other.exists()
    errors = clu.errors()
    for why in (
        "names here cannot change",
        "hard links are not made",
        "only names of locks are made",
    ):
        assert why in errors


def test_owner_mode_and_times_are_the_namespaces(clu: Clu, name: str, held: int) -> None:
    path = clu.public / name
    before = path.stat()
    for call, arguments in (
        (os.chmod, (0o600,)),
        (os.chown, (1001, 1001)),
        (os.utime, ((1, 1),)),
        (os.setxattr, ("user.clu.value", b"x")),
    ):
        assert errno_of(call, path, *arguments) == errno.EPERM, call
    assert path.stat()[:9] == before[:9]
    code = f"os.chmod({name!r}, 0o600)"
    assert ALICE.calls(code, clu.public) == "EPERM"


def test_directories_are_made_one_deep(clu: Clu) -> None:
    status, printed = ROOT.runs("mkdir -p one/two/three", clu.root / "locks")
    assert status == 1 and "Operation not permitted" in printed
    assert "locks/one/two EPERM namespaces are made in /locks only" in clu.errors()
    (clu.root / "locks" / "one").rmdir()


def test_a_directory_is_no_file_and_a_file_no_directory(clu: Clu, name: str, held: int) -> None:
    assert errno_of(os.open, clu.public, os.O_WRONLY) == errno.EISDIR
    assert errno_of(os.open, clu.public / name / "below", os.O_RDONLY) == errno.ENOTDIR
    assert errno_of(os.rmdir, clu.public / name) == errno.ENOTDIR
    assert errno_of(os.unlink, clu.public) in (errno.EISDIR, errno.EPERM)
    assert errno_of(os.listdir, clu.public / name) == errno.ENOTDIR


def test_a_group_takes_pids_and_nothing_else(clu: Clu, name: str) -> None:
    group = clu.root / "groups" / name
    group.mkdir()
    for text, number in (
        ("me", errno.EINVAL),
        ("-1", errno.EINVAL),
        ("1 2", errno.EINVAL),
        ("4194305", errno.ENOENT),
        ("9" * 4000, errno.ENOENT),
        ("1\n2\n", errno.EINVAL),
        ("9" * 5000, errno.EINVAL),
    ):
        assert errno_of((group / "procs").write_text, text) == number, text[:10]
        assert f" groups/{name}/procs {errno.errorcode[number]} " in clu.errors().splitlines()[-1]
    assert (group / "procs").read_text() == ""
    group.rmdir()


def test_the_shell_tells_that_it_failed(clu: Clu, name: str, shell: Callable[..., Shell]) -> None:
    for kind in ("dash", "bash", "busybox sh"):
        assert shell(kind, cwd=clu.public).ask(f"echo XE 2>&1 > {name}")[0] == 1
    assert clu.errors().count(f"locks/public/{name} EINVAL 'XE' is neither a mode") == 3
    assert not (clu.public / name).exists()


def test_a_child_that_is_refused_is_named_by_its_own_pid(clu: Clu, name: str) -> None:
    printed = ROOT.calls(f"print(os.getpid(), flush=True); os.mkdir('{name}')", clu.public)
    pid = printed.split()[0]
    assert f" {pid} locks/public/{name} EPERM " in clu.errors()


def test_the_refusal_of_a_thread_is_the_process_own(clu: Clu, name: str) -> None:
    code = f"""
import threading
def ask():
    fd = os.open({name!r}, os.O_WRONLY | os.O_CREAT)
    try:
        os.write(fd, b"XE")
    except OSError:
        pass
print(os.getpid(), flush=True)
thread = threading.Thread(target=ask)
thread.start()
thread.join()
"""
    pid = ROOT.calls(code, clu.public)
    assert f" {pid} locks/public/{name} EINVAL 'XE'" in clu.errors()
