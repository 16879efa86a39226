"""clufsd as one of a cluster of which the others are not here just now. SIGUSR1: it has no quorum from now on."""

from __future__ import annotations

import signal
import sys

from clufs.cli import clufsd
from clufs.daemon.ending import Ending
from clufs.member.core import Core


def lose_quorum(*about: object) -> None:
    """There is no view any more."""
    Core.standing = property(lambda self: False, lambda self, stands: None)  # type: ignore[assignment]


if __name__ == "__main__":
    Ending.has_others = property(lambda self: True)  # type: ignore[assignment,method-assign]
    signal.signal(signal.SIGUSR1, lose_quorum)
    sys.exit(clufsd.main())
