"""`make qemu`: the kernel's side of LUNs and watchdogs, tried in a virtual machine."""

import sys

from tests.qemu.machine import REPOSITORY, run

TESTS = sorted(str(path) for path in (REPOSITORY / "tests/qemu").glob("guest_*.py"))

sys.exit(run(sys.argv[1:] or ["-q", "--timeout", "300", *TESTS]))
