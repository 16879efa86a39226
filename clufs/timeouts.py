"""Every timeout and period of clufs, in seconds unless the name says otherwise.

One member alone, a SIGTERM with holders and waiters present (t in seconds):

    t = 0        no new locks; waiters end with ESHUTDOWN, `lost=` signals and POLLHUP go out
    t = 0        alone, nobody else can be granted the locks: it does not wait for the holders
    t < 1        unmounted (detached if somebody still stands in it), exit 0
"""

STOP_S = 5.0
"""How long holders have after POLLHUP before SIGKILL when the cluster has other members (contract 0)."""

PENDING_SIGNAL_POLL_S = 0.02
"""FUSE_INTERRUPT comes once per request; waiters that ignored their first signal are looked at this often."""

EXIT_SWEEP_S = 0.1
"""Longest time between two looks at the exited processes while requests come without a pause: a pid
cannot be used again within it (that would take pid_max forks)."""

OWNER_KILL_WAIT_S = 10.0
"""How long a starting daemon waits for a killed lock owner of its predecessor to be gone."""

ANCESTOR_LOOK_S = 0.5
"""A wait this old is looked at: does the waiter's own ancestor hold the lock?"""

FREEZE_S = 5.0
"""How often what has lived through a young collection is taken out of the collector's sight: a full
collection of a million locks would stop everything for most of a second."""

POLL_GRACE_S = 0.05
"""How long a stopping daemon goes on answering, so that poll(2) can fetch its POLLHUP."""

MOUNT_LOOK_S = 5.0
"""How long a mount that is already there may take to answer before it counts as in use."""

STAT_WAIT_S = 0.2
"""How long the daemon looks at a process that somebody named: one in the midst of an exec may be waiting for us."""
