"""The everyday tools over /clu: they work, or fail cleanly; none hangs, none changes what is held.

Each is stopped by force after a while: that is how a hang would show.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.blackbox.clu import PATIENCE_S, Clu, Shell

VALUE = "a value to be found"


def run(line: str, cwd: Path, *, stdin: str = "") -> tuple[int, str]:
    """Run a line of bash; its status and all that it printed."""
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {line}"],
        cwd=cwd,
        input=stdin.encode(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=PATIENCE_S,
    )
    return done.returncode, done.stdout.decode(errors="backslashreplace")


@pytest.fixture(autouse=True)
def busy(clu: Clu, shell: Callable[..., Shell]) -> Iterator[Shell]:
    """Holders and waiters, sublocks, odd names and a namespace, while a tool walks over them."""
    db = clu.root / "locks" / "db"
    if not db.exists():
        db.mkdir()
    holder, waiter = shell(cwd=clu.public), shell(cwd=clu.public)
    holder.ask(f"echo EX > held; echo 'EX value={VALUE}' > held; echo EX > 'odd\n name'")
    holder.ask("echo EX > tree; echo EX > tree.sub/branch; echo PR > ../db/row")
    waiter.begin("echo PR > held")
    clu.until_queued("held")
    yield holder
    assert f"VALUE={VALUE}\n" in clu.report("held")
    assert len(clu.queue("held", "GRANTED")) == len(clu.queue("held", "WAITING")) == 1
    holder.ask(
        "for f in tree.sub/branch tree held 'odd\n name' ../db/row; do echo UN > \"$f\"; done"
    )
    waiter.hear()


@pytest.mark.parametrize(
    "line",
    [
        "ls -laR",
        "find . -ls",
        "find . -type f ! -perm 0222 -exec cat {} +",
        "find . -type f -exec stat {} ;".replace(";", "\\;"),
        "find . -newer status/cluster -print0 | xargs -0 ls -ld",
        "grep -r 'no such text' . || test $? = 1",
        "du -a .",
        "df . && df -i . && df -a .",
        "stat -f .",
        "tar cf - . | tar tf - > /dev/null",
        "busybox tar cf - . > /dev/null",
        "busybox find . -type f ! -name sequencer -exec busybox cat {} +",
        "lsof -w . || test $? = 1",
        "getfattr -Rd -m - .",
        'file=$(ls); test -n "$file"',
        "wc -c events status/* 2>/dev/null; head -c1 events; od -c status/quorum; md5sum events",
    ],
)
def test_a_walk_over_all_of_clu(clu: Clu, line: str) -> None:
    status, printed = run(line, clu.root)
    assert status == 0, printed


def test_grep_finds_values_and_reports(clu: Clu) -> None:
    status, printed = run(f"grep -rl '{VALUE}' .", clu.root)
    assert (status, sorted(printed.split())) == (
        0,
        ["./locks/public/held", "./status/locks/public/held"],
    )


def test_find_sees_the_tree_of_sublocks(clu: Clu) -> None:
    _, printed = run("find locks/public/tree* status/locks/public/tree*", clu.root)
    for below in ("locks/public", "status/locks/public"):
        assert f"{below}/tree\n" in printed
        assert f"{below}/tree.sub\n{below}/tree.sub/branch\n" in printed


@pytest.mark.parametrize("copier", ["cp -r", "rsync -r", "rsync -r --checksum", "busybox cp -r"])
def test_a_copy_has_every_byte(clu: Clu, tmp_path: Path, copier: str) -> None:
    status, printed = run(f"{copier} locks events members '{tmp_path}'", clu.root)
    assert status == 0, printed
    assert (tmp_path / "locks/public/held").read_text() == VALUE + "\n"
    assert (tmp_path / "locks/public/tree.sub/branch").read_bytes() == b""
    assert (tmp_path / "events").read_text() == (clu.root / "events").read_text()


def test_an_archive_has_every_byte(clu: Clu, tmp_path: Path) -> None:
    assert run(f"tar cf '{tmp_path}/t.tar' locks status/locks events", clu.root) == (0, "")
    assert run("tar xf t.tar", tmp_path) == (0, "")
    assert (tmp_path / "locks/public/held").read_text() == VALUE + "\n"
    report = (tmp_path / "status/locks/public/held").read_text()
    assert report.splitlines()[:5] == clu.report("held").splitlines()[:5]
    assert (tmp_path / "locks/public/odd\n name").is_file()


def test_tab_completion(clu: Clu) -> None:
    _, printed = run("cd locks/public; compgen -f -- he; compgen -d -- tr", clu.root)
    assert printed == "held\ntree.sub\n"


@pytest.mark.parametrize(
    "line",
    [
        "mv held other",
        "mv held /tmp/",
        "ln held other",
        "ln -s held other",
        "sed -i s/a/b/ held",
        "sed -i s/a/b/ ../../status/cluster",
        "truncate -s 100 held",
        "touch -t 202601010000 held",
        "chmod 600 held",
        "chown 1001 held",
        "mkfifo pipe",
        "mknod device c 1 3",
        "install -m 600 /etc/hostname held",
        "dd if=/dev/zero of=held bs=1M count=1",
        "cp /etc/passwd held",
        "rsync /etc/passwd ./held",
        "echo : | tar cf - -C /etc passwd | tar xf - --transform=s/passwd/held/",
        "getfattr -n user.clu.other held",
        "setfattr -n user.clu.value -v x held",
        "rm -r ../../status",
        "rmdir ../db",
        "mkdir a/b",
        "cd held",
        "cat .",
    ],
)
def test_what_makes_no_sense_fails_cleanly(clu: Clu, line: str) -> None:
    before = sorted(os.listdir(clu.public))
    status, printed = run(line, clu.public)
    assert status not in (0, 124, 137), printed
    assert printed.strip()
    assert sorted(os.listdir(clu.public)) == before


@pytest.mark.parametrize("editor", ["busybox vi", "busybox ed", "busybox sed -i s/a/b/"])
def test_an_editor_changes_nothing(clu: Clu, editor: str) -> None:
    keys = "ix\x1b:w\n:q!\n" if "vi" in editor else "1s/a/b/\nw\nq\n"
    run(f"TERM=vt100 {editor} held", clu.public, stdin=keys)
    assert (clu.public / "held").read_text() == VALUE + "\n"


def test_lsof_names_who_has_a_lock_file_open(clu: Clu, busy: Shell) -> None:
    busy.ask("exec 8<>held")
    status, printed = run(f"lsof -w -p {busy.pid}", clu.public)
    assert status == 0
    assert f"{clu.public}/held" in printed
    busy.ask("exec 8>&-")


def test_rm_r_takes_what_is_ones_own_and_leaves_what_is_not(
    clu: Clu, busy: Shell, shell: Callable[..., Shell]
) -> None:
    other = shell(cwd=clu.root)
    status, printed = other.ask("rm -r locks/db 2>&1")
    assert status == 1 and "Operation not permitted" in printed
    assert "locks/db/row EPERM neither the caller nor an ancestor of it holds" in clu.errors()
    assert (clu.root / "locks/db/row").exists()
    assert busy.ask("cd ../..; rm -r locks/db; s=$?; cd locks/public; test $s = 0") == (0, "")
    assert not (clu.root / "locks/db").exists()


def test_rm_r_takes_a_tree_of_sublocks(clu: Clu, shell: Callable[..., Shell]) -> None:
    space = clu.root / "locks" / "forest"
    space.mkdir()
    owner = shell(cwd=space)
    owner.ask("echo EX > a; echo EX > a.sub/b; echo EX > a.sub/b.sub/c; cd ..")
    assert owner.ask("rm -r forest") == (0, "")
    assert not space.exists()
