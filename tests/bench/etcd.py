"""etcd's locks beside those of clufs: one node on loopback, asked over its JSON gateway.

A program with one connection that is kept, as a client in Python would be. Only where etcd is
installed (`BENCH_ETCD=1 make bench` installs it).
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import statistics
import subprocess
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic_ns, perf_counter_ns
from typing import Any

from tests.bench.crowd import per_s
from tests.bench.hand_over import until

_LEASE_S = 600

_WATCHES_SETTLE_S = 0.25
"""etcd looks every 100 ms at watches that are new; a release in this time is told that late."""


def is_installed() -> bool:
    """Whether there is an etcd to compare with."""
    return shutil.which("etcd") is not None


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody listens on."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


class Client:
    """One connection with a lease of its own."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port)
        self._connection.connect()
        self._connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._lease = self._post("/v3/lease/grant", {"TTL": _LEASE_S})["ID"]

    def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        self._connection.request("POST", path, json.dumps(body))
        answer = self._connection.getresponse()
        text = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"etcd: {path}: {text!r}")
        found: dict[str, Any] = json.loads(text)
        return found

    def lock(self, name: str) -> str:
        """Returns when it is granted, with the key that unlocks it."""
        asked = {"name": b64encode(name.encode()).decode(), "lease": self._lease}
        key: str = self._post("/v3/lock/lock", asked)["key"]
        return key

    def unlock(self, key: str) -> None:
        """Give a lock back."""
        self._post("/v3/lock/unlock", {"key": key})

    def asking(self, name: str) -> int:
        """How many hold or await a lock."""
        first, end = (b64encode(f"{name}{mark}".encode()).decode() for mark in "/0")
        wanted = {"key": first, "range_end": end, "count_only": True}
        return int(self._post("/v3/kv/range", wanted).get("count", 0))


class Etcd:
    """A node; what is measured of it has the units of clufs's rows."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._client = Client(port)

    def pair_us(self, calls: int) -> float:
        """The median of a lock and its release."""
        times = []
        for _ in range(calls):
            begin = perf_counter_ns()
            self._client.unlock(self._client.lock("pair"))
            times.append(perf_counter_ns() - begin)
        return statistics.median(times) / 1000

    def pairs_per_s(self, clients: int, window_s: float) -> float:
        """So many processes, each with a lock of its own."""

        def pairs(number: int) -> Callable[[], None]:
            client = Client(self._port)
            return lambda: client.unlock(client.lock(f"client{number}"))

        return per_s(pairs, clients, window_s)

    def hand_over_us(self, turns: int) -> float:
        """From before the release to when another process has the lock, the median."""
        return statistics.median(self._hand_over_ns() for _ in range(turns)) / 1000

    def _hand_over_ns(self) -> int:
        key = self._client.lock("hand-over")
        times, time_of = os.pipe()
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                client = Client(self._port)
                theirs = client.lock("hand-over")
                os.write(time_of, monotonic_ns().to_bytes(8, "little"))
                client.unlock(theirs)
                status = 0
            finally:
                os._exit(status)
        until(lambda: self._client.asking("hand-over") == 2, "the other's request")
        time.sleep(_WATCHES_SETTLE_S)
        begin = monotonic_ns()
        self._client.unlock(key)
        end = int.from_bytes(os.read(times, 8), "little")
        os.waitpid(pid, 0)
        os.close(times)
        os.close(time_of)
        return end - begin


@contextmanager
def running(directory: Path) -> Iterator[Etcd]:
    """A node of its own, on ports that nobody else has, gone at the end."""
    client, peer = free_ports(2)
    url, peers = f"http://127.0.0.1:{client}", f"http://127.0.0.1:{peer}"
    words = ["--name", "bench", "--data-dir", str(directory / "etcd"), "--log-level", "error"]
    words += ["--listen-client-urls", url, "--advertise-client-urls", url]
    words += ["--listen-peer-urls", peers, "--initial-advertise-peer-urls", peers]
    words += ["--initial-cluster", f"bench={peers}"]
    with (directory / "etcd.log").open("w") as log:
        process = subprocess.Popen(["etcd", *words], stdout=log, stderr=log)
    try:
        until(lambda: _answers(client), "etcd")
        yield Etcd(client)
    finally:
        process.kill()
        process.wait()


def _answers(port: int) -> bool:
    try:
        Client(port)
    except (OSError, http.client.HTTPException, RuntimeError):
        time.sleep(0.05)
        return False
    return True
