"""What the daemon asks of a machine for CAA: run an action, end an application, watch a network or a device."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

Entry = Literal["start", "stop", "check"]
MonitorKind = Literal["network", "tape", "changer"]

OnLine = Callable[[str], None]
"""Gets each line that an action prints while it is under way, without its newline, as it comes. What is no UTF-8
comes as `\\xNN`."""

Tell = Callable[[str, bool], None]
"""Gets the name of a watched resource and whether it is ONLINE here."""


@dataclass(frozen=True, slots=True)
class ActionSpec:
    """One action of an application.

    action_script: the profile's ACTION_SCRIPT: a name in /clu/scripts, an absolute path, `systemd:UNIT` or
    `ocf:PROVIDER:AGENT`. script: the bytes of the file in /clu/scripts, for a name; None if there is none.
    environment: all of it (`clufs.caa.environment.action_environment`).
    """

    resource: str
    entry: Entry
    action_script: str
    script: bytes | None
    environment: Mapping[str, str]
    timeout_s: float


@dataclass(frozen=True, slots=True)
class ActionResult:
    """How an action ended.

    ok: it did what its entry asks; a check: the application runs. why: one sentence for the history; if ok, too.
    exit_status: of its process, negative for the signal it died of; None if it could not be run or was
    ended after SCRIPT_TIMEOUT. output: the last of what it printed. keeper_died: it was cut short by that,
    and the next keeper ends all that is left of the application before anything else.
    """

    ok: bool
    why: str
    exit_status: int | None
    timed_out: bool
    output: bytes
    keeper_died: bool = False


class ActionRunner(Protocol):
    """Runs actions, and can end all that they started. `clufs.actions.runner.Runner` is the one there is."""

    @property
    def is_clean(self) -> bool:
        """Whether a daemon before this one has left nothing, as is known without waiting."""

    async def serve(self) -> None:
        """Run the keeper, another one if it dies, until cancelled; then nothing that was started is left.

        Before the first action it ends all that an earlier daemon left behind; `run` waits for it.
        """

    async def run(self, spec: ActionSpec, on_line: OnLine | None = None) -> ActionResult:
        """Run one action to its end. Cancelled, or out of time, all that it started is killed.

        What an earlier `start` of the application started goes on in either case. Raises nothing of its own.
        """

    async def end(self, resource: str) -> None:
        """Kill all that the actions of the application started and wait until it is gone, however long.

        That includes what left its session and what ignores signals. Systemd units that it started are
        killed and stopped. Actions under way end with a failure.
        """

    async def is_empty(self, resource: str) -> bool:
        """Whether nothing that its actions started is left."""

    async def running(self) -> list[str]:
        """The applications of which something is left, sorted."""

    def output(self, resource: str) -> bytes:
        """The last OUTPUT_KEPT_BYTES that the application and its actions printed, since this daemon started."""

    def forget(self, resource: str) -> None:
        """It is no longer registered: nothing of its output and its script is kept."""


class Monitors(Protocol):
    """Watches networks and devices of this member. `clufs.actions.monitors.MachineMonitors` is the one there is."""

    async def serve(self) -> None:
        """Look, and tell, until cancelled.

        `tell` hears of each watched resource once, soon after `watch`, and then of every change.
        """

    def watch(self, resource: str, kind: MonitorKind, where: str) -> None:
        """Begin to watch a SUBNET (of a network) or a DEVICE_NAME (of a tape or changer), or watch it anew."""

    def unwatch(self, resource: str) -> None:
        """Tell nothing more of it."""
