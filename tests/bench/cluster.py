"""Three members: what a lock costs whose master is another member, and one that no other member uses.

The lab of `clufs lab`, with a program inside each member that measures there.
"""

from __future__ import annotations

import json
import os
import re
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from clufs.lab import plan, processes
from tests.bench import etcd, lockfiles, throughput
from tests.bench.measure import Samples, Size, alternate, cpu_of_pins
from tests.bench.report import Row, Target, compared, figure
from tests.bench.servers import Clufs, running
from tests.cluster.lab import NAMES, Lab

_ROOT = Path(__file__).parents[2]
_PORT = 7999
_PING_PONG_LOCKS = 3  # one more than there are players, as ping_pong wants it
_OFTEN_S, _AT_TIMES_S = 0.0005, 0.01
"""How often a lock's master uses it itself, so that it stays its master, where one and where many clients
ask for it elsewhere."""
PUBLIC = Path(plan.MOUNT_POINT, "locks", "public")


class Teller:
    """A program of tests.bench.inside; `call` has it do something and returns what came of it."""

    def __init__(self, command: list[str]) -> None:
        self._process = subprocess.Popen(
            command, cwd=_ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def tell(self, deed: str, **arguments: object) -> None:
        """Have it begin."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps((deed, arguments)) + "\n")
        self._process.stdin.flush()

    def hear(self) -> Any:
        """What came of it, once it is done. Raises RuntimeError if it ended instead."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("a measuring program in a member ended")
        return json.loads(line)

    def call(self, deed: str, **arguments: object) -> Any:
        """Both."""
        self.tell(deed, **arguments)
        return self.hear()

    def close(self) -> None:
        """The end of its input is its end."""
        self._process.communicate()


def inside(*words: str) -> list[str]:
    """The command line of tests.bench.inside."""
    return [sys.executable, "-m", "tests.bench.inside", *words]


class Members:
    """A lab that is up, with a program to tell in each member."""

    def __init__(self, lab: Lab, stack: ExitStack) -> None:
        self.lab = lab
        self.tellers = {name: self._teller(stack, name, str(PUBLIC)) for name in NAMES}
        self.daemons = [self._daemon(member) for member in plan.Lab(lab.directory).members()]

    def _teller(self, stack: ExitStack, member: str, *words: str) -> Teller:
        teller = Teller(self.lab.line("exec", member, "--", *inside(*words)))
        stack.callback(teller.close)
        return teller

    def _daemon(self, member: plan.LabMember) -> int:
        init = processes.living(plan.Lab(self.lab.directory).init(member.name))
        pid = None if init is None else processes.service(init, member.clufsd)
        if pid is None:
            raise RuntimeError(f"{member.name}: no clufsd")
        return pid

    def tls(self, member: str) -> dict[str, object]:
        """With what a member answers round trips, and another makes them."""
        lab = plan.Lab(self.lab.directory)
        address = lab.member(member).address
        return {"keys": str(lab.keys / member), "address": address, "port": _PORT}

    def counters(self) -> dict[str, dict[str, int]]:
        """What the streams of each member have counted."""
        return {name: self._counters(name) for name in NAMES}

    def _counters(self, name: str) -> dict[str, int]:
        text = self.lab.do("exec", name, "--", "cat", "/clu/status/metrics")
        found = re.findall(r'^clufs_streams_total\{what="(\w+)"\} (\S+)', text, re.MULTILINE)
        return {what: int(float(count)) for what, count in found}

    @contextmanager
    def pinned(
        self, others: tuple[Teller, ...], daemons: tuple[int, ...], really: bool
    ) -> Iterator[None]:
        """All daemons and tellers on one CPU together, and `daemons` with `others` besides."""
        pids = [*self.daemons, *daemons]
        tellers = [*self.tellers.values(), *others]
        if really:
            for teller in tellers:
                teller.call("pin", cpu=cpu_of_pins())
            for pid in pids:
                self.pin(pid, {cpu_of_pins()})
        try:
            yield
        finally:
            everywhere = os.sched_getaffinity(0)
            for teller in tellers if really else ():
                teller.call("pin", cpu=None)
            for pid in pids if really else ():
                self.pin(pid, everywhere)

    @contextmanager
    def placed(self, places: Sequence[tuple[Teller, int, int, int]]) -> Iterator[None]:
        """Each of these: a teller, its CPU, a daemon, its CPU."""
        everywhere = os.sched_getaffinity(0)
        for teller, cpu, daemon, daemon_cpu in places:
            teller.call("pin", cpu=cpu)
            self.pin(daemon, {daemon_cpu})
        try:
            yield
        finally:
            for teller, _, daemon, _ in places:
                teller.call("pin", cpu=None)
                self.pin(daemon, everywhere)

    @staticmethod
    def pin(pid: int, cpus: set[int]) -> None:
        """All threads of a process to these CPUs."""
        for thread in os.listdir(f"/proc/{pid}/task"):
            os.sched_setaffinity(int(thread), cpus)


@contextmanager
def lab_up(directory: Path) -> Iterator[Members]:
    """A lab of three, from when all are in to when it is down."""
    lab = Lab(directory)
    lab.do("up")
    try:
        with ExitStack() as stack:
            yield Members(lab, stack)
    finally:
        lab.run("down")


def measure(size: Size, directory: Path) -> Iterator[Row]:
    """All rows of a cluster in good health."""
    with ExitStack() as stack:
        members = stack.enter_context(lab_up(directory / "lab"))
        alone = Clufs(directory, "alone")
        stack.enter_context(running(alone))
        teller = Teller(inside(str(alone.public)))
        stack.callback(teller.close)
        node = stack.enter_context(etcd.running(directory)) if etcd.is_installed() else None
        yield from _used_by_one(size, members, teller, alone)
        yield from throughput.measure(size, members, teller, alone.pid)
        yield from _used_elsewhere(size, members)
        yield from _together(size, members, node)
        yield from lockfiles.measure(size, members)


# ------------------------------------------------- a lock that one member uses


_KEYS = {"EX, NL": "conversions", "EX, UN": "lock"}


def _used_by_one(size: Size, members: Members, alone: Teller, daemon: Clufs) -> Iterator[Row]:
    mine = members.tellers[NAMES[0]]
    for teller in (mine, alone):
        teller.call("write", name="conversion", line="NL")
    pairs = {
        "EX, NL": ("conversion", ["EX", "NL"]),
        "EX, UN": ("lock", ["EX", "UN"]),
    }
    contestants: dict[str, Callable[[], float]] = {
        f"{what} {where}": partial(_pair_us, teller, name, lines, size.calls)
        for what, (name, lines) in pairs.items()
        for where, teller in (("alone", alone), ("in a cluster", mine))
    }
    one, other = _two_cpus()
    places = [(mine, one, members.daemons[0], other), (alone, one, daemon.pid, other)]
    ways: dict[str, AbstractContextManager[None]] = {
        "pinned": members.pinned((alone,), (daemon.pid,), True),
        "apart": members.placed(places),
        "free": members.pinned((alone,), (daemon.pid,), False),
    }
    for where, way in ways.items():
        with way:
            samples = alternate(contestants, size.rounds)
        for what in pairs:
            yield compared(
                f"own-{_KEYS[what]}-{where}",
                f"one of three members uses it: {what}, {where}",
                "us",
                samples[f"{what} in a cluster"],
                "a member alone",
                samples[f"{what} alone"],
                # Free, each pair is now on one CPU and now apart: only luck makes them alike.
                None if where == "free" else Target(1.1),
            )
    before = members.counters()
    for name, lines in pairs.values():
        _pair_us(mine, name, lines, size.calls)
    sent = members.counters()[NAMES[0]]["messages_sent"] - before[NAMES[0]]["messages_sent"]
    what = f"one of three members uses it: for {size.calls * 2:,} pairs"
    yield figure("own-messages", what, "messages", [sent], Target(0))


def _two_cpus() -> tuple[int, int]:
    cpus = sorted(os.sched_getaffinity(0))
    return cpus[0], cpus[-1]


def _pair_us(teller: Teller, name: str, lines: list[str], calls: int) -> float:
    return float(sum(teller.call("medians_us", name=name, lines=lines, calls=calls)))


# ------------------------------------------------- a lock whose master is elsewhere


def _used_elsewhere(size: Size, members: Members) -> Iterator[Row]:
    home, master = (members.tellers[name] for name in NAMES[:2])
    master.call("write", name="elsewhere", line="NL persistent")
    echo = members.tls(NAMES[1])

    def remote() -> float:
        grant, _ = home.call("medians_us", name="elsewhere", lines=["EX", "UN"], calls=size.calls)
        return float(grant)

    contestants: dict[str, Callable[[], float]] = {
        "remote": remote,
        "local": lambda: home.call("medians_us", name="here", lines=["EX", "UN"], calls=size.calls)[
            0
        ],
        "tls": lambda: home.call("tls_round_trips_us", calls=size.calls, **echo),
        "ping-pong": lambda: _ping_pong_us(master, home, size.window_s),
    }
    cpus = _two_cpus()
    places = [
        (members.tellers[name], cpu, daemon, cpu)
        for name, daemon, cpu in zip(NAMES, members.daemons, (*cpus, cpus[-1]), strict=True)
    ]
    ways: dict[str, AbstractContextManager[None]] = {
        "pinned": members.pinned((), (), True),
        "each": members.placed(places),
        "free": members.pinned((), (), False),
    }
    for where, way in ways.items():
        with way:
            master.call("use", names=["elsewhere"], every_s=_OFTEN_S)
            master.call("serve_tls", **echo)
            samples = alternate(contestants, size.rounds)
            master.call("end_tls")
            master.call("end_use")
        least = [a + b for a, b in zip(samples["tls"], samples["local"], strict=True)]
        placed = "a CPU each" if where == "each" else where
        yield compared(
            f"remote-grant-{where}",
            f"EX, master elsewhere, {placed}",
            "us",
            samples["remote"],
            "trio TLS round trip + the same here",
            least,
            Target(1.3),
        )
        yield compared(
            f"ping-pong-{where}",
            f"ping_pong by fcntl(2) between two members, for each byte, {placed}",
            "us",
            samples["ping-pong"],
            "EX, master elsewhere",
            samples["remote"],
            Target(3),
        )
    master.call("use", names=["elsewhere"], every_s=_OFTEN_S)
    before = members.counters()
    remote()
    after = members.counters()
    master.call("end_use")
    yield from _traffic(size, before, after)


def _ping_pong_us(one: Teller, other: Teller, window_s: float) -> float:
    """The slower of the two: one of them is the master."""
    words = {"name": "ping-pong", "locks": _PING_PONG_LOCKS, "window_s": window_s}
    for teller in (one, other):
        teller.tell("ping_pong_us", **words)
    return max(float(teller.hear()) for teller in (one, other))


def _traffic(
    size: Size, before: Mapping[str, Mapping[str, int]], after: Mapping[str, Mapping[str, int]]
) -> Iterator[Row]:
    """What the streams carried for EX + UN."""
    for what in ("messages_sent", "frames_sent", "bytes_sent"):
        grown = sum(after[name][what] - before[name][what] for name in NAMES[:2])
        unit = what.removesuffix("_sent")
        yield figure(f"remote-{unit}", "EX + UN, master elsewhere", unit, [grown / size.calls])


# ------------------------------------------------- beside etcd


def _together(size: Size, members: Members, node: etcd.Etcd | None) -> Iterator[Row]:
    home, other, master = (members.tellers[name] for name in NAMES)
    for number in range(size.clients):
        master.call("write", name=f"client{number}", line="NL persistent")
    for name in ("pair", "hand-over"):
        master.call("write", name=name, line="NL persistent")
    master.call("use", names=["pair"], every_s=_OFTEN_S)
    master.call("use", names=[f"client{n}" for n in range(size.clients)], every_s=_AT_TIMES_S)
    calls = max(size.calls // 4, 2)
    turns = max(size.calls // 40, 1)
    contestants: dict[str, Callable[[], float]] = {
        "pair": lambda: _pair_us(home, "pair", ["EX", "UN"], calls),
        "clients": lambda: home.call(
            "pairs_per_s", name="client", clients=size.clients, window_s=size.window_s
        ),
        "hand-over": lambda: _hand_over_us(home, other, turns),
    }
    if node is not None:
        contestants["etcd pair"] = lambda: node.pair_us(calls)
        contestants["etcd clients"] = lambda: node.pairs_per_s(size.clients, size.window_s)
        contestants["etcd hand-over"] = lambda: node.hand_over_us(turns)
    samples = alternate(contestants, size.rounds)
    master.call("end_use")
    clients = f"{size.clients} clients of one member, master elsewhere, free"
    yield _beside(samples, "pair", "EX + UN, master elsewhere, free", "us", Target(1 / 3))
    yield _beside(samples, "clients", clients, "pairs/s", Target(5, at_least=True))
    what = "hand-over between two members, the third is master, free"
    yield _beside(samples, "hand-over", what, "us", Target(0.2))


def _beside(samples: Samples, name: str, what: str, unit: str, target: Target) -> Row:
    theirs = samples.get(f"etcd {name}")
    key = f"remote-{name}"
    if theirs is None:
        return figure(key, what, unit, samples[name])
    return compared(key, what, unit, samples[name], "etcd, one node", theirs, target)


def _hand_over_us(one: Teller, other: Teller, turns: int) -> float:
    times = []
    one.call("ask_ns", name="hand-over")
    for _ in range(turns):
        other.tell("ask_ns", name="hand-over")
        begin = one.call("give_way_ns", name="hand-over")
        times.append(other.hear() - begin)
        one, other = other, one
    one.call("write", name="hand-over", line="UN")
    return float(statistics.median(times)) / 1000
