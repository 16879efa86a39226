"""Every timeout and period of clufs, in seconds unless the name says otherwise.

One member alone, a SIGTERM with holders and waiters present (t in seconds):

    t = 0        no new locks; waiters end with ESHUTDOWN, `lost=` signals and POLLHUP go out
    t = 0        alone, nobody else can be granted the locks: it does not wait for the holders
    t < 1        unmounted (detached if somebody still stands in it), exit 0

What the loss of a member or of quorum takes is worked out in `QuorumTimeline`.
"""

from dataclasses import dataclass

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
"""A wait between this and twice as old is looked at: does the waiter's own ancestor hold the lock?"""

LINGER_S = 0.004
"""After something came from a member or a process, the next is waited for so long past the event loop:
who was told that somebody waits for his lock may give way within it. It is waited for in the kernel, so
this costs no CPU; only what else the event loop serves comes later, by no more than LINGER_MAX_S."""

LOOK_S = 0.0002
"""Before lingering in the kernel, what comes is looked for so long without a pause, where that pays: a
round trip between two members on one network, with the work at both ends."""

LINGER_MAX_S = 0.005
"""So long at most in a row: what else the event loop serves comes no later."""

COMMAND_KEPT_S = 0.5
"""How long the name of a process is taken to be what it was: an exec(2) shows in reports that late."""

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

RING_SLACK_S = 0.5
"""What forming a ring takes beyond token and consensus: a few turns of messages, and corosync's callbacks."""

DISK_AGAIN_S = 1.0
"""A disk that had no room for a number is asked again after this: it is full until a person makes room."""

FORMING_S = 1.0
"""From a ring to the view at the lock manager: hellos, one write to the disks of a majority, one log."""


@dataclass(frozen=True, slots=True)
class QuorumTimeline:
    """When what happens at the latest, in seconds from the moment a fault strikes; from five inputs.

    token_s, consensus_s: corosync's, as its cmap has them (runtime.config.totem.token and .consensus,
    milliseconds there). Three members with corosync's defaults (token 3000 ms and 650 ms for each
    member above two, consensus 1.2 times the token) and clufs's:

        a member is cut off from the two others, or its corosync dies

        t =  3.65  token_lost_s    no token on either side
        t =  8.53  rings_s         each side has a ring of its own. Here: no quorum; nothing is granted
                                   any more, POLLERR to who holds and polls
        t =  9.53  view_s          there: a view of the rest, the member is lost, the first agent begins
        t = 12.53  killing_s       here, with on_lost_quorum = "kill": SIGKILL begins
        t = 13.53  holders_dead_s  here: no process of a holder is left
        t = 39.53  fenced_s        there: the first agent has ended; if it certifies, its locks go on

        its clufsd stands still (SIGSTOP), while its corosync goes on

        t =  5.50  silent_s        the others have heard nothing for peer_dead_ms
        t =  7.00  verdict_s       it is expelled
        t =  8.00  standing_view_s there: a view of the rest; the first agent begins
        t = 38.00  standing_fenced_s  there: as above

        its clufsd is killed: corosync says so at once; view after FORMING_S, then the agent

    What it promises: between rings_s and holders_dead_s a holder that was not told (it does not poll)
    may go on, but no lock of it is granted to anybody before an agent's certificate or a
    person's word; and a person who gives it without having seen the machine off has to wait for
    holders_dead_s, and knows then only what holds for a daemon that runs.

    What it cannot promise: a daemon that stands still, is starved of the processor or is dead kills
    nobody, and tells nobody. A paused machine wakes up in the midst of its work, and its holders go
    on until their daemon has noticed. A process in the kernel (state D) dies when the kernel lets
    it. An agent that fails is tried again for ever, and locks wait as long. Against all this only
    fencing protects, and a receiver that checks sequencers.
    """

    token_s: float
    consensus_s: float
    peer_dead_s: float = PEER_DEAD_S
    quorum_kill_s: float = QUORUM_KILL_S
    agent_s: float = FENCE_AGENT_S

    @property
    def token_lost_s(self) -> float:
        """corosync gives the token up and looks who is there."""
        return self.token_s

    @property
    def rings_s(self) -> float:
        """Each side has waited for the other to agree, in vain; the smaller one knows of no quorum."""
        return self.token_lost_s + self.consensus_s + RING_SLACK_S

    @property
    def view_s(self) -> float:
        """The larger side has a view, and knows whom it has lost."""
        return self.rings_s + FORMING_S

    @property
    def killing_s(self) -> float:
        """The smaller side begins to kill its holders."""
        return self.rings_s + killing_begins_s(self.quorum_kill_s)

    @property
    def holders_dead_s(self) -> float:
        """No holder is left on the smaller side: before, no person may say so who does not know it."""
        return self.rings_s + max(self.quorum_kill_s, KILLING_S)

    @property
    def fenced_s(self) -> float:
        """The first agent has certified, or failed."""
        return self.view_s + self.agent_s

    @property
    def silent_s(self) -> float:
        """The others have heard nothing of a member that stands still, and a tick has shown it."""
        return self.peer_dead_s + KEEPALIVE_S

    @property
    def verdict_s(self) -> float:
        """All have agreed that it goes."""
        return self.silent_s + VERDICT_AFTER_S + KEEPALIVE_S

    @property
    def standing_view_s(self) -> float:
        """There is a view without it."""
        return self.verdict_s + FORMING_S

    @property
    def standing_fenced_s(self) -> float:
        """The first agent has certified, or failed."""
        return self.standing_view_s + self.agent_s


def killing_begins_s(quorum_kill_s: float) -> float:
    """How long after the loss of quorum killing begins, to be over in time."""
    return max(0.0, quorum_kill_s - KILLING_S)


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

PROPOSE_S = 12.0
"""How long mkdir(2) and its like wait for their entry in the registry: longer than it takes to go on without
a member that is cut off or stands still (`QuorumTimeline`), which may be the leader of the registry. While
corosync itself stands still they would wait as long, and who waits in them cannot be killed."""

ENGINE_CLOSE_S = 0.5
"""How long the end of a life waits for corosync's library: it may wait for a corosync that is gone
for seconds, and for one that stands still for ever."""

QUORUM_DEVICE_TIMEOUT_S = 10.0
"""corosync's own default of `quorum.device.timeout`: for so long it counts the disk's votes after it was told to."""

QUORUM_DEVICE_SYNC_S = 30.0
"""corosync's own default of `quorum.device.sync_timeout`: where a ring breaks it waits so long for a daemon that stands
still or was killed, and all members with it."""

QUORUM_DEVICE_SYNC_LONG_S = 5.0
"""A longer one is a note of `clufs doctor`: it is longer than the loss of a member takes without it."""

QUORUM_DEVICE_POLLS = 4
"""corosync is told so often in that time: two may be late."""

QUORUM_DEVICE_AGAIN_S = 0.02
"""How long corosync is left alone when it was too busy to be told."""

FENCING_RETRY_MIN_S, FENCING_RETRY_MAX_S = 1.0, 60.0
"""The pause after all agents have failed doubles from the first to the second; they are tried for ever."""

QUERY_S = 1.0
"""What another member must know is waited for so long: reading and listing then fail with EHOSTDOWN. A busy
member answers within it, and somebody who types `ls` does not think that all is stuck."""

QUERY_LATE_S = 0.05
"""A member that let one question run out of time gets so long for further ones until it answers again."""

QUERY_AGAIN_S = 0.02
"""The pause before a member is asked again that has not finished its recovery."""

INQUIRY_S = 3.0
"""How long a new planner waits for the members to say what runs there: one that does not answer is not
counted as up until it does. A member that stands still is out of the view soon."""

INQUIRE_AGAIN_S = 1.0
"""How often members of the view that have not answered are asked again."""

SAVE_AGAIN_S = 0.5
"""The pause before a planner tries again to put on record what could not be: quorum or a disk is gone."""

WALL_LOOK_S = 10.0
"""How often the planner looks at the wall clock while it waits for a time of day: somebody may set it."""

WALL_SET_S = 1.0
"""A wall clock that is so far from where the time since the boot would have it was set."""

PLANNER_S = 10.0
"""How long a user's command waits for a member that plans: after the loss of one, its fencing comes first."""

PLANNER_AGAIN_S = 0.1
"""The pause before a member is asked again that does not plan yet, or no more."""

APPLICATION_STOP_S = 4.0
"""How long the stop entries of a member that has lost quorum or was expelled may take, before what is left
is killed; with `quorum_kill_ms` shorter, so long. No other member starts them meanwhile."""

LEAVING_S = 60.0
"""How long a member that leaves in good order waits for its applications to be relocated or stopped: once
the default SCRIPT_TIMEOUT."""

LAB_START_S = 60.0
"""How long a program of a lab's member may take to answer: generous, as many start on one machine at once."""

LAB_END_S = 10.0
"""How long the killed processes of a lab may take to be gone: the kernel unmounts and unlinks meanwhile."""

LAB_STOP_S = 15.0
"""How long a program of a lab's member that is restarted may take for an ordered end: thrice `stop_s`."""

LAB_OUT_S = 15.0
"""How long the others may take to be done with a dead member: corosync sees it in 2 s, and the keeper
answers at once."""

LAB_EXEC_S = 3.0
"""How long a program of the lab that was started may take to be seen under its own command line."""

LAB_POLL_S = 0.05
"""The pause between two looks at what the lab waits for: nothing outside tells of it."""

LAB_LOOK_S = 5.0
"""How long one look into a lab's member may take: the daemon there may stand still."""

LAB_ASK_S = 1.0
"""From a request to the lab's keeper to the end of its line."""

LAB_KEEPER_LOOK_S = 1.0
"""How often the keeper looks whether the lab's directory is still there."""

TOUR_KEY_S, TOUR_PROMPT_S, TOUR_READ_S = 0.02, 0.5, 0.03
"""The lab's tour: a typed letter, a look at a prompt, and a letter that is read. Two minutes in all."""

TOUR_LOOK_S = 0.5
"""A command of the tour that has not ended after this waits."""

# A deadlock over several members (t in seconds from the moment it closes; messages take less than 0.01):
#
#     t = 0.25-0.35  SURVEY_AFTER_S, seen at the next tick: a member tells the coordinator
#     t = 0.60-0.70  at the latest: a survey may start, SURVEY_PAUSE_S after the start of the last one
#     t < 0.80       three rounds of questions (who blocks, what waits, does it still), the victim is refused
#     t < 0.95       the same with a member that is silent: the first round waits SURVEY_ANSWER_S for it
#     t < 1.10       the same where that is the coordinator: SURVEY_LEADER_S later the next one is told

TICK_S = 0.1
"""How often the lock manager wants to know the time while requests wait; else never."""

SURVEY_AFTER_S = 0.25
"""A request that waits for so long makes the members look for a deadlock: most waits end earlier."""

SURVEY_PAUSE_S = 0.25
"""From the start of one search to the start of the next: what a crowd of long waits may cost."""

SURVEY_LEADER_S = 0.3
"""So long a member that has told the coordinator waits for its first question; then it tells the next one: a
little more than the pause after which a search surely starts."""

SURVEY_ANSWER_S = 0.15
"""So long a search waits for a member; then it goes on without it, until that one answers."""

STAT_WAIT_S = 0.2
"""How long the daemon looks at a process that somebody named: one in the midst of an exec may be waiting for us."""

REJOIN_S = 0.5
"""Between the end of a life and the next one, and between two looks whether corosync is back."""

REJOIN_MAX_S = 8.0
"""The pause doubles up to this while one short life follows another: each makes the others form a view and
fence, as where the cable between just two of three is cut for good. 0.5, 1, 2, 4, 8, 8, ..."""

REJOIN_CALM_S = 30.0
"""After a life that was longer than this the pause is the first one again."""

GOODBYE_S = 10.0
"""How long an ordered goodbye may take before the member leaves without it and counts as lost."""

HOLDERS_LOOK_S = 0.05
"""How often a stopping daemon looks whether all holders are gone."""

VIEW_GRACE_S = 1.0
"""How long a member that corosync calls quorate may be between two views before its holders are told
that quorum is gone: a view takes a few multicasts and two writes to disk."""

LEASE_S = 1.0
"""A member that did not come to its clock for so long grants nothing before its view is confirmed: no
others can have expelled it sooner, as corosync's token alone takes longer."""

DROP_AGAIN_S = 1.0
"""How long until a member without quorum tries again to take away the files of makers that have ended."""

SHOWN_S = 2 * LEASE_S
"""How long a change in /clu/lockfiles waits, once it is on disk at a quorum, until all members of the view
show it. A member that does not say so meanwhile stood still: its lease is over, and before it shows anything
it asks in the order of all messages whether its view still holds, which comes after the change."""

JOIN_LATE_S = 10.0
"""How long a view waits until the registry has let all its members in; then those who are not are expelled.
It takes a few multicasts and writes to disk."""

APPLICATION_PATIENCE_S = HELLO_LATE_S + JOIN_LATE_S + VIEW_GRACE_S
"""How long applications go on between two views of members that corosync calls quorate: until then there
is a view without whoever keeps it waiting, as a member whose disk is slow when it joins. Nobody starts
them elsewhere meanwhile: that takes a view, and a fence. Not with `on_lost_quorum = "kill"`."""

CAA_RETRY_FIRST_S, CAA_RETRY_MAX_S = 10.0, 600.0
"""An application that no member started is tried again after the first, then after twice as long each
time; one whose restarts are used up on a member after the other in the same way, after the first change
of member, which is at once. It is forgiven once it has run for twice as long as it would wait next, or for
the longest, and through two checks: with the default CHECK_INTERVAL of 60 s, one whose check never succeeds
moves at once, then after 20, 40, 80 s."""

CAA_JOINED_S = 60.0
"""A member counts as just joined for so long: ACTIVE_PLACEMENT is judged anew with each of its monitors' words."""

CAA_LEAP_MAX_S = 3 * 3600.0
"""Minutes of REBALANCE that a planner makes up for: more than a change of the clock by a time zone's rules."""

OUTPUT_BATCH_S = 0.02
"""What an action prints goes to the daemon at most so often, 64 KiB each time; an action that prints
faster waits: 3 MB/s is more than anybody reads."""

OUTPUT_LATER_S = 0.2
"""What an application prints after its start script has ended goes to the daemon so often: nobody follows
it line by line, and all but the last 64 KiB of it would be thrown away."""

ENDING_LOOK_S = 0.01
"""Processes that are being killed are looked at this often: nothing tells when the last is gone."""

ENDING_AGAIN_S = 0.5
"""The pause between two looks grows to this: what still lives then is in the kernel, or cannot be killed."""

ACTION_KILL_S = 10.0
"""How long an action that ran out of time may take to die before its end is told all the same."""

UNIT_END_S = 30.0
"""How long systemd may take to kill and to stop a unit: its processes have got SIGKILL already."""

KEEPER_AGAIN_S = 0.2
"""The pause before a keeper that died is replaced."""

DEVICE_LOOK_S = 30.0
"""How long a device may take to be opened before it counts as one that does not answer: a tape drive that
loads takes longer than this only when it is broken."""

DEVICE_PAUSE_S = 0.1
"""The shortest time between two looks at the devices: one new device makes dozens of events."""

LUN_COMMAND_S = 10.0
"""The io timeout: a command to a LUN without an answer for so long fails, and its path with it."""

LUN_CONNECT_S = 10.0
"""Connecting and logging in to an iSCSI portal."""

LUN_LOGOUT_S = 1.0
"""How long an iSCSI portal has to answer a goodbye, and what was written to a quorum disk to be done at its end."""

LUN_KEYS_LOOK_S = 2.0
"""How often a member looks at every path whether its key is still there, beside what the LUN tells unasked: an
array that says nothing to who was fenced is found out within it."""

LUN_ENTER_S = 12.0
"""How long a life waits at its beginning for a path to each data LUN that it may write by: LUN_COMMAND_S for one
command that is lost, and some more. A LUN without one is not written to, and the life begins without it."""

LUN_ENTER_AGAIN_S = 1.0
"""The pause before a path is entered again that could not be: tombstones or keys were not to be had."""

LUN_LEAVE_S = 2.0
"""How long an ordered end waits for the LUNs to take this member's keys back; what stays is harmless."""

LUN_FENCE_S = 2 * LUN_COMMAND_S
"""`timeout_s` of the agent `lun`: one command on the way there and one on the way back may be lost."""

LUN_BUSY_PAUSE_S = 0.1
"""A LUN that is busy is asked again after this."""

LUN_LOOK_S = 5.0
"""A path without traffic is tried out so often: an array that went without a word is found within
LUN_LOOK_S + LUN_COMMAND_S = 15 s, one whose connections broke at once."""

LUN_RETRY_MIN_S, LUN_RETRY_MAX_S = 0.2, 5.0
"""A path that was lost is opened again after the first, doubled at each failure up to the second: an array that
restarts is back at once, and one that is off costs next to nothing."""

LUN_SHOW_S = 2.0
"""Who reads /clu/luns/WWID/keys and the like waits so long; the question goes on, and the next one has its answer."""

LUN_FRESH_S = 1.0
"""stat(2) of such a file may show the size of an answer that old: an open always asks, and its fstat(2) need not."""

QUORUM_DISK_SURE_S = 1.0
"""How long from the beginning of a beat that reached a majority of the LUNs its member may cast the disk's votes:
a membership change is decided within 2 s, so a keeper that lost the disk must be silent well before."""

QUORUM_DISK_LOOK_S = 0.3
"""From one beat of the quorum disk's keeper to the next, and from one look of the others: three are tried before
one ends QUORUM_DISK_SURE_S."""

QUORUM_DISK_DEAD_S = 1.5
"""A beat that stands still for so long, on the looker's clock, lets another take the disk: QUORUM_DISK_SURE_S of the
keeper's clock, which may run apart by CLOCK_DRIFT, and one QUORUM_DISK_LOOK_S are over then."""

QUORUM_DISK_TURN_S = 1.0
"""A member whose turn it is to take a disk that nobody holds gets so long before the next one tries."""

QUORUM_DISK_CALM_S = 5.0
"""Who lost the quorum disk sooner than this after it had taken it takes it again only after this."""
