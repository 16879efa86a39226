"""The keeper: the process that runs the actions of one member, and ends them.

    python -m clufs.actions.keeper SOCKET STATE SYSTEMCTL DESCRIPTORS cgroups|ancestry

Starts by ending all that an earlier keeper left. Then it does what the daemon says on SOCKET, an inherited
descriptor. When the daemon is gone it ends everything at once, and itself: a daemon that died counts
as lost, its applications will be started on other members, and no daemon takes them over.

It is a process of its own so that a hundred scripts a second delay no lock, and has one thread,
so that it may fork.
"""

from __future__ import annotations

import gc
import os
import selectors
import signal
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path

from clufs.actions import cgroup, descendants, leftovers, reaper, wire
from clufs.actions.record import Process, Record
from clufs.actions.under_way import Action, Stream
from clufs.errors import GarbageReceived
from clufs.limits import KEEPER_UNSENT_BYTES
from clufs.timeouts import ENDING_AGAIN_S, ENDING_LOOK_S

_READ_BYTES = 2**16


class _DaemonGone(Exception):
    """The other end of the socket is closed."""


class Keeper:
    """Runs actions for the daemon at the other end of a socket."""

    def __init__(
        self, daemon: socket.socket, record: Record, systemctl: str, descriptors: int
    ) -> None:
        self._daemon = daemon
        self._record = record
        self._systemctl = systemctl
        self._descriptors = descriptors
        self._frames = wire.Frames()
        self._unsent = bytearray()
        self._selector = selectors.DefaultSelector()
        self._actions: dict[int, Action] = {}
        self._streams: set[Stream] = set()
        self._ending: dict[int, set[int]] = {}
        self._strays = False
        self._pause_s = ENDING_LOOK_S
        self._next_look = 0.0
        self._cgroup: Path | None = None

    def run(self, use_cgroups: bool) -> None:
        """Serve until the daemon is gone; then nothing is left of what was started."""
        # Whoever was below a reaper that somebody killed comes to us.
        reaper.adopt_orphans()
        found = leftovers.end_all(self._record, self._systemctl)
        Process.own().write(self._record.keeper)
        self._cgroup = self._make_cgroup() if use_cgroups else None
        try:
            self._say(wire.Ready(found))
            self._daemon.setblocking(False)
            self._selector.register(self._daemon, selectors.EVENT_READ, self._hear)
            while True:
                self._serve_once()
        except (_DaemonGone, ConnectionError, GarbageReceived) as error:
            self._end_everything(str(error))

    def _serve_once(self) -> None:
        for key, _ in self._selector.select(self._wait_s()):
            key.data()
        now = time.monotonic()
        for stream in [stream for stream in self._streams if stream.is_due(now)]:
            self._tell_output(stream, now)
        if self._wants_look() and now >= self._next_look:
            self._look(now)
        self._send()

    def _wait_s(self) -> float | None:
        due = [stream.due for stream in self._streams if stream.due is not None]
        if self._wants_look():
            due.append(self._next_look)
        return max(0.0, min(due) - time.monotonic()) if due else None

    # ----------------------------------------------------------------- cgroups

    def _make_cgroup(self) -> Path | None:
        """A directory for the applications' cgroups, tried out; None where that cannot be."""
        own = cgroup.own_place()
        if own is None:
            return None
        place = own / f"clufs-{os.urandom(8).hex()}"
        self._record.set_cgroup(place)
        if _can_be_used(place):
            return place
        cgroup.remove(place)
        self._record.set_cgroup(None)
        return None

    # ------------------------------------------------------ to and from the daemon

    def _say(self, message: wire.ToDaemon) -> None:
        self._unsent += wire.frame(message)
        self._send()

    def _send(self) -> None:
        while self._unsent:
            try:
                sent = self._daemon.send(self._unsent)
            except BlockingIOError:
                break
            del self._unsent[:sent]
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._unsent else 0)
        with suppress(KeyError):
            self._selector.modify(self._daemon, events, self._hear)

    def _hear(self) -> None:
        with suppress(BlockingIOError):
            data = self._daemon.recv(_READ_BYTES)
            if not data:
                raise _DaemonGone("closed")
            for body in self._frames.add(data):
                self._obey(wire.to_keeper.decode(body))

    def _obey(self, message: wire.ToKeeper) -> None:
        match message:
            case wire.Run():
                self._run(message)
            case wire.Kill(action=number):
                if number in self._actions:
                    self._actions[number].killing = True
                    self._look_soon()
            case wire.End():
                self._end(message)
            case wire.Ask():
                self._say(wire.Left(self._resources_left(), self._record.units()))

    def _resources_left(self) -> list[str]:
        actions = self._actions.values()
        return sorted({action.resource for action in actions if action.has_left()})

    # -------------------------------------------------------------------- starting

    def _run(self, ask: wire.Run) -> None:
        try:
            self._actions[ask.action] = self._start(ask)
        except OSError as error:
            _note(f"{ask.resource}: {error}")
            self._say(wire.Ended(ask.action, -1, error.errno or -1))

    def _start(self, ask: wire.Run) -> Action:
        argv = list(ask.argv)
        if ask.script is not None:
            argv[0] = str(self._record.keep_script(ask.resource, ask.name, ask.script))
        if ask.unit:
            self._record.set_unit(ask.resource, ask.unit)
        place = None
        if self._cgroup is not None:
            place = cgroup.action_place(self._cgroup, ask.resource, ask.action)
            cgroup.make(place)
        record = self._record.reaper(ask.resource, ask.action)
        output, prints = os.pipe()
        outcome, tells = os.pipe()
        try:
            plan = reaper.Plan(
                argv, ask.environment, prints, tells, record, place, self._descriptors
            )
            pid = reaper.start(plan)
        except OSError:
            os.close(output)
            os.close(outcome)
            raise
        finally:
            os.close(prints)
            os.close(tells)
        action = Action(ask.action, ask.resource, pid, os.pidfd_open(pid), outcome, place, record)
        self._follow(action, output)
        return action

    def _follow(self, action: Action, output: int) -> None:
        os.set_blocking(output, False)
        stream = Stream(action.number, action.resource, output)
        action.stream = stream
        self._streams.add(stream)
        register = self._selector.register
        register(output, selectors.EVENT_READ, lambda: self._read(stream))
        register(action.outcome, selectors.EVENT_READ, lambda: self._ended(action))
        register(action.reaper_handle, selectors.EVENT_READ, lambda: self._reaper_gone(action))

    # ---------------------------------------------------------------------- output

    def _read(self, stream: Stream) -> None:
        if stream.closed or stream.held_back:
            return  # since the events of this round were taken
        if not stream.read(time.monotonic()):
            self._close_stream(stream)
        elif stream.is_full:
            self._selector.unregister(stream.fd)
            stream.held_back = True

    def _close_stream(self, stream: Stream) -> None:
        self._selector.unregister(stream.fd)
        os.close(stream.fd)
        stream.closed = True
        if stream.due is None:
            self._streams.discard(stream)

    def _tell_output(self, stream: Stream, now: float) -> None:
        if len(self._unsent) > KEEPER_UNSENT_BYTES:
            stream.put_off(now)
            return
        self._flush(stream)
        self._go_on(stream)

    # ---------------------------------------------------------------------- ending

    def _ended(self, action: Action) -> None:
        """The action's own process has ended; what it started may go on."""
        self._selector.unregister(action.outcome)
        raw = os.read(action.outcome, reaper.OUTCOME.size)
        os.close(action.outcome)
        whole = len(raw) == reaper.OUTCOME.size
        status, error, left = reaper.OUTCOME.unpack(raw) if whole else (-1, -1, 1)
        stream = action.stream
        if stream is not None:
            self._tell_rest(stream)
        action.left = bool(left)
        self._say(wire.Ended(action.number, status, error))

    def _tell_rest(self, stream: Stream) -> None:
        """All that was printed before the end goes out before the end is told."""
        self._flush(stream)
        if not stream.closed:
            self._go_on(stream)
            # A pipe holds no more than one read.
            self._read(stream)
            self._flush(stream)
        stream.later = True
        self._go_on(stream)

    def _flush(self, stream: Stream) -> None:
        if stream.due is not None:
            self._say(wire.Printed(stream.action, stream.resource, stream.take()))
        if stream.closed:
            self._streams.discard(stream)

    def _go_on(self, stream: Stream) -> None:
        """Read again from one that was held back."""
        if stream.held_back:
            stream.held_back = False
            self._selector.register(stream.fd, selectors.EVENT_READ, lambda: self._read(stream))

    def _reaper_gone(self, action: Action) -> None:
        self._selector.unregister(action.reaper_handle)
        os.close(action.reaper_handle)
        _, status = os.waitpid(action.reaper, 0)
        action.reaper_gone = True
        if status != 0:
            # What was below it has come to us, and is not known any more to be the action's.
            if not action.killing:
                _note(f"the process above {action.resource} was killed: it is ended")
            action.killing = self._strays = True
        if not self._finish(action):
            action.killing = True
            self._look_soon()

    def _end(self, ask: wire.End) -> None:
        if ask.unit_ended:
            self._record.set_unit(ask.resource, None)
        mine = [action for action in self._actions.values() if action.resource == ask.resource]
        for action in mine:
            action.killing = True
        self._ending[ask.order] = {action.number for action in mine}
        self._look_soon()

    def _look_soon(self) -> None:
        self._pause_s = ENDING_LOOK_S
        self._next_look = 0.0

    def _wants_look(self) -> bool:
        killing = any(action.killing for action in self._actions.values())
        return killing or self._strays or bool(self._ending)

    def _look(self, now: float) -> None:
        """Kill what is to be killed, and tell what is gone."""
        for action in [action for action in self._actions.values() if action.killing]:
            if not self._finish(action):
                action.kill()
        if self._strays:
            self._strays = not self._kill_strays()
        for order, actions in list(self._ending.items()):
            if not actions & self._actions.keys():
                del self._ending[order]
                self._say(wire.Emptied(order))
        self._next_look = now + self._pause_s
        self._pause_s = min(2 * self._pause_s, ENDING_AGAIN_S)

    def _finish(self, action: Action) -> bool:
        """Forget an action of which nothing is left; whether nothing is."""
        if not action.is_gone():
            return False
        if action.cgroup is not None:
            cgroup.remove_action(action.cgroup)
        action.record.unlink(missing_ok=True)
        self._actions.pop(action.number, None)
        return True

    def _kill_strays(self) -> bool:
        """Kill the children that came to us from a killed reaper; whether there is none."""
        reapers = frozenset(a.reaper for a in self._actions.values() if not a.reaper_gone)
        none = descendants.kill_below([os.getpid()], reapers)
        strays = set(descendants.children(zombies=True)[os.getpid()]) - reapers
        for stray in strays:
            with suppress(ChildProcessError):
                os.waitpid(stray, os.WNOHANG)
        return none and not strays

    def _end_everything(self, why: str) -> None:
        self._selector.close()
        self._daemon.close()
        ended = leftovers.end_all(self._record, self._systemctl)
        if ended:
            _note(f"the daemon is gone ({why}): ended {' '.join(ended)}")
        leftovers.wait_until(self._kill_strays)
        self._record.keeper.unlink(missing_ok=True)


def _note(text: str) -> None:
    # The logging module would make every fork dearer.
    print(f"clufs keeper: {text}", file=sys.stderr, flush=True)


def _can_be_used(place: Path) -> bool:
    """Make a directory for cgroups, and try whether a process can be put below it."""
    trial = place / "trial"
    try:
        place.mkdir()
        trial.mkdir()
    except OSError:
        return False
    words = ["/bin/sh", "-c", 'echo 0 > "$0/cgroup.procs"', str(trial)]
    nowhere = (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0)
    _, status = os.waitpid(os.posix_spawn(words[0], words, {}, file_actions=[nowhere]), 0)
    cgroup.remove(trial)
    return status == 0


def _serve(fd: str, state: str, systemctl: str, descriptors: str, by: str) -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    os.chdir("/")
    os.umask(0o077)
    record = Record(Path(state))
    record.prepare()
    # A collection writes into every page; here nothing makes cycles, and forks share what is not written to.
    gc.collect()
    gc.freeze()
    gc.disable()
    with socket.socket(fileno=int(fd)) as daemon:
        daemon.set_inheritable(False)
        Keeper(daemon, record, systemctl, int(descriptors)).run(use_cgroups=by == "cgroups")


if __name__ == "__main__":
    _serve(*sys.argv[1:])
