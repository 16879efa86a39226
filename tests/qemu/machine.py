"""A virtual machine whose root is this machine's, read-only, and whose process 1 runs the tests."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

REPOSITORY = Path(__file__).parent.parent.parent
PLACE = REPOSITORY / ".qemu"
PACKAGE = "linux-image-amd64"
TOOLS = PLACE / "busybox"
BUSYBOX = TOOLS / "bin/busybox"
"""Without libraries, so that it runs before there is a root. Debian's own two cannot be installed side by side."""
# What the root needs is loaded before it is there; the rest by the tests.
ROOT_MODULES = ("virtio_pci", "9pnet_virtio", "9p")
GUEST_MODULES = ("target_core_mod", "tcm_loop", "sd_mod", "softdog")
MODULES_DIR = "modules"
END = "QEMU-EXIT="
LIMIT_S = 1200.0

# LIO keeps registrations (APTPL) in /var/target/pr of the first root there was; where that is missing, each change
# is made and answered with NOT READY all the same.
_INIT = """#!/bin/busybox sh
export PATH=/bin
/bin/busybox mkdir -p /proc /root /dev /var/target/pr
/bin/busybox mount -t proc proc /proc
for module in {modules}; do /bin/busybox insmod /$module; done
/bin/busybox mount -t 9p -o trans=virtio,version=9p2000.L,msize=524288,cache=loose,ro root /root
for place in /tmp /run /var/tmp /mnt; do /bin/busybox mount -t tmpfs tmpfs /root$place; done
/bin/busybox mount -t proc proc /root/proc
/bin/busybox mount -t sysfs sysfs /root/sys
/bin/busybox mount -t devtmpfs devtmpfs /root/dev
/bin/busybox mkdir -p /root/dev/shm /root/tmp/{modules_dir}
/bin/busybox mount -t tmpfs tmpfs /root/dev/shm
/bin/busybox cp /{modules_dir}/* /root/tmp/{modules_dir}/
/bin/busybox ip link set lo up
/bin/busybox chroot /root /bin/sh -c {command}
echo {end}$?
/bin/busybox poweroff -f
"""


def unpacked(package: str, place: Path) -> Path:
    """A package of Debian's, got and unpacked there unless it was before; nothing is installed."""
    if not place.exists():
        new = place.with_suffix(".new")
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(parents=True)
        get = ["apt-get", "download", "-q", package]
        subprocess.run(get, cwd=new, check=True, stderr=subprocess.DEVNULL)
        (file,) = new.glob("*.deb")
        subprocess.run(["dpkg", "-x", str(file), str(new)], check=True)
        file.unlink()
        new.rename(place)
    return place


def kernel_package() -> str:
    """The one that the package of the present kernel depends on."""
    depends = ["apt-cache", "depends", PACKAGE]
    said = subprocess.run(depends, capture_output=True, text=True, check=True).stdout
    words = said.split()  # its own name comes first
    return words[words.index("Depends:") + 1]


class Kernel:
    """Debian's, with its modules."""

    def __init__(self, place: Path) -> None:
        self.image = next(place.glob("boot/vmlinuz-*"))
        self.modules = next((place / "lib/modules").iterdir())
        if not (self.modules / "modules.dep").exists():
            depmod = [str(BUSYBOX), "depmod", "-b", str(place), self.modules.name]
            subprocess.run(depmod, check=True)

    def files(self, names: Iterable[str]) -> list[Path]:
        """The modules of these names, each after those that it needs; what is built in is left out."""
        needs = {}
        for line in (self.modules / "modules.dep").read_text().splitlines():
            path, _, rest = line.partition(":")
            needs[path] = rest.split()
        by_name = {Path(path).name.partition(".")[0].replace("-", "_"): path for path in needs}
        found: dict[str, None] = {}

        def add(path: str) -> None:
            for each in needs[path]:
                add(each)
            found.setdefault(path)

        for name in names:
            if name in by_name:
                add(by_name[name])
        return [self.modules / path.split(f"{self.modules.name}/")[-1] for path in found]


def _newc(name: str, mode: int, data: bytes, number: int) -> bytes:
    """An entry of a cpio archive (Documentation/driver-api/early-userspace/buffer-format.rst)."""
    raw = name.encode() + b"\0"
    fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(raw), 0)
    head = b"070701" + b"".join(f"{field:08x}".encode() for field in fields) + raw
    return head + bytes(-len(head) % 4) + data + bytes(-len(data) % 4)


def initramfs(kernel: Kernel, command: str) -> bytes:
    """busybox, modules, and a process 1 that runs `command` with this machine's root as its own."""
    root = kernel.files(ROOT_MODULES)
    guest = kernel.files(GUEST_MODULES)
    words = " ".join(path.name for path in root)
    init = _INIT.format(
        modules=words, modules_dir=MODULES_DIR, command=shlex.quote(command), end=END
    )
    entries: list[tuple[str, int, bytes]] = [
        ("bin", 0o40755, b""),
        (MODULES_DIR, 0o40755, b""),
        ("bin/busybox", 0o100755, BUSYBOX.read_bytes()),
        ("init", 0o100755, init.encode()),
    ]
    entries += [(path.name, 0o100644, path.read_bytes()) for path in root]
    # In the order in which they are to be loaded.
    for at, path in enumerate(guest):
        entries.append((f"{MODULES_DIR}/{at:03d}-{path.name}", 0o100644, path.read_bytes()))
    archive = b"".join(_newc(*entry, number) for number, entry in enumerate(entries, 1))
    return archive + _newc("TRAILER!!!", 0, b"", 0)


def run(words: list[str]) -> int:
    """Run the guest's tests, `words` for its pytest; the exit status of that, 70 if the machine gave none."""
    unpacked("busybox-static", TOOLS)
    place = PLACE / "kernel"
    kernel = Kernel(place if place.exists() else unpacked(kernel_package(), place))
    python = shlex.quote(str(Path(sys.prefix) / "bin/python"))
    pytest = f"{python} -m pytest -p no:cacheprovider -p no:xdist --color no {shlex.join(words)}"
    home = f"cd {shlex.quote(str(REPOSITORY))} && export HOME=/tmp PATH={shlex.quote(os.environ['PATH'])}"
    image = PLACE / "initramfs"
    image.write_bytes(initramfs(kernel, f"{home} && {pytest}"))
    command = [
        "qemu-system-x86_64",
        *("-accel", "tcg", "-cpu", "max", "-m", "1024", "-nographic", "-no-reboot", "-nodefaults"),
        *("-kernel", str(kernel.image), "-initrd", str(image), "-serial", "stdio"),
        *(
            "-append",
            "console=ttyS0 quiet panic=-1 no_timer_check rdinit=/init random.trust_cpu=on",
        ),
        *("-virtfs", "local,path=/,mount_tag=root,security_model=none,readonly=on,multidevs=remap"),
    ]
    status = 70
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, errors="replace"
    ) as machine:
        assert machine.stdout is not None
        for line in machine.stdout:
            if line.startswith(END):
                status = int(line.removeprefix(END))
            else:
                sys.stdout.write(line)
                sys.stdout.flush()
    return status
