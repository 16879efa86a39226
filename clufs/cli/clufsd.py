"""clufsd(8): the daemon's program."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence

from clufs import __version__
from clufs.config import load, state_dir
from clufs.errors import ClufsError

# sd-daemon(3): a level in angle brackets when the journal reads standard error.
_JOURNAL_LEVELS = {"DEBUG": 7, "INFO": 6, "WARNING": 4, "ERROR": 3, "CRITICAL": 2}


class _Formatter(logging.Formatter):
    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")
        self._journal = "JOURNAL_STREAM" in os.environ

    def format(self, record: logging.LogRecord) -> str:
        if self._journal:
            return f"<{_JOURNAL_LEVELS.get(record.levelname, 6)}>{record.getMessage()}"
        return super().format(record)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="clufsd", description="Mount /clu: a lock manager driven with echo and cat."
    )
    parser.add_argument("mount_point", metavar="MOUNTPOINT")
    parser.add_argument("--state", metavar="DIR", help="what must outlive the daemon")
    parser.add_argument("--config", metavar="FILE", help="clufs.toml(5)")
    parser.add_argument("--version", action="version", version=f"clufsd {__version__}")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the daemon in the foreground; its exit status."""
    arguments = _parser().parse_args(argv)
    handler = logging.StreamHandler()
    handler.setFormatter(_Formatter())
    logging.basicConfig(handlers=[handler], level=logging.INFO)
    try:
        config = load(arguments.config)
        logging.getLogger().setLevel(config.daemon.log_level.upper())
        from clufs.daemon import Place, serve

        state = state_dir(arguments.state, config.daemon.state)
        serve(Place(os.path.realpath(arguments.mount_point), state), config)
    except ClufsError as error:
        print(f"clufsd: {error}", file=sys.stderr)
        return error.exit_code
    except Exception:
        logging.getLogger("clufsd").exception("clufsd ends: this is a fault in clufs")
        print("clufsd: ended by a fault in clufs; the log has it", file=sys.stderr)
        return 70
    return 0


if __name__ == "__main__":
    sys.exit(main())
