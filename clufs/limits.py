"""Every bound of clufs, each with its reason."""

VALUE_MAX_BYTES = 1024
"""A value block (contract 2.1): small enough to travel in every lock message."""

NAME_MAX_BYTES = 251
"""A lock name: 255 bytes of a Unix name less the four of `.sub`."""

NAMESPACE_MAX_BYTES = 255
"""A namespace is a directory name: NAME_MAX of Linux."""

LINE_MAX_BYTES = 4096
"""A request line: `valuehex=` of a full value block (2 KiB) and all other words fit in a page."""

SUBLOCK_DEPTH_MAX = 64
"""Sublock trees may be deep; this bounds recursion over one path (PATH_MAX allows hardly more)."""

HINT_MAX = 2**64 - 1
"""`hint=N` is 64 bits wide, as a signal's value is."""

SEQUENCE_COUNT_BITS = 40
"""Sequencers and VALSEQ are view * 2**40 + count: 10**12 grants in one view, 2**23 views, below 2**63."""

IDLE_NAMES_KEPT = 10_000
"""Names whose last lock went and whose master stays known, so that the next lock costs no look-up."""

ERRORS_KEPT_PER_USER = 1000
"""Refusals kept per user in /clu/status/errors (contract 1)."""

EVENTS_KEPT = 10_000
"""Lines kept in /clu/events (contract 1)."""

DEADLOCKS_KEPT = 100
"""Cycles kept in /clu/status/deadlocks (contract 2.4)."""

WITHDRAWN_PLACE_S = 1.0
"""A request repeated within this many seconds of its EINTR takes its old place (contract 2.1)."""
