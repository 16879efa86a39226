"""Every time of a disk lease, derived from the LUN's io timeout and the watchdog's; the rest is in clufs.timeouts."""

from dataclasses import dataclass

from clufs.timeouts import LUN_COMMAND_S, LUN_CONNECT_S

IO_TIMEOUT_S = LUN_COMMAND_S
"""A LUN's io timeout unless it was formatted with another one: from it all of `LeaseTimeline` follows."""

WATCHDOG_S = 60.0
"""What a watchdog is set to unless the LUN was formatted with another time: softdog's and most boards' own."""

CLOCK_DRIFT = 0.01
"""Two machines' clocks run apart by no more: twenty times what NTP may bend one."""

QUEUED_WRITE_S = 30.0
"""The longest life of a write that a dead machine had handed over: the kernel's own timeout of a SCSI disk."""

SUPERVISOR_LOOK_S = 0.5
"""How often the supervisor looks at its clock: half a second is nothing to the seconds that it waits."""


@dataclass(frozen=True, slots=True)
class LeaseTimeline:
    """When what happens to a member whose heartbeat on the LUN ends, in seconds from the beginning of its last
    write that arrived; from two inputs, as the LUN's header has them. With the defaults:

        here, by our own CLOCK_BOOTTIME

        t =   0.0              the clock is read, then the record is written
        t =  20.0  renew_s     the next one is due: it gets no answer
        t =  30.0  retry_s     it is given up, and tried again at once, and so on
        t =  60.0  warn_s      the daemon is warned: it tells no grant any more
        t =  80.0  fail_s      the daemon ends holders and applications; the lease process leaves the
                               watchdog alone from here on
        t = 140.0  dead_s      the watchdog has fired, whatever the daemon, or the whole machine, is up to

        there, by their own clock, from the moment they first saw that last record

        t =  60.0  warn_s      shown as slow
        t = 140.0  dead_s      shown as dead
        t = 171.4  takeover_s  only now may they take over, if time is all that they have: our clock may be
                               slower than theirs, and a write of ours may lie in a queue that long

        there, from the moment the member was told to stop

        t = 221.4  by_time_s   that is so at worst

    They see a record at least io_timeout_s late, never early, so theirs begins after ours. With persistent
    reservations nobody waits for any of this: the proof is that the LUN refuses our writes.

    A member that was stopped and goes on finds by its clock that it is past warn_s before it tells
    anything; what its processes do in between, only a reservation or the watchdog prevents.
    """

    io_timeout_s: float = IO_TIMEOUT_S
    watchdog_s: float = WATCHDOG_S

    @property
    def renew_s(self) -> float:
        """From one beat to the next."""
        return 2 * self.io_timeout_s

    @property
    def retry_s(self) -> float:
        """A beat that was due gets no answer, and the next one begins."""
        return self.renew_s + self.io_timeout_s

    @property
    def warn_s(self) -> float:
        """The lease is in danger: nothing is granted by it. To others it is slow."""
        return 6 * self.io_timeout_s

    @property
    def fail_s(self) -> float:
        """The lease is over."""
        return 8 * self.io_timeout_s

    @property
    def dead_s(self) -> float:
        """The watchdog was last reset before fail_s."""
        return self.fail_s + self.watchdog_s

    @property
    def takeover_s(self) -> float:
        """Who was seen to be dead has no write under way any more."""
        return self.dead_s * (1 + CLOCK_DRIFT) + QUEUED_WRITE_S

    @property
    def by_time_s(self) -> float:
        """The worst case from telling a member to stop to taking over by time alone: it reads that at its next beat,
        its last record is seen io_timeout_s late, and our look at it may be one beat old."""
        return self.renew_s + self.io_timeout_s + self.takeover_s + self.renew_s

    @property
    def supervisor_s(self) -> float:
        """What the supervisor is set to: it looks at its clock now and then, and has yet to kill."""
        return max(self.watchdog_s / 2, self.watchdog_s - 2 * SUPERVISOR_LOOK_S)

    @property
    def pet_s(self) -> float:
        """How often the watchdog is reset: a pause of a quarter of its time is no reason for a reset."""
        return min(self.io_timeout_s, self.watchdog_s / 4)


LUN_AGAIN_S = 0.1
"""The pause after all paths to a LUN of clufs' own have failed; most failures take their own time."""

LEASE_END_S = 5.0
"""How long the lease process may take for its goodbye to the LUNs before it is killed."""

LEASE_MUTE_S = 3 * LUN_CONNECT_S
"""A lease process that has not come as far as a lease and says nothing for so long hangs: it tells of each LUN that
cannot be opened within LUN_CONNECT_S. Later its silence shows by the lease itself."""
