"""Every bound of clufs, each with its reason."""

VALUE_MAX_BYTES = 1024
"""A value block (contract 2.1): small enough to travel in every lock message."""

NAME_MAX_BYTES = 251
"""A lock name: 255 bytes of a Unix name less the four of `.sub`."""

NAMESPACE_MAX_BYTES = 255
"""A namespace is a directory name: NAME_MAX of Linux."""

LINE_MAX_BYTES = 4096
"""A request line: `valuehex=` of a full value block (2 KiB) and all other words fit in a page."""

MEMBER_NAME_MAX_BYTES = 64
"""A member's name: a certificate has no more for a common name (X.520)."""

SUBLOCK_DEPTH_MAX = 64
"""Sublock trees may be deep; this bounds recursion over one path (PATH_MAX allows hardly more)."""

HINT_MAX = 2**64 - 1
"""`hint=N` is 64 bits wide, as a signal's value is."""

SEQUENCE_COUNT_BITS = 40
"""Sequencers and VALSEQ are view * 2**40 + count: 10**12 grants in one view, 2**23 views, below 2**63."""

IDLE_NAMES_KEPT = 10_000
"""Names whose last lock went and whose master stays known, so that the next lock costs no look-up."""

REMASTER_AFTER = 16
"""By so many requests on a name one other member is ahead, and its master gives it up as soon as no lock
is left: the next who asks masters it. A move costs five messages, a request at another master two."""

REMASTER_LOCKED_AFTER = 64
"""By so many, and its locks move while they stand. That costs seven messages at most and four for each other
member that has a lock there, up to 61 among 16 members; 64 requests at another master have cost 128. So a
move is paid for before it is made, and a name that goes to and fro costs half as much again at most."""

REMASTER_OTHERS_COUNT = 16
"""What one request of anybody else takes away from that: a member that does less than 16 of 17 never gets
ahead for good, and what is used by turns stays where it is."""

REMASTER_LOCKS_MAX = 500
"""A tree with more locks stays where it is: its locks move in one message of a few ms of work from
each member, and nobody waits for longer than that and the messages' way."""

ERRORS_KEPT_PER_USER = 1000
"""Refusals kept per user in /clu/status/errors (contract 1)."""

EVENTS_KEPT = 10_000
"""Lines kept in /clu/events (contract 1)."""

DEADLOCKS_KEPT = 100
"""Cycles kept in /clu/status/deadlocks (contract 2.4)."""

FENCINGS_KEPT = 1000
"""Lines kept in /clu/status/fencing: a night of an agent that fails once a minute."""

WITHDRAWN_PLACE_S = 1.0
"""A request repeated within this many seconds of its EINTR takes its old place (contract 2.1)."""

FRAME_MAX_BYTES = 2**20
"""One frame between members: a recovery may send thousands of locks in a message, and what comes
behind it waits 10 ms at most on a 1 Gbit/s network."""

MESSAGE_MAX_BYTES = FRAME_MAX_BYTES - 1024
"""One message between members: it fits in a frame with the frame's own fields."""

HELLO_MAX_BYTES = 4096
"""The first frame of a connection: names and numbers; who is not known yet gets no more memory."""

BATCH_BYTES = 2**16
"""Messages go together in a frame up to this: four TLS records; larger frames gain nothing more."""

SEND_WINDOW_BYTES = 2**20
"""Sent and not acknowledged to one member: fills 1 Gbit/s at 8 ms; more waits, and is resent at once
after a reconnection."""

SEND_QUEUE_MAX_BYTES = 2**26
"""Waiting for one member beyond its window, who still counts as alive: 200,000 lock messages are more
than `peer_dead_ms` of all that a member can ask; above it the member counts as silent."""

MESSAGE_COST_BYTES = 64
"""What a queued message costs beside its bytes; counted, so that empty messages are bounded too."""

SURVEY_PARTIES_MAX = 10_000
"""Parties that a search for deadlocks asks about at once: 300 KB in a message. Where more stand in
somebody's way at the same time, those are left out that share their lock with the largest crowds; a
deadlock among them is found when they have become fewer."""

SURVEY_LOCKS_MAX = 5_000
"""Locks that one member tells in one answer to such a search: 500 KB; more are left out likewise."""

GREETINGS_MAX = 64
"""Connections that have not said hello yet: all members at once (64) may, a flood of strangers may not."""

QUERIES_MAX = 1000
"""Questions to other members that are open at once: each keeps a system call and 10 KB waiting."""

ANSWER_PART_BYTES = 2**19
"""A list of names or a report goes in pieces of this size: two fit in a frame with whatever else waits."""

MASTERS_REMEMBERED = 1000
"""Masters that answers have named and the lock manager does not know: who reads a file looks it up first."""

ACTIONS_REMEMBERED = 10_000
"""Ended actions of one planner whose results a member tells again: 20 for each of 500 applications, and
what the planner has not heard of is the latest."""

CHECKS_AT_ONCE = 16
"""Check scripts that run at once: 500 every 10 s that take 0.3 s each fit in, and some that hang."""

HELD_SAID_MAX_BYTES = 2**24
"""Multicasts of a view that corosync has not yet called quorate here, kept until it does: at 17,000
messages a second (CPG's pace) more than a second of it. Above it this member is expelled."""

MULTICAST_MAX_BYTES = 1_000_000
"""One multicast: corosync's CPG takes 1,047,552 bytes."""

AGENT_LINES_KEPT = 5
"""Last lines of a fencing agent's output that go to the log: error messages come last."""

AGENT_OUTPUT_BYTES = 4096
"""What is remembered of a fencing agent's output while it runs: it may say more than we want to keep."""

FILE_MAX_BYTES = 2**16
"""A profile, action script or template: 64 KiB are a thousand lines, and one multicast takes a dozen."""

FILES_MAX = 4096
"""Files that the registry keeps: 500 resources with profile, script and what editors leave beside them,
several times over."""

FILES_MAX_BYTES = 2**24
"""All of them together: every member has them in memory, and in a snapshot of some 0.1 s to write."""

LOCKFILES_MAX = 100_000
"""Names in /clu/lockfiles: 30 MB of every member's memory, and 10 MB of a snapshot."""

LOCKFILE_MAX_BYTES = FILE_MAX_BYTES
"""A file there: what programs write into files that they lock by are a pid and a host's name."""

LOCKFILES_MAX_BYTES = 2**24
"""All of these together, in memory and in a snapshot: 160 bytes for each of 100,000."""

DROPPED_AT_ONCE = 5_000
"""Files of ended makers that one command takes away: 45 KB of numbers, below COMMAND_MAX_BYTES."""

LINKS_MAX = 32_000
"""Names of one file, and directories in one: as many as ext3 had."""

COMMAND_MAX_BYTES = FILE_MAX_BYTES + 2**13
"""One command of the registry: a file with its path; a batch of them stays below one multicast."""

RESOURCES_MAX = 2000
"""Resources registered: four times what one cluster is measured with."""

REGISTRY_PART_BYTES = 2**18
"""Entries and snapshots go to a member that lacks them in parts of this: well below MULTICAST_MAX_BYTES,
so that other multicasts come between."""

TAIL_BYTES = 2**17
"""The registry's tail on disk: a few hundred commands before the database takes them over in one transaction."""

TAIL_SPARED_BYTES = 2**14
"""Room in it that entries leave to the numbers of views and incarnations: these are kept on a full disk, too."""

ANSWERS_KEPT = 64
"""Commands that one life of a member may have under way; so many ids of each life are remembered."""

LIVES_ANSWERED = 4
"""Lives of each member whose ids are remembered; one of an earlier life is never applied."""

LIVES_OUT_KEPT = 8
"""Finished lives of each member that the registry still shows."""

LOG_MAX_ENTRIES = 2000
"""Entries in the registry's log before it is made shorter by a snapshot."""

LOG_KEPT_ENTRIES = 1000
"""Entries that stay then: a member that was away for fewer gets these instead of a snapshot."""

LOG_MAX_BYTES = 2**24
"""The same for their size: every member has the log in memory, and edited files are up to 64 KiB each."""

LOG_KEPT_BYTES = 2**23
"""The size of the entries that stay then."""

COPIES_IN_A_MESSAGE = 500
"""Locks told in one message of a recovery: a few ms of work, between which others are served."""

RECOVERY_STEP_LOCKS = 500
"""Locks told, rebuilt or released in one step of a recovery: 5 ms of work; then others are served."""

COPIES_MESSAGE_BYTES = 2**18
"""The names and values in one message of a recovery: far below MESSAGE_MAX_BYTES, whatever they are."""

RESOURCE_HISTORY_KEPT = 100
"""Transitions kept of each resource: its `history`; 15 KB, a few weeks of a bad application."""

RESOURCE_STARTS_KEPT = 1000
"""Starts and stops kept of each resource: caa_report reaches back so far; 25 KB."""

RESOURCE_NAME_MAX_BYTES = 243
"""A resource's name: 255 bytes of a Unix name less the twelve of `.cap.refused`."""

OPTIONAL_RESOURCES_MAX = 58
"""Optional resources of an application (TruCluster manual, table 2-1)."""

FAILURE_THRESHOLD_MAX = 20
"""Failures within an interval that may be counted (TruCluster manual, tables 2-1 to 2-4)."""

PROFILE_NUMBER_MAX = 2**31 - 1
"""Any other number of a profile: 68 years of seconds, and what 32 bits hold in any script."""

BUSIEST_COUNTED = 4096
"""Names whose requests are counted: beyond, a name that was asked for once is forgotten first."""

BUSIEST_SHOWN = 100
"""Lines of /clu/status/busiest: more than a screen has."""

OUTPUT_KEPT_BYTES = 2**16
"""What is kept of an application's output: a few hundred lines before it failed, 32 MB for 500 applications."""

OUTPUT_LINE_MAX_BYTES = 4096
"""A line that an action prints for a person; a longer one is told in pieces."""

KEEPER_FRAME_MAX_BYTES = 2**21
"""One message between daemon and keeper: a script and a profile of 64 KiB each, and both in escapes."""

KEEPER_UNSENT_BYTES = 2**20
"""Above this the keeper sends no more output to a daemon that does not read: it keeps the end of it instead."""

UNIT_ATTENTIONS_MAX = 16
"""Unit attentions fetched in a row before one counts as a failure: an array queues a few for each initiator."""

KEYS_READ_BYTES = 8192
"""Room for READ KEYS and READ FULL STATUS: 32 members with 4 paths each, and more than any array keeps."""

FENCE_ROUNDS_MAX = 3
"""So often a victim's key is taken away from a LUN in one fencing: a member registers once more at most before
it sees its tombstone, and once more for a session that broke meanwhile."""

REPORTS_REMEMBERED = 1000
"""Reports of locks of one namespace whose st_ino is kept after the kernel has forgotten them: `cp -a` looks twice."""

RANGES_OF_A_SIDE_MAX = 1024
"""Byte ranges that one process, or one descriptor, holds of one file: what it has goes to the master in one
message of some 20 KiB whenever locks are put together. Databases have some dozens."""

RANGE_LOCKS_OF_A_SIDE = 8
"""Locks that one side holds on one file in one mode before they are put together into one: each further one
is another that requests of others are compared with."""

BUSY_RETRIES_MAX = 20
"""So often a command is sent again to a LUN that is busy: for two seconds with the pauses between."""

DISK_SLOTS_MAX = 64
"""Members that a LUN has slots for: a bitmap of them is 64 bits, and all slots are one read of 1 MiB."""

DISK_SLOTS = 16
"""Members that a LUN is formatted for if nobody says otherwise: 256 KiB of slots, 2 MiB of evictions."""

DISK_LOG_BLOCKS_MIN = 8
"""Blocks of 4 KiB that each member has for the tail of the registry's log: the least that is of use."""

LUN_TRANSFER_MAX_BYTES = 2**18
"""Read or written by one command: below the least that kernels and arrays take at once (512 KiB)."""

FILE_COMMANDS_MAX = 8
"""Commands under way to a plain file or a device without SCSI: each has a thread, which a dead disk keeps."""

LUNS_MAX = 256
"""LUNs in the configuration: an array shows a host as many."""

LUN_PATHS_MAX = 16
"""Paths to one LUN in the configuration: two fabrics, four ports each, twice over."""

MESSAGE_TRIES_MAX = 16
"""So often a message is written to a member's slot until it is seen there: others may write at the same moment."""

TRANSITIONS_KEPT = 16
"""Changes of access states remembered of each LUN: a controller that fails over and back, a few times."""

QUORUM_LUNS_MAX = 5
"""LUNs that the quorum disk is on: 1, 3 or 5. Five survive the loss of two."""

FRAME_BLOCKS_MAX = 64
"""Blocks of 4 KiB in one piece of the quorum disk's journal: LUN_TRANSFER_MAX_BYTES, one command."""

QUORUM_SLICE_FRAMES = 8
"""Pieces of the journal that are written before its member says again that it is here: 2 MiB, which a LUN that is
fit for a quorum disk writes well within QUORUM_DISK_DEAD_S."""

SERVED_PIECE_BYTES = 2**17
"""Read or written through another member by one message: a millisecond on a 1 Gbit/s network, which the locks wait."""

SERVED_IN_FLIGHT_MAX = 4
"""Such messages of one member that are under way: half of SEND_WINDOW_BYTES, so that the locks never wait for room."""
