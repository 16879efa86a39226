"""clufs lab: three members on this machine, each in namespaces of its own.

Each has its own corosync, which form one cluster, and its own clufsd and /clu.
"""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import sys
from collections.abc import Callable, Sequence

from clufs.errors import UsageError
from clufs.lab import cluster, tour
from clufs.lab.plan import DIR, DIRECTORY_VARIABLE, LUNS_MAX, MEMBERS_MAX, PATHS, Facts, Lab

_INTERRUPTED = 128 + signal.SIGINT
_WHAT = ("clufsd", "corosync", "member")
_FAULTS = {
    "kill": (cluster.kill, "kill a member, or one of its programs"),
    "pause": (cluster.pause, "stop it as it stands"),
    "resume": (cluster.resume, "let it go on"),
    "restart": (cluster.restart, "start it again, after ending it in order if it is there"),
}


_LUN_FAULTS = ("offline", "online", "slow", "restart", "status")
_SLOW_S, _SLOW_MAX_S = 1.0, 3600.0


def _number(least: int, most: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if not text.isdigit() or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"{least} to {most}")
        return int(text)

    return number


def _seconds(text: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = -1.0
    if not 0 < found <= _SLOW_MAX_S:
        raise argparse.ArgumentTypeError(f"seconds, up to {_SLOW_MAX_S:g}")
    return found


def _words(text: str) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="clufs lab", description="A cluster on this machine, to try and to break things."
    )
    directory = argparse.ArgumentParser(add_help=False)
    directory.add_argument("--dir", metavar="DIR", help=f"the lab's files ({DIR})")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def add(name: str, purpose: str) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=purpose, description=purpose, parents=[directory])

    up = add("up", "bring it up; returns when all members are in and /clu answers")
    members, luns = _number(1, MEMBERS_MAX), _number(0, LUNS_MAX)
    up.add_argument("--members", metavar="N", type=members, default=3, help="how many (3)")
    up.add_argument("--luns", metavar="N", type=luns, default=1, help="shared LUNs (1)")
    up.add_argument(
        "--own-luns",
        metavar="N",
        type=int,
        choices=(0, 1, 3, 5),
        default=0,
        help="and so many of clufs' own: 0, 1, 3 or 5 (0)",
    )
    up.add_argument(
        "--array", metavar="COMMAND", type=_words, default=(), help="an array other than tgtd"
    )
    up.add_argument(
        "--fence-by",
        choices=("keeper", "luns"),
        default="keeper",
        help="what makes a lost member harmless: the lab's keeper kills it, or the LUNs refuse its writes (keeper)",
    )
    up.add_argument(
        "--quorum-disk",
        action="store_true",
        help="clufs' own LUNs have votes; 1 if none are asked for",
    )
    up.add_argument(
        "--trust-supervisor",
        action="store_true",
        help="the members' stand-in for a watchdog counts as one of hardware, to try what is fenced by time",
    )
    up.add_argument("--engine", choices=("corosync",), default="corosync", help="corosync")
    execute = add("exec", "run a command in a member; its exit status and output are passed on")
    execute.add_argument("member", metavar="MEMBER")
    execute.add_argument("words", metavar="COMMAND", nargs="*")
    add("shell", "a shell in a member").add_argument("member", metavar="MEMBER")
    for name, (_, purpose) in _FAULTS.items():
        fault = add(name, purpose)
        fault.add_argument("member", metavar="MEMBER")
        fault.add_argument("--what", choices=_WHAT, default="member", help="member by default")
    cut = add("cut", "cut a member off, or two members from each other")
    cut.add_argument("members", metavar="MEMBER", nargs="+")
    add("heal", "mend every cut")
    lun = add("lun", "what the members see of a LUN: slow, not there, there again")
    lun.add_argument("what", metavar="|".join(_LUN_FAULTS), choices=_LUN_FAULTS)
    lun.add_argument("lun", metavar="N", nargs="?", help="which LUN; not for restart and status")
    lun.add_argument("--member", metavar="MEMBER", default="-", help="only for this member")
    lun.add_argument("--path", type=int, choices=PATHS, default=0, help="only by this path")
    lun.add_argument(
        "--seconds", metavar="S", type=_seconds, default=_SLOW_S, help=f"how slow ({_SLOW_S:g})"
    )
    add("status", "a line for each member")
    add("down", "end it; nothing is left")
    story = add("tour", "a story of two minutes, on a lab of its own")
    story.add_argument("--fast", action="store_true", help="without pauses")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Do what is asked; 0, or the exit status of what exec and shell ran."""
    words = list(sys.argv[1:] if argv is None else argv)
    # What comes behind is the command's; argparse would take it for options, and another `--` away.
    at = words.index("--") if words[:1] == ["exec"] and "--" in words else len(words)
    arguments = _parser().parse_args(words[:at], argparse.Namespace(behind=words[at + 1 :]))
    command = arguments.command
    cluster.check_machine()
    if command == "tour":
        return _tour(Lab(arguments.dir or tour.DIR), arguments.fast)
    lab = Lab(arguments.dir or os.environ.get(DIRECTORY_VARIABLE) or DIR)
    if command == "up":
        cluster.up(lab, _facts(arguments))
        names = " ".join(member.name for member in lab.members())
        print(f"up in {lab.directory}: {names}")
    elif command == "down":
        cluster.down(lab)
    elif command in _FAULTS:
        _FAULTS[command][0](lab, arguments.member, arguments.what)
    elif command == "cut":
        if len(arguments.members) > 2:
            raise UsageError("cut takes one member or two")
        cluster.cut(lab, tuple(arguments.members))
    elif command == "heal":
        cluster.heal(lab)
    elif command == "lun":
        print("".join(f"{line}\n" for line in _lun(lab, arguments)), end="")
    elif command == "status":
        print("\n".join(cluster.status(lab)))
    elif command == "exec":
        if not (words := [*arguments.words, *arguments.behind]):
            raise UsageError("exec: what? clufs lab exec MEMBER -- COMMAND")
        return cluster.execute(lab, arguments.member, words)
    else:
        return cluster.execute(lab, arguments.member, [os.environ.get("SHELL", "/bin/sh")])
    return 0


def _facts(arguments: argparse.Namespace) -> Facts:
    """What a lab is to be made of. Raises UsageError."""
    members, luns, with_disk = arguments.members, arguments.luns, arguments.quorum_disk
    own, by_lun = arguments.own_luns or int(with_disk), arguments.fence_by == "luns"
    if by_lun and not (own and luns):
        raise UsageError("--fence-by luns needs LUNs of both kinds: --luns 1 --own-luns 1")
    if with_disk and members == 1:
        raise UsageError("--quorum-disk needs at least two members")
    trusted = arguments.trust_supervisor
    return Facts(members, luns + own, own, arguments.array, by_lun, with_disk, trusted)


def _lun(lab: Lab, arguments: argparse.Namespace) -> list[str]:
    """Give the array an order; the lines to print."""
    what, lun = arguments.what, arguments.lun
    if (lun is None) != (what in ("restart", "status")):
        raise UsageError(f"lun {what}: {'which LUN?' if lun is None else 'of the whole array'}")
    if what == "status":
        return cluster.lun_status(lab)
    if what == "restart":
        cluster.lun(lab, what)
    else:
        cluster.lun(lab, what, lun, arguments.member, arguments.path, arguments.seconds)
    return []


def _tour(lab: Lab, fast: bool) -> int:
    """Play it; who has seen enough ends it, and its lab, with Ctrl-C or a signal."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    try:
        tour.play(lab, fast)
    except KeyboardInterrupt:
        print()
        return _INTERRUPTED
    return 0
