"""`make install` and `make uninstall`, into a root of their own."""

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parent.parent / "tools" / "install.sh"
BIN = Path(sys.executable).parent

CAA = "balance profile register relocate report start stat stop unregister".split()

INSTALLED = {
    *(f"opt/c/bin/caa_{name}" for name in CAA),
    *(f"opt/c/share/bash-completion/completions/caa_{name}" for name in CAA),
    *(f"opt/c/share/man/man8/caa_{name}.8" for name in CAA),
    "opt/c/share/man/man5/caa.5",
    "sbin/mount.clufs",
    "sbin/mount.fuse.clufs",
    "opt/c/bin/clu_get_info",
    "opt/c/bin/clufs",
    "opt/c/sbin/clufsd",
    "opt/c/lib/systemd/system/clufsd.service",
    "opt/c/share/bash-completion/completions/clufs",
    "opt/c/share/bash-completion/completions/clufsd",
    "opt/c/share/man/man5/clufs.toml.5",
    "opt/c/share/man/man7/clufs-files.7",
    "opt/c/share/man/man8/clu_get_info.8",
    "opt/c/share/man/man8/clufs.8",
    "opt/c/share/man/man8/clufs-keygen.8",
    "opt/c/share/man/man8/clufs-lab.8",
    "opt/c/share/man/man8/clufsd.8",
    "opt/c/share/man/man8/mount.clufs.8",
    "etc/clufs/clufs.toml",
}


def run(action: str, root: Path) -> None:
    subprocess.run([SCRIPT, action, root, "/opt/c", BIN], check=True)


def files(root: Path) -> set[str]:
    return {str(p.relative_to(root)) for p in root.rglob("*") if p.is_symlink() or p.is_file()}


def test_everything_is_installed_and_taken_away(tmp_path: Path) -> None:
    (tmp_path / "sbin").mkdir()
    (tmp_path / "sbin/mount.other").write_text("")
    for _ in range(2):
        run("install", tmp_path)
        assert files(tmp_path) == INSTALLED | {"sbin/mount.other"}
    unit = (tmp_path / "opt/c/lib/systemd/system/clufsd.service").read_text()
    assert "ExecStart=/opt/c/sbin/clufsd /clu " in unit
    run("uninstall", tmp_path)
    assert files(tmp_path) == {"sbin/mount.other"}
    run("uninstall", tmp_path)


def test_the_links_lead_to_programs(tmp_path: Path) -> None:
    run("install", tmp_path)
    links = [path for path in tmp_path.rglob("*") if path.is_symlink()]
    assert len(links) == 5 + len(CAA)
    for link in links:
        assert link.resolve() == (BIN / link.name).resolve()
        assert (BIN / link.name).exists()


def test_what_was_edited_or_belongs_to_others_stays(tmp_path: Path) -> None:
    run("install", tmp_path)
    config = tmp_path / "etc/clufs/clufs.toml"
    config.write_text("[member]\nname = 'provolone'\n")
    helper = tmp_path / "sbin/mount.clufs"
    helper.unlink()
    helper.symlink_to("/elsewhere/mount.clufs")
    run("uninstall", tmp_path)
    assert files(tmp_path) == {"etc/clufs/clufs.toml", "sbin/mount.clufs"}
    run("install", tmp_path)
    assert config.read_text() == "[member]\nname = 'provolone'\n"
