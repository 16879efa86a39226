"""F_GETLK: who holds what keeps a lock from being granted. It takes nothing and waits for nobody.

The holder's process id is told where it is of this member, else 0. Also told is who holds a lock file by
flock(2) or by a line, though fcntl(2) locks do not wait for these.
"""

from __future__ import annotations

import fcntl
from typing import TYPE_CHECKING

from clufs.dlm.guests import Guest
from clufs.dlm.interface import Request as LockRequest
from clufs.dlm.interface import Verb
from clufs.dlm.modes import COMPATIBLE, Mode
from clufs.dlm.ranges import LAST_BYTE, Ranges
from clufs.errors import ClufsError, Interrupted, NoQuorum
from clufs.fuse import loop
from clufs.fuse.range_locks import MODES
from clufs.member.facts import Obstacle, first_obstacle

if TYPE_CHECKING:
    from clufs.dlm.lock import Lock
    from clufs.fuse.lock_service import LockService
    from clufs.fuse.lowlevel import Request
    from clufs.fuse.range_locks import RangeLocks
    from clufs.fuse.sides import RangedFile


class Questions:
    """Answers F_GETLK and F_OFD_GETLK."""

    def __init__(self, service: LockService, ranges: RangeLocks) -> None:
        self._service = service
        self._ranges = ranges

    def ask(
        self,
        file: RangedFile,
        request: Request,
        lock_owner: int,
        kind: int,
        first: int,
        last: int,
    ) -> int | None:
        """0: nothing is in the way; -errno: nobody can tell; None: answered, or to be."""
        mode = MODES[kind]
        side = self._ranges.side_of(file.key, lock_owner)
        asked = Ranges("" if side is None else side.name, ((first, last),))
        node = self._service.node
        found = self._here(file, mode, asked, request)
        if found is not None:
            _reply(request, *found)
        elif node.suspended:
            error = NoQuorum("this member has no quorum: others may hold what is asked about")
            return self._service.refuse(file, request, error)
        elif node.shared and not self._is_known(file):
            self._service.parked.add_other(
                request, lambda: self._refuse(file, request, Interrupted(""))
            )
            loop.spawn(lambda: self._elsewhere(file, mode, asked, request))
        else:
            return 0
        return None

    def _is_known(self, file: RangedFile) -> bool:
        """Whether all that may be in the way is mastered here."""
        blocks = self._service.node.blocks
        return file.key in blocks and (file.own_key is None or file.own_key in blocks)

    def _here(
        self, file: RangedFile, mode: Mode, asked: Ranges, request: Request
    ) -> tuple[Obstacle, int] | None:
        node = self._service.node
        block = node.find(file.key)
        found = None if block is None else first_obstacle(block, mode, asked)
        if found is not None:
            return found[0], _pid(found[1])
        block = None if file.own_key is None else node.find(file.own_key)
        if block is None:
            return None
        for lock in block.in_the_way(LockRequest(Verb.LOCK, mode)):
            assert lock.granted is not None
            if not self._is_own(lock, request):
                return Obstacle(lock.granted, 0, LAST_BYTE), _pid(lock)
        return None

    def _is_own(self, lock: Lock, request: Request) -> bool:
        return lock.owner.pid == self._service.processes.pid_of(request.pid) and _pid(lock) != 0

    async def _elsewhere(
        self, file: RangedFile, mode: Mode, asked: Ranges, request: Request
    ) -> None:
        """Ask the masters."""
        elsewhere = self._service.tree.elsewhere
        try:
            found = await elsewhere.in_the_way(file.key, mode, asked)
            if found is None and file.own_key is not None:
                facts = await elsewhere.facts(file.own_key)
                held = None if facts is None else Mode.__members__.get(facts.group_mode)
                if (
                    held is not None
                    and not COMPATIBLE[mode][held]
                    and not self._has_own(file, request)
                ):
                    found = Obstacle(held, 0, LAST_BYTE)
        except ClufsError as error:
            self._refuse(file, request, error)
            return
        self._service.parked.remove(request)
        if found is None:
            request.reply_lock(fcntl.F_UNLCK, 0, LAST_BYTE, 0)
        else:
            _reply(request, found, 0)

    def _has_own(self, file: RangedFile, request: Request) -> bool:
        """Whether what is held there may be the caller's own."""
        block = None if file.own_key is None else self._service.node.find(file.own_key)
        return block is not None and any(self._is_own(lock, request) for lock in block.holders())

    def _refuse(self, file: RangedFile, request: Request, error: ClufsError) -> None:
        self._service.parked.remove(request)
        request.reply_err(-self._service.refuse(file, request, error))


def _pid(lock: Lock) -> int:
    return 0 if isinstance(lock.owner, Guest) else lock.owner.pid


def _reply(request: Request, found: Obstacle, pid: int) -> None:
    kind = fcntl.F_WRLCK if found.mode > Mode.PR else fcntl.F_RDLCK
    request.reply_lock(kind, found.first, found.last, pid)
