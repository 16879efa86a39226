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

# Between members, a peer that hangs while its connection stays up (t in seconds from its last word):
#
#     t = 0.5      KEEPALIVE_S: its next word was due at the latest
#     t = 1.5      LINK_SILENT_S: the connection is given up and dialled again: a dead path is not a dead peer
#     t = 1.5-2.5  DIAL_MAX_S: at least one new attempt was made
#     t = 5.0-5.5  PEER_DEAD_S, seen at the next tick: `Mesh.silent_since` tells; it is said to all
#     t = 5.0-6.0  the others have found so, too, or know better, and say that
#     t = 6.0-7.0  VERDICT_AFTER_S, at the next tick: a majority is on record, and the verdict is given
#     t = 6.0-7.0  a view without the member is formed, as fast as the disks of a majority are

KEEPALIVE_S = 0.5
"""Every connection between members carries something at least this often, if only an acknowledgement."""

LINK_SILENT_S = 3 * KEEPALIVE_S
"""A connection without a word for so long is closed: TCP alone would retry for a quarter of an hour."""

PEER_DEAD_S = 5.0
"""`peer_dead_ms`: a member without a word for so long is reported: three attempts to reconnect fit in."""

FENCE_AGENT_S = 30.0
"""`timeout_s` of a fencing agent: a management board may take as long to see a machine off."""

QUORUM_KILL_S = 5.0
"""`quorum_kill_ms`: the holders of a member without quorum are killed within it, with on_lost_quorum = "kill"."""

VERDICT_AFTER_S = 2 * KEEPALIVE_S
"""From the first word on a silent member to everybody's word for the record: who is cut off from several
at one moment finds them silent within one tick, and so does everybody else."""

HELLO_LATE_S = PEER_DEAD_S
"""A process of corosync's group that has not said hello for so long into a round is left out of the
view: a hello needs no disk and no stream, so only a process that stands still owes it."""

KILLING_S = 1.0
"""Killing begins so long before `quorum_kill_ms` is over: time to find the processes behind thousands of
locks, and for the kernel to end them."""

KILL_AGAIN_S = 0.1
"""While holders are being killed they are looked for again after this: one may have forked meanwhile."""

LOST_GRACE_S = 0.5
"""How long the holders of an expelled member that listen (`lost=`, poll) have to end by themselves. The
others wait for us meanwhile: enough to write down what must not be lost, not to finish the work."""

GREETING_S = 1.0
"""From a connection's first packet to the end of both hellos; then it is refused as torn."""

DIAL_MIN_S = 0.02
"""The first pause before a lost connection is dialled again."""

DIAL_MAX_S = 1.0
"""The pause doubles up to this."""

LISTEN_PAUSE_S = 0.1
"""The pause after an accept(2) that failed for want of descriptors."""

MULTICAST_RETRY_MIN_S, MULTICAST_RETRY_MAX_S = 0.001, 0.02
"""corosync that is busy or forms a ring says TRY_AGAIN and does not tell when it is free: the first
and the longest pause before a multicast is tried again."""

FENCING_RETRY_MIN_S, FENCING_RETRY_MAX_S = 1.0, 60.0
"""The pause after all agents have failed doubles from the first to the second; they are tried for ever."""

QUERY_S = 1.0
"""What another member must know is waited for so long: reading and listing then fail with EHOSTDOWN. A busy
member answers within it, and somebody who types `ls` does not think that all is stuck."""

QUERY_LATE_S = 0.05
"""A member that let one question run out of time gets so long for further ones until it answers again."""

QUERY_AGAIN_S = 0.02
"""The pause before a member is asked again that has not finished its recovery."""

LAB_START_S = 60.0
"""How long a program of a lab's member may take to answer: generous, as many start on one machine at once."""

LAB_END_S = 10.0
"""How long the killed processes of a lab may take to be gone: the kernel unmounts and unlinks meanwhile."""

LAB_EXEC_S = 3.0
"""How long a program of the lab that was started may take to be seen under its own command line."""

LAB_LOOK_S = 5.0
"""How long one look into a lab's member may take: the daemon there may stand still."""

LAB_ASK_S = 1.0
"""From a request to the lab's keeper to the end of its line."""

LAB_KEEPER_LOOK_S = 1.0
"""How often the keeper looks whether the lab's directory is still there."""

# A deadlock over several members (t in seconds from the moment it closes; messages take less than 0.01):
#
#     t = 0.25-0.35  SURVEY_AFTER_S, seen at the next tick: a member tells the coordinator
#     t = 0.60-0.70  at the latest: a survey may start, SURVEY_PAUSE_S after the start of the last one
#     t < 0.80       three rounds of questions (who blocks, what waits, does it still), the victim is refused
#     t < 0.95       the same with a member that is silent: the first round waits SURVEY_ANSWER_S for it

TICK_S = 0.1
"""How often the lock manager wants to know the time while requests wait; else never."""

SURVEY_AFTER_S = 0.25
"""A request that waits for so long makes the members look for a deadlock: most waits end earlier."""

SURVEY_PAUSE_S = 0.25
"""From the start of one search to the start of the next: what a crowd of long waits may cost."""

SURVEY_ANSWER_S = 0.15
"""So long a search waits for a member; then it goes on without it, until that one answers."""

STAT_WAIT_S = 0.2
"""How long the daemon looks at a process that somebody named: one in the midst of an exec may be waiting for us."""

REJOIN_S = 0.5
"""Between the end of a life and the next one, and between two looks whether corosync is back."""

GOODBYE_S = 10.0
"""How long an ordered goodbye may take before the member leaves without it and counts as lost."""

HOLDERS_LOOK_S = 0.05
"""How often a stopping daemon looks whether all holders are gone."""
