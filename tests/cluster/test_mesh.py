"""The mesh on real sockets: order through every cut, and strangers that change nothing."""

import contextlib
import socket
import ssl
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
import trio

from clufs.cluster.authority import make_keys
from clufs.cluster.frames import PROTOCOL_MAX as NOW
from clufs.cluster.frames import Hello, pack
from clufs.cluster.interface import Peer, View
from clufs.cluster.keys import Keys
from clufs.cluster.mesh import Mesh
from clufs.errors import GarbageReceived
from clufs.limits import SEND_WINDOW_BYTES
from clufs.timeouts import DIAL_MAX_S, PEER_DEAD_S

A, B, C = (Peer(n, name, f"127.0.0.{n}") for n, name in enumerate(("a", "b", "c"), 1))
PEERS = (A, B, C)
VIEW = View(1, ((1, 10), (2, 20), (3, 30)), True)


class Cluster:
    """Members on loopback addresses; `got[id]` is what each was handed, as (sender, message)."""

    def __init__(self, directory: Path, nursery: trio.Nursery) -> None:
        self.directory = directory
        self.nursery = nursery
        make_keys(directory, [*"abc"])
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]
        self.got: dict[int, list[tuple[int, bytes]]] = {1: [], 2: [], 3: []}
        self.mesh: dict[int, Mesh] = {}

    def keys(self, name: str) -> Keys:
        return Keys.in_directory(self.directory / name)

    async def start(
        self, *members: Peer, view: View | None = VIEW, peer_dead_s: float = PEER_DEAD_S
    ) -> None:
        for me in members:
            mesh = Mesh(
                me, PEERS, self.keys(me.name), self.handler(me.id),
                cluster="clu", incarnation=10 * me.id, port=self.port,
                peer_dead_s=peer_dead_s,
            )  # fmt: skip
            if view is not None:
                mesh.set_view(view)
            self.mesh[me.id] = mesh
            await self.nursery.start(mesh.run)

    def handler(self, me: int) -> Callable[[int, bytes], None]:
        def handle(sender: int, message: bytes) -> None:
            if message == b"indigestible":
                raise GarbageReceived("indigestible")
            if message == b"cut":
                self.mesh[me]._neighbours[sender].drop("cut")
            self.got[me].append((sender, message))

        return handle

    def tls(self, name: str) -> ssl.SSLSocket:
        """A connection to C with the keys of `name`, handshake done."""
        raw = socket.create_connection((C.address, self.port), 5)
        return self.keys(name).dialing().wrap_socket(raw)


@pytest.fixture
async def cluster(tmp_path: Path, nursery: trio.Nursery) -> Cluster:
    return Cluster(tmp_path, nursery)


async def until(condition: Callable[[], object]) -> None:
    with trio.fail_after(10):
        while not condition():  # noqa: ASYNC110 (a mesh has no event for tests)
            await trio.sleep(0.005)


async def test_messages_go_every_way_in_order(cluster: Cluster) -> None:
    await cluster.start(*PEERS)
    for number in range(100):
        for me, mesh in cluster.mesh.items():
            for peer in {1, 2, 3} - {me}:
                assert mesh.send(peer, b"%d" % number)
    await until(lambda: all(len(got) == 200 for got in cluster.got.values()))
    for me, got in cluster.got.items():
        for peer in {1, 2, 3} - {me}:
            assert [m for sender, m in got if sender == peer] == [b"%d" % n for n in range(100)]
    assert cluster.mesh[1].counters.frames_sent < 20
    assert all(s.connected and s.version == NOW for s in cluster.mesh[1].states())


async def test_connections_cut_again_and_again(cluster: Cluster) -> None:
    await cluster.start(A, B)
    for number in range(400):
        cluster.mesh[1].send(2, b"%d" % number)
        cluster.mesh[2].send(1, b"%d" % number)
        link = cluster.mesh[1 + number % 2]._neighbours[2 - number % 2].link
        if number % 10 == 0 and link is not None:
            cluster.mesh[1].flush()
            with contextlib.suppress(OSError):
                link.sock.shutdown(socket.SHUT_RDWR)
        await trio.sleep(0.001)
    await until(lambda: len(cluster.got[1]) == len(cluster.got[2]) == 400)
    assert cluster.got[2] == [(1, b"%d" % n) for n in range(400)]
    assert cluster.got[1] == [(2, b"%d" % n) for n in range(400)]
    assert cluster.mesh[1].counters.connections > 2


async def test_a_connection_that_is_given_up_while_its_messages_are_handled(
    cluster: Cluster,
) -> None:
    await cluster.start(A, B)
    for message in (b"before", b"cut", b"after"):
        cluster.mesh[1].send(2, message)
        cluster.mesh[2].send(1, message)
    await until(lambda: len(cluster.got[1]) == len(cluster.got[2]) == 3)
    assert [m for _, m in cluster.got[2]] == [b"before", b"cut", b"after"]


async def test_a_member_that_comes_into_the_view_is_dialled_at_once(cluster: Cluster) -> None:
    await cluster.start(A, view=None)
    counters = cluster.mesh[1].counters
    await until(lambda: counters.unreachable >= 14)  # of two: the pauses are long by now
    tried = counters.unreachable
    await until(lambda: counters.unreachable >= tried + 2)
    await cluster.start(B)
    cluster.mesh[1].set_view(VIEW)
    cluster.mesh[1].send(2, b"welcome")
    with trio.fail_after(DIAL_MAX_S / 2):
        await until(lambda: cluster.got[2])


async def test_a_view_that_comes_later_here(cluster: Cluster) -> None:
    await cluster.start(A)
    await cluster.start(B, view=None)
    cluster.mesh[1].send(2, b"early")
    await until(lambda: cluster.mesh[2].counters.frames_received)
    await trio.sleep(0.02)
    assert cluster.got[2] == []
    cluster.mesh[2].set_view(VIEW)
    await until(lambda: cluster.got[2])
    assert cluster.got[2] == [(1, b"early")]


async def test_views_come_and_go_and_the_stream_goes_on(cluster: Cluster) -> None:
    await cluster.start(A, B)
    for number in range(300):
        cluster.mesh[1].send(2, b"%d" % number)
        cluster.mesh[2].send(1, b"%d" % number)
        if number % 10 == 0:
            members = VIEW.members if number % 20 else VIEW.members[:2]
            cluster.mesh[1 + number % 30 // 10 % 2].set_view(View(number + 2, members, True))
        if number % 50 == 0 and (link := cluster.mesh[1]._neighbours[2].link) is not None:
            with contextlib.suppress(OSError):
                link.sock.shutdown(socket.SHUT_RDWR)
        await trio.sleep(0.001)
    await until(lambda: len(cluster.got[1]) == len(cluster.got[2]) == 300)
    assert cluster.got[2] == [(1, b"%d" % n) for n in range(300)]
    assert cluster.got[1] == [(2, b"%d" % n) for n in range(300)]


async def test_a_member_is_dialled_where_its_hello_said(cluster: Cluster) -> None:
    await cluster.start(A)
    cluster.port, before = 0, cluster.port
    await cluster.start(B)
    assert cluster.mesh[2].port not in (0, before)
    cluster.mesh[1].set_addresses({1: ("127.0.0.1", 1), 2: (B.address, cluster.mesh[2].port)})
    cluster.mesh[1].send(2, b"found")
    await until(lambda: cluster.got[2] == [(1, b"found")])


async def test_a_slow_member_slows_nobody_else(cluster: Cluster) -> None:
    await cluster.start(A, C)
    slow = await trio.to_thread.run_sync(cluster.tls, "b")
    slow.sendall(pack(Hello(NOW, NOW, "clu", 2, 20, 30, 0)))
    await until(lambda: cluster.mesh[3].states()[1].connected)
    while cluster.mesh[3].send(2, bytes(50_000)):
        pass
    cluster.mesh[3].send(1, b"at once")
    await until(lambda: cluster.got[1] == [(3, b"at once")])
    with trio.move_on_after(0.05) as scope:
        await cluster.mesh[3].room(2)
    assert scope.cancelled_caught
    assert cluster.mesh[3]._neighbours[2].session._in_flight <= 2 * SEND_WINDOW_BYTES
    cluster.mesh[3].set_view(View(2, ((1, 10), (3, 30)), True))
    await cluster.mesh[3].room(2)
    slow.close()


async def test_a_message_that_is_not_understood_makes_its_sender_silent(cluster: Cluster) -> None:
    await cluster.start(A, B)
    for message in (b"good", b"indigestible", b"never"):
        cluster.mesh[1].send(2, message)
    await until(lambda: cluster.mesh[2].counters.garbage)
    assert cluster.got[2] == [(1, b"good")]
    assert cluster.mesh[2].silent_since(1) is not None
    assert cluster.mesh[1].silent_since(2) is None


async def test_a_member_that_never_speaks_is_silent(cluster: Cluster) -> None:
    await cluster.start(A, B, peer_dead_s=1.2)
    await until(lambda: cluster.mesh[1].silent_since(3) is not None)
    assert cluster.mesh[1].silent_since(2) is None


async def refused(cluster: Cluster, counter: str) -> None:
    """C counts it; what A sends to C still arrives."""
    await until(lambda: getattr(cluster.mesh[3].counters, counter))
    before = len(cluster.got[3])
    cluster.mesh[1].send(3, b"still here")
    await until(lambda: len(cluster.got[3]) > before)
    assert cluster.got[3] == [(1, b"still here")]


@pytest.mark.parametrize("data", [b"GET / HTTP/1.0\r\n\r\n", bytes(2000), b"\x16\x03\x01\x00"])
async def test_plain_text_is_refused(cluster: Cluster, data: bytes) -> None:
    await cluster.start(A, C)
    with socket.create_connection((C.address, cluster.port), 5) as stranger:
        stranger.sendall(data)
        stranger.shutdown(socket.SHUT_WR)
        await refused(cluster, "garbage" if len(data) > 4 else "torn")


async def test_a_stranger_is_refused(cluster: Cluster, tmp_path: Path) -> None:
    make_keys(tmp_path / "other", ["b"])
    await cluster.start(A, C)
    mixed = Keys(cluster.keys("b").authority, tmp_path / "other" / "b" / "member.pem")
    raw = socket.create_connection((C.address, cluster.port), 5)
    with await trio.to_thread.run_sync(mixed.dialing().wrap_socket, raw):
        await refused(cluster, "strangers")


@pytest.mark.parametrize(
    ("name", "data", "counter"),
    [
        ("c", b"", "wrong_names"),
        ("b", pack(Hello(NOW, NOW, "clu", 1, 10, 0, 0)), "wrong_names"),
        ("b", pack(Hello(0, 0, "clu", 2, 20, 0, 0)), "old_versions"),
        ("b", pack(Hello(NOW, NOW, "another", 2, 20, 0, 0)), "other_clusters"),
        ("b", b"\xff\xff\xff\xff", "garbage"),
        ("b", pack(Hello(NOW, NOW, "clu", 2, 20, 30, 5)), "garbage"),
        ("b", pack(Hello(NOW, NOW, "clu", 2, 20, 30, 0)) + b"\0\0\0\2\x91\x09", "garbage"),
        ("b", pack(Hello(NOW, NOW, "clu", 2, 20, 30, 0)) + b"\0\0\0\x50half", "torn"),
        ("b", pack(Hello(NOW, NOW, "clu", 2, 20, 30, 0))[:-2], "torn"),
    ],
)
async def test_a_member_that_is_wrong_is_refused(
    cluster: Cluster, name: str, data: bytes, counter: str
) -> None:
    await cluster.start(A, C)
    with await trio.to_thread.run_sync(cluster.tls, name) as wrong:
        wrong.sendall(data)
        if counter == "torn":
            wrong.shutdown(socket.SHUT_WR)
        await refused(cluster, counter)


async def test_a_newer_neighbour_is_understood(cluster: Cluster) -> None:
    await cluster.start(C)
    with await trio.to_thread.run_sync(cluster.tls, "b") as newer:
        for later in (
            [0, NOW, NOW + 1, "clu", 2, 20, 30, 0, "new"],
            [2, True, 1, 0, [b"hi"], {"new": 1}],
        ):
            body = msgspec.msgpack.encode(later)
            newer.sendall(len(body).to_bytes(4, "big") + body)
        await until(lambda: cluster.got[3] == [(2, b"hi")])
        assert cluster.mesh[3].states()[1].version == NOW


async def test_what_handlers_send_leaves_in_one_frame(cluster: Cluster) -> None:
    await cluster.start(A, B)
    await until(lambda: cluster.mesh[1].states()[0].connected)
    mesh = cluster.mesh[2]
    handle = mesh._neighbours[1].handler

    def answer(sender: int, message: bytes) -> None:
        handle(sender, message)
        for _ in range(3):
            mesh.post(1, b"answer to " + message)
            mesh.flush()

    mesh._neighbours[1].handler = answer
    cluster.mesh[1].post(2, b"a")
    cluster.mesh[1].post(2, b"b")
    frames = mesh.counters.frames_sent
    cluster.mesh[1].flush()
    await until(lambda: len(cluster.got[1]) == 6)
    assert [text for _, text in cluster.got[1]] == [b"answer to a"] * 3 + [b"answer to b"] * 3
    assert mesh.counters.frames_sent <= frames + 2  # one may say that the view has the other
