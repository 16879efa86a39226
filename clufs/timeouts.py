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
