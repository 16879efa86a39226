"""clufs(8): one program, a subcommand for each thing a person does now and then."""

import importlib
import os
import sys
from collections.abc import Sequence

from clufs import __version__
from clufs.errors import ClufsError, ProgramError, UsageError

# Subcommand -> its module, imported only when asked for, and what it is for.
COMMANDS = {
    "run": ("clufs.cli.run", "hold a lock while a command runs"),
    "doctor": ("clufs.cli.doctor", "what this machine lacks, and the line that mends it"),
    "keygen": ("clufs.cli.keygen", "the keys by which members know each other"),
    "drain": ("clufs.cli.drain", "have all applications leave a member, and none come"),
    "what-if": ("clufs.cli.what_if", "what would be done if a member were lost"),
    "import-ase": ("clufs.cli.import_ase", "profiles and scripts out of what ASE services were"),
    "top": ("clufs.cli.top", "members, resources and the busiest locks, live"),
    "lun": ("clufs.cli.lun", "make a shared LUN one of clufs' own, or look at one"),
    "lab": ("clufs.cli.lab", "a cluster on this machine, to try and to break things"),
}

USAGE = "usage: clufs COMMAND [ARGUMENT ...]\n\n" + "".join(
    f"  {name:12}{purpose}\n" for name, (_, purpose) in COMMANDS.items()
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the subcommand that `argv` names and return its exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    name = arguments[0] if arguments else ""
    if name in ("-h", "--help"):
        sys.stdout.write(USAGE)
        return 0
    if name == "--version":
        print(f"clufs {__version__}")
        return 0
    if name not in COMMANDS:
        complaint = f"clufs: no command {name!r}\n" if name else ""
        sys.stderr.write(complaint + USAGE)
        return UsageError.exit_code
    try:
        status: int = importlib.import_module(COMMANDS[name][0]).main(arguments[1:])
        sys.stdout.flush()
    except ClufsError as error:
        print(f"clufs {name}: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:
        # Whoever read our output wants no more of it; Python would complain of it at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ProgramError.exit_code
    return status


if __name__ == "__main__":
    sys.exit(main())
