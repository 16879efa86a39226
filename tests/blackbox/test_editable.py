"""Profiles, scripts and templates are ordinary files: shells, editors and copiers work on them."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.blackbox.clu import PATIENCE_S, SHELLS, Clu, until
from tests.blackbox.people import ALICE, ROOT
from tests.blackbox.program import Program

CAP = "NAME=web\nTYPE=application\nACTION_SCRIPT=web.scr\n"
OTHER = CAP.replace("web.scr", "other.scr")
HALF = "NAME=web\nTYPE=applicat"
NETWORK = "NAME=net\nTYPE=network\nSUBNET=10.0.0.0\n"


@pytest.fixture
def resources(clu: Clu) -> Iterator[Path]:
    """/clu/resources, empty before and after."""
    yield from emptied(clu.root / "resources")


@pytest.fixture
def scripts(clu: Clu) -> Iterator[Path]:
    """/clu/scripts, likewise."""
    yield from emptied(clu.root / "scripts")


def emptied(directory: Path) -> Iterator[Path]:
    yield directory
    for entry in sorted(directory.iterdir(), reverse=True):
        if entry.is_dir():
            entry.rmdir()
    for entry in directory.iterdir():
        entry.unlink(missing_ok=True)
    assert os.listdir(directory) == []


def run(line: str, cwd: Path, *, shell: str = "bash", stdin: str = "") -> tuple[int, str]:
    """Run a line of a shell; its status and all that it printed."""
    done = subprocess.run(
        [*shell.split(), "-c", line],
        cwd=cwd,
        input=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=PATIENCE_S,
        text=True,
    )
    return done.returncode, done.stdout


def names(directory: Path) -> list[str]:
    return sorted(os.listdir(directory))


# ------------------------------------------------- profiles


WAYS = [
    "printf '%s' \"$TEXT\" > web.cap",
    "cat ../../new > web.cap",
    "cp ../../new web.cap",
    "cp -p ../../new web.cap",
    "cp ../../new tmp && mv tmp web.cap",
    "mv ../../new web.cap",
    "install -m 640 ../../new web.cap",
    "tee web.cap < ../../new > ../../copied",
    "dd if=../../new of=web.cap bs=7 conv=fsync status=none",
    "rsync ../../new web.cap",
    "rsync -a ../../new web.cap",
    "rsync --inplace ../../new web.cap",
    "tar cf - -C ../.. new | tar xf - --transform=s/new/web.cap/",
    "busybox cp ../../new web.cap",
    "(printf ':%%d\\ni%s\\033' \"$TEXT\"; sleep 0.4; printf 'Gdd:wq\\n') | busybox vi web.cap",
    "vim.tiny -u NONE -N -es -c '%d' -c '0r ../../new' -c wq web.cap",
    "vim.tiny -u NONE -N -es -c '%d' -c '0r ../../new' -c 'set bkc=no' -c wq web.cap",
    "printf ',d\\nr ../../new\\nw\\nq\\n' | ed -s web.cap; test -e web.cap",
    "exec 9<>web.cap; cat ../../new >&9; exec 9>&-",
    'while read -r l; do echo "$l"; done < ../../new > web.cap',
]


# Between file systems these remove what is there, and then copy.
TAKE_IT_AWAY_FIRST = [
    "mv ../../new web.cap",
    "install -m 640 ../../new web.cap",
    "tar cf - -C ../.. new | tar xf - --transform=s/new/web.cap/",
]


@pytest.mark.parametrize("before", [None, CAP])
@pytest.mark.parametrize("way", WAYS)
def test_a_profile_comes_by_any_way(
    clu: Clu, resources: Path, way: str, before: str | None
) -> None:
    if before is not None:
        (resources / "web.cap").write_text(before)
    new = clu.root.parent / "new"
    new.write_text(OTHER)
    status, printed = run(f"export TERM=vt100; TEXT='{OTHER}'; {way}", resources)
    assert status == 0, printed
    assert (resources / "web.cap").read_text().strip() == OTHER.strip()
    assert names(resources) == ["web.cap"]


@pytest.mark.parametrize("shell", SHELLS)
def test_half_a_file_is_never_a_profile(clu: Clu, resources: Path, shell: str) -> None:
    """The shell does not tell; status/errors, web.cap.refused and registering do."""
    (resources / "web.cap").write_text(CAP)
    run(f"printf '%s' '{HALF}' > web.cap", resources, shell=shell)
    assert (resources / "web.cap").read_text() == CAP
    assert (resources / "web.cap.refused").read_text() == HALF
    assert clu.why("resources/web.cap").startswith("EINVAL web.cap line 2: TYPE: applicat: allowed")
    assert ROOT.calls("os.mkdir('web')", resources) == "EINVAL"
    assert clu.why("resources/web").startswith("EINVAL a newer text of web.cap was refused")
    run(f"printf '%s' '{OTHER}' > web.cap", resources, shell=shell)
    assert (resources / "web.cap").read_text() == OTHER
    assert names(resources) == ["web.cap"]
    (resources / "web").mkdir()


@pytest.mark.parametrize(
    "way",
    [
        one
        for one in WAYS
        if one not in TAKE_IT_AWAY_FIRST and "busybox vi" not in one and "9<>" not in one
    ],
)
def test_what_is_no_profile_takes_no_profile_s_place(clu: Clu, resources: Path, way: str) -> None:
    (resources / "web.cap").write_text(CAP)
    new = clu.root.parent / "new"
    new.write_text(HALF + "\n")
    run(f"TEXT='{HALF}'; {way}", resources)
    assert (resources / "web.cap").read_text() == CAP
    assert (resources / "web.cap.refused").read_text().strip() == HALF


def test_close_tells_who_listens(resources: Path) -> None:
    code = f"f = os.open('web.cap', os.O_WRONLY | os.O_CREAT)\nos.write(f, b'''{HALF}''')\n"
    assert ROOT.calls(code + "os.close(f)", resources) == "EINVAL"
    until(lambda: names(resources) == ["web.cap.refused"], "the empty file to go")


def test_nothing_is_left_where_there_was_no_profile(resources: Path) -> None:
    run(f"printf '%s' '{HALF}' > web.cap", resources)
    until(lambda: names(resources) == ["web.cap.refused"], "the empty file to go")


def test_a_text_is_judged_again_when_it_goes_on(resources: Path) -> None:
    """The first close comes with half of it, the last with all."""
    first, last = CAP[:20], CAP[20:]
    line = f"{{ /bin/echo -n '{first}'; /bin/echo -n '{last}'; }} > web.cap"
    run(line, resources)
    assert (resources / "web.cap").read_text() == CAP
    assert names(resources) == ["web.cap"]


def test_an_empty_text_is_not_judged_and_changes_no_profile(resources: Path) -> None:
    (resources / "web.cap").write_text(CAP)
    assert run(": > web.cap", resources) == (0, "")
    until(lambda: (resources / "web.cap").read_text() == CAP, "the profile to be as before")
    assert run("truncate -s 0 web.cap", resources) == (0, "")
    until(lambda: (resources / "web.cap").read_text() == CAP, "the profile to be as before")
    assert names(resources) == ["web.cap"]


def test_a_rename_into_place_is_judged(clu: Clu, resources: Path) -> None:
    (resources / "web.cap").write_text(CAP)
    (resources / "tmp").write_text(HALF)
    assert ROOT.calls("os.rename('tmp', 'web.cap')", resources) == "EINVAL"
    assert names(resources) == ["tmp", "web.cap", "web.cap.refused"]
    (resources / "tmp").write_text(OTHER)
    assert ROOT.calls("os.rename('tmp', 'web.cap')", resources) == ""
    assert (resources / "web.cap").read_text() == OTHER
    assert names(resources) == ["web.cap"]


def test_the_templates_judge_too(clu: Clu, resources: Path) -> None:
    templates = clu.root / "templates"
    before = (templates / "application.tdf").read_text()
    (resources / "web.cap").write_text(CAP)
    run("echo 'USR_DEBUG=1' >> web.cap", resources)
    assert "USR_DEBUG" in clu.why("resources/web.cap")
    run(
        "sed -i 's/^# attribute: /attribute: /; s/^# type: /type: /;"
        " s/^# switch: /switch: /; s/^# default: /default: /; s/^# required: /required: /'"
        " application.tdf",
        templates,
    )
    run("echo 'USR_DEBUG=1' >> web.cap", resources)
    try:
        assert (resources / "web.cap").read_text() == CAP + "USR_DEBUG=1\n", clu.errors()
    finally:
        (templates / "application.tdf").unlink()
    assert (templates / "application.tdf").read_text() == before


# ------------------------------------------------- registering


def test_registering_merges_and_unregistering_forgets(clu: Clu, resources: Path) -> None:
    assert ROOT.calls("os.mkdir('web')", resources) == "ENOENT"
    (resources / "web.cap").write_text(CAP)
    (resources / "web").mkdir()
    assert "RESTART_ATTEMPTS=1\n" in (resources / "web/profile").read_text()
    assert (resources / "web/state").read_text() == "OFFLINE\n"
    assert (resources / "web/target").read_text() == "OFFLINE\n"
    assert "NAME=web\nTYPE=application\n" in (clu.root / "status/resources").read_text()
    assert ROOT.calls("os.mkdir('web')", resources) == "EEXIST"
    (resources / "web").rmdir()
    assert names(resources) == ["web.cap"]
    assert (clu.root / "status/resources").read_text() == ""
    assert ROOT.calls("os.rmdir('web')", resources) == "ENOENT"


def test_a_changed_profile_is_not_registered_by_itself(resources: Path) -> None:
    (resources / "web.cap").write_text(CAP)
    (resources / "web").mkdir()
    (resources / "web.cap").write_text(OTHER)
    assert "web.scr" in (resources / "web/profile").read_text()


def test_what_another_requires_stays_registered(clu: Clu, resources: Path) -> None:
    (resources / "web.cap").write_text(CAP + "REQUIRED_RESOURCES=net\n")
    assert ROOT.calls("os.mkdir('web')", resources) == "EINVAL"
    assert "registered already" in clu.why("resources/web")
    (resources / "net.cap").write_text(NETWORK)
    (resources / "net").mkdir()
    (resources / "web").mkdir()
    assert ROOT.calls("os.rmdir('net')", resources) == "EBUSY"
    assert clu.why("resources/net") == "EBUSY net is required by web"
    (resources / "web").rmdir()
    (resources / "net").rmdir()


def test_only_root_registers_and_writes(resources: Path, scripts: Path) -> None:
    (resources / "web.cap").write_text(CAP)
    (scripts / "web.scr").write_text("")
    for line in ("mkdir web", "echo > web.cap", "rm -f web.cap", "mv web.cap x", "touch new"):
        status, printed = ALICE.runs(line, resources)
        assert status != 0 and "ermission denied" in printed, line
    assert ALICE.runs("cat web.cap", resources) == (0, CAP)
    assert ALICE.runs("touch new", scripts)[0] != 0


def test_a_profile_and_its_orders_are_given_to_a_user(resources: Path) -> None:
    (resources / "web.cap").write_text(CAP)
    (resources / "web").mkdir()
    assert ALICE.runs("echo OFFLINE > web/target", resources)[0] != 0
    os.chown(resources / "web.cap", ALICE.uid, ALICE.gid)
    assert ALICE.calls("os.write(os.open('web/target', os.O_WRONLY), b'?')", resources) == "EINVAL"
    assert ALICE.runs(f"printf '%s' '{OTHER}' > web.cap; cat web.cap", resources) == (0, OTHER)
    assert os.stat(resources / "web.cap").st_uid == ALICE.uid


# ------------------------------------------------- ordinary files


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("echo a > f; echo b >> f", "a\nb\n"),
        ("echo abc > f; exec 9<>f; echo -n X >&9; exec 9>&-", "Xbc\n"),
        ("echo abcdef > f; truncate -s 3 f", "abc"),
        ("echo abc > f; truncate -s 6 f", "abc\n\0\0"),
        ("echo abc > f; : > f", ""),
        (
            "echo abc > f; dd if=/dev/zero of=f bs=1 seek=5 count=1 conv=notrunc status=none",
            "abc\n\0\0",
        ),
        ("echo a > f; ln f g || cp f g; sed -i s/a/b/ f; cat g >> f", "b\na\n"),
        ("printf '1\\n2\\n3\\n' > f; ed -s f", "1\n3\n"),
        ("echo abc > f; busybox sed -i s/b/x/ f", "axc\n"),
        ("(echo a; (echo b); /bin/echo c) > f", "a\nb\nc\n"),
        ("echo a > f & wait; cat f f > g; mv g f", "a\na\n"),
        ("seq 1000 | tee f > /dev/null; tail -n 1 f > g; mv -f g f", "1000\n"),
    ],
)
def test_a_text_is_written(scripts: Path, line: str, text: str) -> None:
    _, printed = run(
        f"{{ {line}; }} 2>&1 | grep -v 'hard link' || true", scripts, stdin="2d\nw\nq\n"
    )
    until(lambda: (scripts / "f").read_text() == text, f"{text!r} after {line}: {printed}")


def test_what_a_process_writes_it_reads(scripts: Path) -> None:
    code = """
fd = os.open('f', os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o640)
os.write(fd, b'hello')
os.pwrite(fd, b'J', 0)
os.pwrite(fd, b'!', 7)
print(os.pread(fd, 100, 0), os.fstat(fd).st_size, os.lseek(fd, 0, os.SEEK_END))
os.ftruncate(fd, 4)
print(os.pread(fd, 100, 0), os.path.getsize('f'), oct(os.stat('f').st_mode))
os.fsync(fd)
os.close(fd)
print(open('f').read())
fd = os.open('f', os.O_WRONLY | os.O_APPEND)
os.write(fd, b'x'); os.pwrite(fd, b'y', 0); os.close(fd)
print(open('f').read())
"""
    assert ROOT.calls(code, scripts).splitlines() == [
        "b'Jello\\x00\\x00!' 8 8",
        "b'Jell' 4 0o100640",
        "Jell",
        "Jellxy",
    ]


def test_a_file_that_is_open_lives_on_without_a_name(scripts: Path) -> None:
    code = """
open('f', 'w').write('old')
fd = os.open('f', os.O_RDWR)
os.unlink('f')
print(os.read(fd, 10), os.fstat(fd).st_nlink)
os.write(fd, b' and gone'); os.close(fd)
print(os.path.exists('f'))
open('f', 'w').write('one'); open('g', 'w').write('two')
fd = os.open('f', os.O_RDONLY)
os.rename('g', 'f')
print(os.read(fd, 10), open('f').read())
fd = os.open('f', os.O_WRONLY)
os.rename('f', 'h'); os.pwrite(fd, b'T', 0); os.close(fd)
print(open('h').read(), os.path.exists('f'))
"""
    assert ROOT.calls(code, scripts).splitlines() == [
        "b'old' 0",
        "False",
        "b'one' two",
        "Two False",
    ]


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("os.open('f', os.O_CREAT | os.O_EXCL)", "EEXIST"),
        ("os.open('none', os.O_RDWR)", "ENOENT"),
        ("os.unlink('none')", "ENOENT"),
        ("os.rename('none', 'x')", "ENOENT"),
        ("os.chmod('f', 0o775)", "EPERM"),
        ("os.chown('f', 1001, -1)", "EPERM"),
        ("os.link('f', 'g')", "EPERM"),
        ("os.symlink('f', 'g')", "EPERM"),
        ("os.mkdir('d')", "EPERM"),
        ("os.rename('f', '../templates/f')", "EXDEV"),
        ("os.rename('f', '../locks/f')", "EXDEV"),
        ("os.rename('../templates/template.scr', 'x')", "EXDEV"),
        ("os.unlink('../templates/template.scr')", "EPERM"),
        ("os.truncate('f', 70000)", "EFBIG"),
        ("os.pwrite(os.open('f', os.O_WRONLY), b'x', 65536)", "EFBIG"),
        (
            "libc = ctypes.CDLL(None, use_errno=True); r = libc.renameat2(-100, b'g', -100, b'f', 1);"
            "print(errno.errorcode[ctypes.get_errno()])",
            "EEXIST",
        ),
    ],
)
def test_what_is_refused(scripts: Path, code: str, name: str) -> None:
    (scripts / "f").write_text("text")
    (scripts / "g").write_text("other") if "renameat2" in code else None
    assert ROOT.calls(code, scripts) == name
    assert (scripts / "f").read_text() == "text"


def test_owner_mode_and_time_are_kept(clu: Clu, tmp_path: Path, scripts: Path) -> None:
    source = tmp_path / "s"
    source.write_text("x")
    os.chmod(source, 0o750)
    os.utime(source, ns=(10**18, 10**18 + 123456789))
    templates = clu.root / "templates"
    for line in (
        f"cp -p {source} s",
        f"rsync -a {source} s",
        f"install -p -m 750 {source} s",
        f"tar cf - --format=posix -C {tmp_path} s | tar xpf -",
        f"mv {source} s",
    ):
        assert run(line, templates) == (0, "")
        now = (templates / "s").stat()
        assert (now.st_mode & 0o7777, now.st_mtime_ns) == (0o750, 10**18 + 123456789), line
        if "mv" not in line:
            (templates / "s").unlink()
    os.chown(templates / "s", ALICE.uid, ALICE.gid)
    assert run("rsync -a ../templates/s .", scripts)[0] != 0
    assert run(f"mv ../templates/s {source}; stat -c %u {source}", scripts) == (0, "1001\n")


def test_scripts_are_never_writable_by_others(scripts: Path) -> None:
    assert run("umask 0; echo x > f; stat -c %a f; chmod 755 f; stat -c %a f", scripts) == (
        0,
        "644\n755\n",
    )


def test_a_script_runs_where_it_lies(scripts: Path) -> None:
    (scripts / "web.scr").write_text("#!/bin/sh\necho hello $1\n")
    assert run("chmod 755 web.scr; ./web.scr start", scripts) == (0, "hello start\n")


def test_a_template_comes_back_when_ones_own_is_removed(clu: Clu) -> None:
    templates = clu.root / "templates"
    before = (templates / "template.scr").read_text()
    assert run("sed -i s/sh/bash/ template.scr; head -1 template.scr", templates) == (
        0,
        "#!/bin/bash\n",
    )
    (templates / "template.scr").unlink()
    assert (templates / "template.scr").read_text() == before
    assert run("chmod 600 template.scr; stat -c %a template.scr; rm template.scr", templates) == (
        0,
        "600\n",
    )


def test_an_editor_that_is_killed_leaves_the_old_text(resources: Path) -> None:
    """Its last close is one, too; half of the text is judged and refused."""
    (resources / "web.cap").write_text(CAP)
    program = Program(resources)
    try:
        program.run("f = os.open('web.cap', os.O_WRONLY | os.O_TRUNC)")
        program.run(f"os.write(f, {HALF!r}.encode())")
        os.kill(program.pid, signal.SIGKILL)
        program.process.wait()
    finally:
        program.close()
    assert (resources / "web.cap").read_text() == CAP


def test_all_is_there_after_the_daemon_was_killed(own_clu: Clu) -> None:
    resources = own_clu.root / "resources"
    (resources / "web.cap").write_text(CAP)
    os.utime(resources / "web.cap", ns=(5, 10**18))
    (resources / "web").mkdir()
    (resources / "tmp").write_text(OTHER)
    own_clu.stop(signal.SIGKILL)
    own_clu.start()
    assert names(resources) == ["tmp", "web", "web.cap"]
    assert (resources / "web.cap").read_text() == CAP
    assert (resources / "web.cap").stat().st_mtime_ns == 10**18
    assert "ACTION_SCRIPT=web.scr\n" in (resources / "web/profile").read_text()


def test_tools_walk_over_all_of_it(clu: Clu, resources: Path, tmp_path: Path) -> None:
    (resources / "web.cap").write_text(CAP)
    (resources / "web").mkdir()
    for line in ("ls -laR .", "find . -ls", "du -a .", "stat web/* web.cap", "getfattr -Rd -m - ."):
        status, printed = run(line, resources)
        assert status == 0, printed
    assert run("grep -rl ACTION_SCRIPT=web.scr .", resources)[1].split().count("./web.cap") == 1
    run(
        f"tar cf {tmp_path}/t.tar web.cap web/profile; tar xf {tmp_path}/t.tar -C {tmp_path}",
        resources,
    )
    assert (tmp_path / "web.cap").read_text() == CAP
    assert (tmp_path / "web/profile").read_text() == (resources / "web/profile").read_text()


def test_a_profile_that_is_renamed_into_place_while_the_daemon_is_killed(own_clu: Clu) -> None:
    """It is the one before or the one after, wherever the daemon was."""
    resources = own_clu.root / "resources"
    for name, text in (("one", CAP), ("two", OTHER)):
        (own_clu.root.parent / name).write_text(text)
    (resources / "web.cap").write_text(CAP)
    turns = "while :; do for n in one two; do cp ../../$n tmp && mv tmp web.cap; done; done"
    for pause_s in (0.11, 0.17, 0.23):
        with subprocess.Popen(["dash", "-c", turns], cwd=resources, stderr=-3) as writer:
            time.sleep(pause_s)
            own_clu.stop(signal.SIGKILL)
            writer.kill()
        own_clu.start()
        assert (resources / "web.cap").read_text() in (CAP, OTHER)
        assert set(names(resources)) <= {"web.cap", "tmp"}


@pytest.mark.parametrize("shell", SHELLS)
def test_a_right_text_right_after_a_wrong_one(resources: Path, shell: str) -> None:
    """What is left of the wrong one goes meanwhile; the right one stays, wherever that is."""
    turn = f"printf '%s' '{HALF}' > $n.cap; printf '%s' '{CAP}' > $n.cap"
    run(f"for n in $(seq 30); do {turn}; done", resources, shell=shell)
    until(lambda: names(resources) == sorted(f"{n}.cap" for n in range(1, 31)), "all of them")
    assert {(resources / name).read_text() for name in names(resources)} == {CAP}


def test_what_is_appended_right_after_a_refusal_goes_to_the_profile(resources: Path) -> None:
    (resources / "web.cap").write_text(CAP)
    turn = f"printf '%s' '{HALF}' > web.cap; echo '# more' >> web.cap"
    run(f"for n in 1 2 3 4 5 6 7 8 9; do {turn}; done", resources)
    assert (resources / "web.cap").read_text() == CAP + "# more\n" * 9
