"""An oracle outside clufs: whoever holds EX finds nobody else inside, whatever is killed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.blackbox.clu import Clu

WORKERS = 12
SECONDS = 4.0

# Each worker enters a room that only one may be in: a file made with O_EXCL on the disk's own
# file system, which a killed worker leaves behind with its pid.
WORKER = r"""
import os, random, sys
lock, room, how, seed = sys.argv[1:]
chance = random.Random(int(seed))
access = os.O_RDWR if how == "descriptor" else os.O_WRONLY
fd = os.open(lock, access | os.O_CREAT)

def alive(pid):
    try:
        with open(f"/proc/{pid}/status") as status:
            return "VmSize" in status.read()
    except (FileNotFoundError, ProcessLookupError):
        return False

def enter():
    while True:
        try:
            inside = os.open(room, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
            os.write(inside, str(os.getpid()).encode())
            os.close(inside)
            return
        except FileExistsError:
            with open(room) as found:
                pid = found.read()
            # An empty room is one whose maker was killed between open and write. A process that
            # is exiting has given up its memory before it closes its descriptors: it is out.
            if pid and alive(pid):
                sys.exit(f"{pid} is inside too")
            os.unlink(room)

print("ready", flush=True)
for _ in range(100_000):
    os.write(fd, chance.choice([b"EX\n", b"EX\n", b"PW\n", b"EX timeout=5\n"]))
    enter()
    os.unlink(room)
    os.write(fd, chance.choice([b"UN\n", b"NL\n", b"NL value=x\n", b"UN value=x\n"]))
"""


def start(lock: Path, room: Path, seed: int) -> subprocess.Popen[str]:
    how = "descriptor" if seed % 2 else "process"
    command = [sys.executable, "-c", WORKER, str(lock), str(room), how, str(seed)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def test_nobody_is_ever_inside_twice(own_clu: Clu, tmp_path: Path) -> None:
    seed = int(os.environ.get("SEED", "1"))
    chance = random.Random(seed)
    print(f"SEED={seed}")
    lock, room = own_clu.public / "room", tmp_path / "room"
    workers = [start(lock, room, seed + index) for index in range(WORKERS)]
    killed = 0
    deadline = time.monotonic() + SECONDS
    try:
        while time.monotonic() < deadline:
            time.sleep(chance.uniform(0, 0.05))
            victim = chance.randrange(WORKERS)
            if workers[victim].poll() is not None:
                raise AssertionError(workers[victim].communicate()[1])
            how = chance.choice([signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP])
            workers[victim].send_signal(how)
            if how is signal.SIGSTOP:
                time.sleep(0.01)
                workers[victim].send_signal(signal.SIGCONT)
                continue
            workers[victim].communicate()
            killed += 1
            workers[victim] = start(lock, room, seed + 1000 + killed)
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
            if worker.stderr is not None:
                worker.stderr.close()
    assert killed > 10
    metrics = (own_clu.root / "status" / "metrics").read_text()
    (line,) = [line for line in metrics.splitlines() if line.startswith("clufs_grants_total ")]
    grants = float(line.split()[1])
    assert grants > 100
