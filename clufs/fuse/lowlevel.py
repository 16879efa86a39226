"""The C extension beside pyfuse3, loaded so that it really stands between pyfuse3 and libfuse.

Import this before pyfuse3. Importing raises MissingPart where the extension cannot work.

- `handlers(write=, lock=, read=, interrupted=)` registers, all of them at once; what is left out
  is taken back. Without a write handler pyfuse3's Operations.write is called; without a lock
  handler flock(2) and fcntl(2) locks fail with ENOLCK on every file.
- `write(request, fh, data)` and `lock(request, op, node, fh, lock_owner, type, start, end, pid,
  sleep)` run inside the request loop and must not block. They return a number to answer at
  once (n >= 0 is success, for a write the bytes taken; n < 0 is -errno) or None: then the
  request is parked until somebody calls one of its reply methods. An exception in them is
  reported by sys.unraisablehook and answered EIO. `op` is FLOCK, SETLK or GETLK, `type` one of
  fcntl's F_RDLCK, F_WRLCK and F_UNLCK, `end` is inclusive and 2**63 - 1 for "to the end"; a
  GETLK answered with 0 says that nothing is in the way.
- `read(request, fh, offset, size)` is asked, in the same way, instead of pyfuse3's Operations.read
  for file handles with the bit BLOCKING; it returns bytes, -errno, or None to park the request.
- A `Request` is answered once: the first reply method returns True, or False if the kernel no
  longer waits; later ones do nothing and return False. One that is dropped unanswered is
  answered EIO. When a signal reaches the caller of a parked request, its `interrupted` turns
  True and it is appended to the list registered as `interrupted`; the caller stays blocked
  until it is answered. Requests outlive the mount harmlessly.
- `current_offset()` is that of the read or write being dispatched, `current_lock_owner()` that of the
  flush: whose fcntl locks end with this close.
- `caller()` is (pid, uid, gid, umask) and `current_fh()` the file handle (None if it came with
  none) of the request being dispatched: right in the handlers above, and in a pyfuse3 handler
  before its first await. The pid is a thread id, and 0 from a foreign pid namespace.
- Entry and attribute answers show st_ino & 0xffffffff to the user while the kernel goes by the
  whole: a node id is serial << 32 | number. readdir answers carry no attributes.
- A file handle answered to open or create with the bit NOFLUSH set gets no flush on close;
  with PARALLEL, direct writes to one inode run side by side as long as they stay below its
  st_size. The handle keeps the bits. Where fcntl locks are given, closing unlocks by its flush.
- A write longer than about 1 MB arrives in pieces.
- `installed()` is whether the present pyfuse3 session goes through the extension: check it after
  pyfuse3.init. `turn()` is for the request loop.
- `serve()`, outside that loop, reads requests and handles those for which a handler is registered
  here. It returns DRAINED when there are no more, GO_ON when it has kept one that the loop gets
  next, whatever the descriptor says, and REST when the loop must look for another reason.
"""

import sys

from clufs.errors import MissingPart

if "pyfuse3" in sys.modules and "clufs.fuse._lowlevel" not in sys.modules:
    raise MissingPart("pyfuse3 was imported before clufs.fuse.lowlevel: import it later")

try:
    from clufs.fuse._lowlevel import (
        BLOCKING,
        DRAINED,
        FLOCK,
        GETLK,
        GO_ON,
        NOFLUSH,
        PARALLEL,
        REST,
        SETLK,
        Request,
        caller,
        current_fh,
        current_lock_owner,
        current_offset,
        handlers,
        installed,
        serve,
        turn,
    )
except ImportError as error:
    raise MissingPart(
        f"clufs's C part does not load ({error}): install libfuse3-3 and clufs again"
    ) from error

__all__ = [
    "BLOCKING",
    "DRAINED",
    "FLOCK",
    "GETLK",
    "GO_ON",
    "NOFLUSH",
    "PARALLEL",
    "REST",
    "SETLK",
    "Request",
    "caller",
    "current_fh",
    "current_lock_owner",
    "current_offset",
    "handlers",
    "installed",
    "serve",
    "turn",
]
