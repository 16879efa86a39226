"""caa_profile: resource profiles are created, validated, changed, printed and deleted (manual 2.2).

It writes files below $CLU_ROOT and nothing else: caa_register makes a profile known to CAA.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from clufs.caa.attributes import NAME_WORDS, ResourceType, is_resource_name, of_type, place
from clufs.caa.definitions import OPTION_KEYS, SWITCHES, Definition, parse_definitions
from clufs.caa.profile import join, read, requires_itself, validate
from clufs.caa.syntax import changed
from clufs.caa.templates import DEFINITIONS, GENERIC, SCRIPT, script_for, template_name
from clufs.cli.caa_program import Parser, Refused, Teller, Tree, run, values
from clufs.errors import ClufsError, ProfileRefused, UsageError

_USAGE = """\
caa_profile -create RESOURCE -t application [-a SCRIPT] [-B PROGRAM] [-d TEXT] [-p POLICY]
            [-h MEMBERS] [-r RESOURCES] [-l RESOURCES] [-o KEY=VALUE,...] [-f] [-q]
caa_profile -create RESOURCE -t network -s SUBNET [-d TEXT] [-o KEY=VALUE,...] [-f] [-q]
caa_profile -create RESOURCE -t tape|changer -n DEVICE [-d TEXT] [-o KEY=VALUE,...] [-f] [-q]
caa_profile -create RESOURCE -I TEMPLATE [-f] [-q]
caa_profile -template -t TYPE [-O FILE] | -template RESOURCE [-O FILE] [-q]
caa_profile -update RESOURCE [OPTION ...] [-q]
caa_profile -delete RESOURCE [-q]
caa_profile -print [RESOURCE ...] [-q]
caa_profile -validate RESOURCE [-q]"""
_SCRIPT_MODE, _PROFILE_MODE = 0o755, 0o644
_TEMPLATE = "template.cap"
_VERBS = ("create", "template", "update", "delete", "print", "validate")
_MEANINGS = {
    "-a": ("SCRIPT", "action script: a full path, or its name in /clu/scripts (RESOURCE.scr)"),
    "-d": ("TEXT", "description"),
    "-p": ("POLICY", "placement: balanced, favored or restricted"),
    "-h": ("MEMBERS", "hosting members, the first choice first"),
    "-r": ("RESOURCES", "required resources"),
    "-l": ("RESOURCES", "optional resources, the most wanted first"),
    "-s": ("SUBNET", "of a network, like 16.140.112.0"),
    "-n": ("DEVICE", "full path of a tape's or changer's device"),
}


def _parser(definitions: Mapping[str, Definition]) -> Parser:
    parser = Parser(
        "caa_profile",
        "Create, validate, change, print and delete resource profiles.",
        _USAGE,
        add_help=False,
    )
    verbs = parser.add_mutually_exclusive_group(required=True)
    verbs.add_argument("-create", metavar="RESOURCE", help="a new profile")
    verbs.add_argument(
        "-template", metavar="RESOURCE", nargs="?", const="", help="a template, of it or of -t TYPE"
    )
    verbs.add_argument("-update", metavar="RESOURCE", help="other values for a profile")
    verbs.add_argument("-delete", metavar="RESOURCE", help="a profile and its action script go")
    verbs.add_argument("-print", metavar="RESOURCE", nargs="*", help="profiles; without names, all")
    verbs.add_argument("-validate", metavar="RESOURCE", help="print what is wrong, if anything is")
    types = [str(kind) for kind in ResourceType]
    parser.add_argument("-t", metavar="TYPE", choices=types, help=", ".join(types))
    for option, (metavar, meaning) in _MEANINGS.items():
        parser.add_argument(option, metavar=metavar, help=meaning)
    parser.add_argument("-B", metavar="PROGRAM", help="make an action script that runs it")
    keys = ", ".join(f"{key} {attribute}" for key, attribute in OPTION_KEYS.items())
    parser.add_argument(
        "-o", metavar="KEY=VALUE,...", action="append", default=[], help=f"other attributes: {keys}"
    )
    for each in definitions.values():
        if not each.switch.startswith("-o "):
            parser.add_argument(
                each.switch, metavar="VALUE", dest=each.attribute, help=each.attribute
            )
    parser.add_argument("-I", metavar="TEMPLATE", help="take the values from this template")
    parser.add_argument("-O", metavar="FILE", default=_TEMPLATE, help=f"default: {_TEMPLATE} here")
    parser.flag("-f", "write over a profile and script that are there")
    parser.quiet()
    parser.add_argument("--help", action="help", help="show this and exit")
    return parser


def _read(path: Path) -> bytes:
    """Raises Refused."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise Refused(f"{path}: {error.strerror}") from error


def _templates(tree: Tree) -> dict[str, bytes]:
    names = [GENERIC, DEFINITIONS, SCRIPT, *map(template_name, ResourceType)]
    there = [tree.templates / name for name in names if (tree.templates / name).exists()]
    return {path.name: _read(path) for path in there}


class Profiles:
    """The profiles of a tree, and what they are made from. Raises ProfileRefused for bad templates."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self.templates = _templates(tree)
        where = f"templates/{DEFINITIONS}"
        self.definitions = parse_definitions(self.templates.get(DEFINITIONS, b""), where)

    def path(self, name: str) -> Path:
        """Where a resource's profile is. Raises Refused for a name that none may have."""
        if not is_resource_name(name):
            raise Refused(f"'{name}' is no name of a resource; allowed: {NAME_WORDS}")
        return self._tree.resources / f"{name}.cap"

    def text(self, name: str) -> bytes:
        """What the profile says. Raises Refused if there is none."""
        path = self.path(name)
        if not path.exists():
            raise Refused(f"resource '{name}' has no profile {path}")
        return _read(path)

    def names(self) -> list[str]:
        """Every resource that has a profile, sorted."""
        return sorted(path.stem for path in self._tree.resources.glob("*.cap"))

    def judge(self, name: str, text: bytes) -> None:
        """Raises ProfileRefused unless `text` is a profile for that resource."""
        validate(name, text, self.templates, self.definitions)

    def judge_registration(self, name: str) -> None:
        """Raises ProfileRefused unless registering the resource, or updating it, would be granted."""
        refused = self.path(name).with_suffix(".cap.refused")
        text = _read(refused) if refused.exists() else self.text(name)
        registered = {each.name: each for each in self._tree.all()}
        profile = validate(name, text, self.templates, self.definitions, registered)
        others = {each.name: read(each.profile_text) for each in registered.values()}
        if circle := requires_itself(profile, others):
            why = f"REQUIRED_RESOURCES: it would require itself: {' > '.join(circle)}"
            raise ProfileRefused(f"{name}.cap: {why}")

    def defaults(self, kind: ResourceType) -> dict[str, str]:
        """What the templates say of profiles of that type, empty values too."""
        merged: dict[str, str] = {}
        known = {each.name for each in of_type(kind)}
        for file in (GENERIC, template_name(kind)):
            given = values(self.templates.get(file, b""), f"templates/{file}")
            merged |= {name: value for name, value in given.items() if value or name not in merged}
        return {name: value for name, value in merged.items() if name in known}

    def write(self, path: Path, text: bytes, mode: int, may_replace: bool) -> None:
        """Write a whole file. Raises Refused, with the daemon's reason if it has one."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC
        try:
            fd = os.open(path, flags | (os.O_TRUNC if may_replace else os.O_EXCL), mode)
            try:
                os.write(fd, text)
            finally:
                # A profile is judged here.
                os.close(fd)
        except FileExistsError as error:
            raise Refused(f"{path} is there already; -f writes over it") from error
        except OSError as error:
            raise Refused(f"{path}: {self._tree.why(error)}") from error

    def script(self, action_script: str) -> Path | None:
        """The file of an ACTION_SCRIPT; None for a systemd unit or an OCF agent."""
        if action_script.startswith(("systemd:", "ocf:")):
            return None
        return self._tree.scripts / action_script


def _given(
    parser: Parser, options: argparse.Namespace, definitions: Mapping[str, Definition]
) -> dict[str, str]:
    """The attributes that the options set."""
    given = {}
    for switch, attribute in SWITCHES.items():
        value = None if " " in switch else getattr(options, switch.removeprefix("-"))
        if value is not None:
            given[attribute] = value
    keys = dict(OPTION_KEYS)
    for each in definitions.values():
        if each.switch.startswith("-o "):
            keys[each.switch.removeprefix("-o ")] = each.attribute
        elif getattr(options, each.attribute) is not None:
            given[each.attribute] = getattr(options, each.attribute)
    for pair in ",".join(options.o).split(",") if options.o else []:
        key, equals, value = pair.partition("=")
        if key not in keys or not equals:
            parser.error(f"-o {pair}: allowed are {', '.join(f'{one}=' for one in keys)}")
        given[keys[key]] = value
    if given.get("REBALANCE") and not given["REBALANCE"].startswith("t:"):
        given["REBALANCE"] = f"t:{given['REBALANCE']}"
    return given


def _check_types(parser: Parser, given: Mapping[str, str], kind: ResourceType) -> None:
    """Options of other types of resources are a wrong use, whatever their values."""
    known = {each.name for each in of_type(kind)}
    if kind is ResourceType.APPLICATION:
        known |= {name for name in given if name.startswith("USR_")}
    wrong = [name for name in given if name not in known]
    if wrong:
        parser.error(f"type {kind} has no {wrong[0]}")


def _sorted(given: Mapping[str, str]) -> dict[str, str]:
    return dict(sorted(given.items(), key=lambda item: place(item[0])))


def _template_text(profiles: Profiles, tree: Tree, file: str) -> dict[str, str]:
    path = Path(file)
    if not path.exists() and (tree.templates / file).exists():
        path = tree.templates / file
    return values(_read(path), file)


def _create(parser: Parser, profiles: Profiles, tree: Tree, options: argparse.Namespace) -> None:
    name = options.create
    given = _given(parser, options, profiles.definitions)
    if options.I:
        if given or options.t or options.B:
            parser.error("-I goes with -f and -q only")
        wanted = _template_text(profiles, tree, options.I)
    elif options.t:
        _check_types(parser, given, ResourceType(options.t))
        wanted = {**profiles.defaults(ResourceType(options.t)), **given, "TYPE": options.t}
    else:
        parser.error("say -t TYPE or -I TEMPLATE")
    wanted["NAME"] = name
    wanted["DESCRIPTION"] = wanted.get("DESCRIPTION") or name
    if wanted.get("TYPE") == ResourceType.APPLICATION:
        wanted["ACTION_SCRIPT"] = wanted.get("ACTION_SCRIPT") or f"{name}.scr"
    elif options.B:
        parser.error("-B goes with -t application")
    path = profiles.path(name)
    text = join(_sorted(wanted)).encode()
    profiles.judge(name, text)
    if path.exists() and not options.f:
        raise Refused(f"{path} is there already; -f writes over it")
    if wanted.get("TYPE") == ResourceType.APPLICATION:
        _provide_script(profiles, wanted["ACTION_SCRIPT"], options)
    profiles.write(path, text, _PROFILE_MODE, options.f)


def _provide_script(profiles: Profiles, action_script: str, options: argparse.Namespace) -> None:
    """Make the action script that -B asks for; without -B it has to be there (manual 2.3)."""
    path = profiles.script(action_script)
    if options.B:
        if path is None:
            raise UsageError(f"-B makes a script; ACTION_SCRIPT is {action_script}")
        text = script_for(profiles.templates.get(SCRIPT, b""), options.B)
        if not text:
            raise Refused(f"there is no template {SCRIPT} to make the action script of")
        profiles.write(path, text, _SCRIPT_MODE, options.f)
    elif path is not None and not path.is_file():
        raise Refused(f"there is no action script {path}; -B PROGRAM makes one")
    elif path is not None and not path.stat().st_mode & 0o111:
        raise Refused(f"the action script {path} is not executable")


def _template(parser: Parser, profiles: Profiles, options: argparse.Namespace) -> None:
    if bool(options.template) == bool(options.t):
        parser.error("-template takes -t TYPE or a resource")
    if options.t:
        wanted = {**profiles.defaults(ResourceType(options.t)), "TYPE": options.t}
    else:
        wanted = values(profiles.text(options.template), f"{options.template}.cap")
    text = join(_sorted({**wanted, "NAME": ""})).encode()
    profiles.write(Path(options.O), text, _PROFILE_MODE, may_replace=True)


def _update(parser: Parser, profiles: Profiles, options: argparse.Namespace) -> None:
    name = options.update
    if options.t or options.I:
        parser.error("-update changes neither type nor template")
    text = profiles.text(name)
    before = values(text, f"{name}.cap")
    given = _given(parser, options, profiles.definitions)
    if before.get("TYPE") in [*ResourceType]:
        _check_types(parser, given, ResourceType(before["TYPE"]))
    updated = changed(text, given)
    profiles.judge(name, updated)
    if options.B:
        script = {**before, **given}.get("ACTION_SCRIPT") or f"{name}.scr"
        _provide_script(profiles, script, options)
    profiles.write(profiles.path(name), updated, _PROFILE_MODE, may_replace=True)


def _delete(profiles: Profiles, tree: Tree, name: str) -> None:
    if name in tree.names():
        raise Refused(f"resource '{name}' is registered; caa_unregister it first")
    script = values(profiles.text(name), f"{name}.cap").get("ACTION_SCRIPT", "")
    others = [values(profiles.text(one), one) for one in profiles.names() if one != name]
    path = profiles.script(script) if script and not script.startswith("/") else None
    try:
        profiles.path(name).unlink()
        # A script elsewhere, or one that another resource has too, is not ours to delete.
        if path and path.exists() and script not in [one.get("ACTION_SCRIPT") for one in others]:
            path.unlink()
    except OSError as error:
        raise Refused(f"{error.filename}: {tree.why(error)}") from error


def _print(profiles: Profiles, names: Sequence[str], teller: Teller) -> int:
    blocks = []

    def one(name: str) -> int:
        blocks.append(join(values(profiles.text(name), f"{name}.cap")))
        return 0

    status = teller.each(names or profiles.names(), one)
    sys.stdout.write("\n".join(blocks))
    return status


def _main(argv: Sequence[str]) -> int:
    if "--help" in argv:
        _parser({}).parse_args(["--help"])
    teller = Teller("caa_profile", "-q" in argv)
    try:
        tree = Tree()
        profiles = Profiles(tree)
        parser = _parser(profiles.definitions)
        options = parser.parse_args(argv)
        verb = next(each for each in _VERBS if getattr(options, each) is not None)
        if verb == "print":
            return _print(profiles, options.print, teller)
        acts: dict[str, Callable[[], None]] = {
            "create": lambda: _create(parser, profiles, tree, options),
            "template": lambda: _template(parser, profiles, options),
            "update": lambda: _update(parser, profiles, options),
            "delete": lambda: _delete(profiles, tree, options.delete),
            "validate": lambda: profiles.judge_registration(options.validate),
        }
        acts[verb]()
    except ClufsError as error:
        return teller.tell(error)
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Do what is asked; return 0, or 1 if it was refused (2: wrong arguments)."""
    return run("caa_profile", _main, argv)


if __name__ == "__main__":
    sys.exit(main())
