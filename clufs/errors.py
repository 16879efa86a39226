"""The one tree of errors: each class owns the errno a caller sees and the exit code a program ends with.

The message of an error is the sentence an administrator reads in /clu/status/errors
or on a program's standard error: it names what was wrong.
"""

import errno


class ClufsError(Exception):
    """Anything clufs refuses or fails at; subclasses say what the caller sees."""

    errno: int = errno.EIO
    exit_code: int = 1


class RequestError(ClufsError):
    """A request was refused and changed nothing."""


class InvalidRequest(RequestError):
    """A bad mode, word, name or combination (EINVAL)."""

    errno = errno.EINVAL


class ProfileRefused(InvalidRequest):
    """A profile, template or definition of attributes that does not validate (EINVAL).

    problems: each names the line, the attribute and the allowed values. The message has them all.
    """

    def __init__(self, *problems: str) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


class ValueTooLong(RequestError):
    """A value block or a line longer than the limit (EMSGSIZE)."""

    errno = errno.EMSGSIZE


class NotHeld(RequestError):
    """UN, CANCEL, WAIT or a sublock where the caller holds nothing of that kind (EPERM)."""

    errno = errno.EPERM


class NotPermitted(RequestError):
    """An operation that lock files or reports do not have (EPERM)."""

    errno = errno.EPERM


class AccessDenied(RequestError):
    """No right to the namespace or to the process named (EACCES)."""

    errno = errno.EACCES


class HasSublocks(RequestError):
    """A lock with sublocks below it cannot be released before them (ENOTEMPTY)."""

    errno = errno.ENOTEMPTY


class NamespaceInUse(RequestError):
    """rmdir of a namespace or group that is in use (ENOTEMPTY)."""

    errno = errno.ENOTEMPTY


class RequestPending(RequestError):
    """The owner already has a request that waits on this resource block (EBUSY)."""

    errno = errno.EBUSY


class NotQueued(RequestError):
    """`nowait`, and the request could not be granted at once (DLM_NOTQUEUED, EAGAIN)."""

    errno = errno.EAGAIN


class TimedOut(RequestError):
    """`timeout=` ran out before the grant (ETIMEDOUT)."""

    errno = errno.ETIMEDOUT


class Cancelled(RequestError):
    """CANCEL or UN took the waiting request away (DLM_CANCEL, ECANCELED)."""

    errno = errno.ECANCELED


class Deadlock(RequestError):
    """The request was the victim that broke a deadlock (DLM_DEADLOCK, EDEADLK)."""

    errno = errno.EDEADLK


class Interrupted(RequestError):
    """A signal ended the wait; the request was withdrawn first (EINTR)."""

    errno = errno.EINTR


class ShuttingDown(RequestError):
    """The daemon is ending: no new locks (ESHUTDOWN)."""

    errno = errno.ESHUTDOWN


class NoQuorum(RequestError):
    """`nowait` in a member without quorum (EHOSTDOWN)."""

    errno = errno.EHOSTDOWN


class AwaitsFencing(RequestError):
    """`nowait`, and a lost member that is not fenced yet may hold what is asked for (EHOSTDOWN)."""

    errno = errno.EHOSTDOWN


class FencingFailed(RequestError):
    """A member was ordered off, and no agent could make sure that it is (EIO)."""


class HostDown(RequestError):
    """The member that would know, or hold the lock, cannot answer or is lost (EHOSTDOWN)."""

    errno = errno.EHOSTDOWN


class StaleValue(RequestError):
    """`strict`, and the value block is invalid; or a sequencer no longer held (ESTALE)."""

    errno = errno.ESTALE


class UnknownProcess(RequestError):
    """The daemon cannot see the caller's pid, so only descriptors can own locks (EOPNOTSUPP)."""

    errno = errno.EOPNOTSUPP


class NoSuchName(RequestError):
    """Nothing of that name (ENOENT)."""

    errno = errno.ENOENT


class NameExists(RequestError):
    """The name is taken (EEXIST)."""

    errno = errno.EEXIST


class NotADirectory(RequestError):
    """A name below something that is no directory, or rmdir of such (ENOTDIR)."""

    errno = errno.ENOTDIR


class IsADirectory(RequestError):
    """What is done to files only was asked for a directory (EISDIR)."""

    errno = errno.EISDIR


class NotEmpty(RequestError):
    """A directory with names in it was to be removed or replaced (ENOTEMPTY)."""

    errno = errno.ENOTEMPTY


class TooManyLinks(RequestError):
    """One hard link, or one directory below another, too many (EMLINK)."""

    errno = errno.EMLINK


class NoRoom(RequestError):
    """A file too large, or one file too many, for the registry (ENOSPC)."""

    errno = errno.ENOSPC


class FileTooLarge(RequestError):
    """A write beyond the size that a file here may have (EFBIG)."""

    errno = errno.EFBIG


class StaleFile(RequestError):
    """A file was changed by another at the same moment (ESTALE)."""

    errno = errno.ESTALE


class ResourceInUse(RequestError):
    """A resource that is ONLINE, or that another one requires, stays registered (EBUSY)."""

    errno = errno.EBUSY


class OtherDirectory(RequestError):
    """A rename from one directory of /clu into another: programs copy then (EXDEV)."""

    errno = errno.EXDEV


class ActionFailed(RequestError):
    """An action of CAA ended without success (EIO)."""


class OldPlanner(RequestError):
    """A planner that has been followed by another one changes nothing (ESTALE)."""

    errno = errno.ESTALE


class NameTooLong(RequestError):
    """A name longer than the limit (ENAMETOOLONG)."""

    errno = errno.ENAMETOOLONG


class TooManyRanges(RequestError):
    """One process, or one descriptor, holds more byte ranges of a file than are kept apart (ENOLCK)."""

    errno = errno.ENOLCK


class ProgramError(ClufsError):
    """A program cannot go on; its message is the one sentence on standard error."""


class UsageError(ProgramError):
    """Wrong arguments or options."""

    exit_code = 2


class ConfigError(ProgramError):
    """The configuration file cannot be read or says something impossible."""

    exit_code = 78


class StateError(ProgramError):
    """The state directory is full, unwritable or damaged."""

    exit_code = 74


class MountError(ProgramError):
    """The mount point, /dev/fuse or fuse3 is not usable."""

    exit_code = 32


class MissingPart(ProgramError):
    """Something this machine lacks; the message has the line that mends it."""

    exit_code = 69


class PeerError(ClufsError):
    """A connection between members was refused or dropped; nothing else was changed (EPROTO).

    counter: the name of the count in `clufs.cluster.mesh.Counters` that grows by one.
    """

    errno = errno.EPROTO
    counter = "garbage"


class GarbageReceived(PeerError):
    """Bytes that no member sends: an unknown kind, a wrong type, an oversize or impossible frame."""


class TornStream(PeerError):
    """The connection ended or failed; what was under way is sent again on the next one."""

    counter = "torn"


class Unreachable(PeerError):
    """No connection could be made: the member is off, starting, or cut off."""

    counter = "unreachable"


class StrangerRefused(PeerError):
    """No certificate, or one that this cluster's authority did not sign."""

    counter = "strangers"


class WrongName(PeerError):
    """A certificate of this cluster, but not that of the member it was shown for."""

    counter = "wrong_names"


class OldVersion(PeerError):
    """The two members have no version of the protocol in common."""

    counter = "old_versions"


class OtherCluster(PeerError):
    """A member of another cluster."""

    counter = "other_clusters"


class LunError(ClufsError):
    """A command to a shared LUN did not end well (EIO); whether it took effect is not known unless said."""


class GarbledAnswer(LunError):
    """Bytes of an array that no standard allows, or an answer cut off (EIO)."""


class CheckCondition(LunError):
    """A LUN refused or failed a command and said why (EIO).

    key, asc, ascq: the sense key and the additional sense code. The message has them in words.
    """

    def __init__(self, message: str, key: int, asc: int, ascq: int) -> None:
        super().__init__(message)
        self.key, self.asc, self.ascq = key, asc, ascq


class ReservationConflict(LunError):
    """The LUN is reserved for others: what every write of a fenced member gets (EBADE, as the kernel has it)."""

    errno = errno.EBADE


class WriteProtected(LunError):
    """A LUN that takes no writes: a snapshot, a replica, one that ran out of room (EROFS)."""

    errno = errno.EROFS


class LunBusy(LunError):
    """The LUN has no room for one more command now; nothing was done (EBUSY)."""

    errno = errno.EBUSY


class LunTimedOut(LunError):
    """No answer in time: the command may still take effect (ETIMEDOUT)."""

    errno = errno.ETIMEDOUT


class PathLost(LunError):
    """The connection to a LUN cannot be made or broke; a command under way may still take effect (ENOLINK)."""

    errno = errno.ENOLINK


class NotSupported(LunError):
    """A LUN, or what is taken for one, has no such command; nothing was done (EOPNOTSUPP)."""

    errno = errno.EOPNOTSUPP


class NotFenced(LunError):
    """A fencing by LUN that could not be proved: the victim may still write (EIO)."""


class BadBlock(LunError):
    """A block of a LUN that is not what should stand there (EIO).

    flaw: why, a member of `clufs.storage.sealing.Flaw`. The message has it in words.
    """

    def __init__(self, flaw: str, detail: str = "") -> None:
        super().__init__(f"{flaw}: {detail}" if detail else str(flaw))
        self.flaw = flaw


class QuorumDiskLost(LunError):
    """What this member held of the quorum disk is over for ever: another took it, or it let go itself (EIO)."""


class QuorumDiskHeld(LunError):
    """Another member holds the quorum disk, or begins to, and lives as far as its LUNs tell (EBUSY)."""

    errno = errno.EBUSY


class ShareFull(LunError):
    """No room for one more record in the quorum disk's journal: nothing was written, a checkpoint is due (ENOSPC)."""

    errno = errno.ENOSPC
