"""The templates that a new cluster starts with, as the files of /clu/templates.

A profile's values are merged with those of TYPE_<type>.cap and then of TYPE_generic.cap (manual 2.2).
`template.scr` becomes the action script of an application that is created with `caa_profile -B`.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from clufs.caa.attributes import ATTRIBUTES, ResourceType, of_type
from clufs.caa.definitions import NONE, Definition, parse_definitions
from clufs.caa.syntax import Line, Problem, parse, refuse

GENERIC = "TYPE_generic.cap"
DEFINITIONS = "application.tdf"
SCRIPT = "template.scr"
PROGRAM_MARK = "@PROGRAM@"
"""Stands in template.scr where the program's path goes."""


def template_name(kind: ResourceType) -> str:
    """The file with the defaults of that type of resource."""
    return f"TYPE_{kind}.cap"


_APPLICATION = b"""\
# Defaults of application profiles. A profile's own values count before these.
TYPE=application
ACTION_SCRIPT=
ACTIVE_PLACEMENT=0
AUTO_START=0
CHECK_INTERVAL=60
DESCRIPTION=
FAILOVER_DELAY=0
FAILURE_INTERVAL=0
FAILURE_THRESHOLD=0
HOSTING_MEMBERS=
OPTIONAL_RESOURCES=
PLACEMENT=balanced
REQUIRED_RESOURCES=
RESTART_ATTEMPTS=1
SCRIPT_TIMEOUT=60
"""

_NETWORK = b"""\
# Defaults of network profiles. SUBNET is an address AND its netmask.
TYPE=network
DESCRIPTION=
FAILURE_INTERVAL=0
FAILURE_THRESHOLD=0
SUBNET=
"""

_TAPE = b"""\
# Defaults of tape profiles. DEVICE_NAME is the full path of a device special file.
TYPE=tape
DESCRIPTION=
DEVICE_NAME=
FAILURE_INTERVAL=0
FAILURE_THRESHOLD=0
"""

_CHANGER = b"""\
# Defaults of media changer profiles. DEVICE_NAME is the full path of a device special file.
TYPE=changer
DESCRIPTION=
DEVICE_NAME=
FAILURE_INTERVAL=0
FAILURE_THRESHOLD=0
"""

_GENERIC = b"""\
# Defaults of profiles of every type, where the template of the type says nothing.
DESCRIPTION=
FAILURE_INTERVAL=0
FAILURE_THRESHOLD=0
"""

_DEFINITIONS = b"""\
# Attributes of this site for application profiles. An action script finds the value in the
# environment variable of the attribute's name. The types:
#
#   boolean string name_list name_string positive_integer internet_address file
#
# The switch is the option of caa_profile that sets the attribute. For example:
#
#!=====
# attribute: USR_DEBUG
# type: boolean
# switch: -o d
# default: 0
# required: no
"""

_SCRIPT = rb"""#!/bin/sh
# Action script of a resource: CAA runs it with start, stop or check.
# Status 0 is success, any other is failure. Nobody sees its output unless they ask for it, but the
# end of it is kept in the resource's file `output`.
#
# _CAA_NAME and the like hold the profile's attributes, _CAA_REASON says why it is run:
# user, failure, dependency, boot, autostart, system or unknown.

PATH=/usr/local/sbin:/usr/local/bin:/sbin:/usr/sbin:/bin:/usr/bin
export PATH

PROGRAM='@PROGRAM@'
NAME=${_CAA_NAME:-${PROGRAM##*/}}
PID_FILE=/run/caa.$NAME.pid
# Half of SCRIPT_TIMEOUT: a stop that takes longer than that leaves the resource UNKNOWN.
TENTHS_TO_STOP=$((${_CAA_SCRIPT_TIMEOUT:-60} * 5))

# The process that start left behind: a pid alone may belong to another by now, so its
# start time has to match too. Prints the pid.
running() {
    [ -r "$PID_FILE" ] && read -r pid began <"$PID_FILE" || return 1
    [ -n "$began" ] && [ "$(began "$pid")" = "$began" ] && echo "$pid"
}

# When a process began, in clock ticks since the boot; nothing for one that is gone or a zombie.
began() {
    [ -r "/proc/$1/stat" ] || return 1
    # The command's name, in parentheses, may have blanks in it.
    sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | { read -r state rest && [ "$state" != Z ] &&
        echo "$rest" | cut -d' ' -f19; }
}

start() {
    running >/dev/null && return 0
    if [ ! -x "$PROGRAM" ]; then
        echo "$NAME: there is no program $PROGRAM on $(uname -n)"
        return 1
    fi
    # Whoever reads this script's output goes away sooner than the program.
    "$PROGRAM" </dev/null >/dev/null 2>&1 &
    echo "$! $(began $!)" >"$PID_FILE" || return 1
    # A program that cannot run at all ends at once; that is no start.
    sleep 0.2
    running >/dev/null && return 0
    if ! wait $!; then
        echo "$NAME: $PROGRAM ended at once"
        rm -f "$PID_FILE"
        return 1
    fi
    # One that puts itself into the background ends with status 0.
    adopt
}

# The control group of a process: CAA gives each application its own, where it can.
group() {
    sed -n 's/^0:://p' "/proc/$1/cgroup" 2>/dev/null
}

# Takes the oldest process of the program for the one to watch and to stop: of those that this start
# began, as the program may also run for somebody else.
adopt() {
    real=$(readlink -f "$PROGRAM")
    since=$(began $$)
    mine=$(group self)
    for directory in /proc/[0-9]*; do
        [ "$(readlink "$directory/exe" 2>/dev/null)" = "$real" ] || continue
        pid=${directory#/proc/}
        at=$(began "$pid")
        [ "${at:-0}" -ge "$since" ] || continue
        case $(group "$pid")/ in
        "${mine%/}"/*) echo "$at $pid" ;;
        esac
    done | sort -n | {
        read -r began pid && echo "$pid $began" >"$PID_FILE" && return 0
        echo "$NAME: $PROGRAM ended at once"
        rm -f "$PID_FILE"
        return 1
    }
}

stop() {
    pid=$(running) || return 0
    kill -TERM "$pid"
    while running >/dev/null; do
        if [ "$TENTHS_TO_STOP" -le 0 ]; then
            kill -KILL "$pid"
            sleep 1
            break
        fi
        TENTHS_TO_STOP=$((TENTHS_TO_STOP - 1))
        sleep 0.1
    done
    if running >/dev/null; then
        echo "$NAME: process $pid does not end"
        return 2
    fi
    rm -f "$PID_FILE"
}

check() {
    running >/dev/null && return 0
    echo "$NAME: $PROGRAM is not running"
    return 2
}

case ${1-} in
start | stop | check) "$1" ;;
*)
    echo "usage: $0 start|stop|check" >&2
    exit 2
    ;;
esac
"""

BUILT_IN: Mapping[str, bytes] = MappingProxyType(
    {
        template_name(ResourceType.APPLICATION): _APPLICATION,
        template_name(ResourceType.NETWORK): _NETWORK,
        template_name(ResourceType.TAPE): _TAPE,
        template_name(ResourceType.CHANGER): _CHANGER,
        GENERIC: _GENERIC,
        DEFINITIONS: _DEFINITIONS,
        SCRIPT: _SCRIPT,
    }
)
"""The files of /clu/templates in a new cluster, by name."""


def script_for(template: bytes, program: str) -> bytes:
    """An action script for the program at that path, from the text of template.scr."""
    quoted = program.replace("'", "'\\''").encode()
    return template.replace(PROGRAM_MARK.encode(), quoted)


def defaults(kind: ResourceType, templates: Mapping[str, bytes]) -> dict[str, str]:
    """The values that the templates give to profiles of that type; an empty one is none.

    Raises ProfileRefused for a template that does not validate.
    """
    merged: dict[str, str] = {}
    names = {each.name for each in of_type(kind)}
    for file in (GENERIC, template_name(kind)):
        for line in template_lines(file, templates.get(file, b""), user=None):
            # The generic template may speak of attributes that only other types have.
            if line.value and (file != GENERIC or line.attribute in names):
                merged[line.attribute] = line.value
    return merged


def template_lines(
    file: str, text: bytes, user: Mapping[str, Definition] | None = NONE
) -> list[Line]:
    """The assignments of the template TYPE_*.cap of that name.

    user: the user-defined attributes; None takes any. Raises ProfileRefused.
    """
    kind = file.removeprefix("TYPE_").removesuffix(".cap")
    lines = parse(text, f"templates/{file}")
    known = (
        {each.name for each in of_type(ResourceType(kind))} if file != GENERIC else {*ATTRIBUTES}
    )
    problems = []
    for line in lines:
        row = ATTRIBUTES.get(line.attribute)
        why = ""
        if line.attribute.startswith(("USR_", "OCF_")):
            usr = line.attribute.startswith("USR_")
            if usr and user is not None and line.attribute not in user:
                why = f"is not defined in {DEFINITIONS}"
        elif row is None or line.attribute not in known:
            why = f"is not an attribute of this template, which may have {', '.join(sorted(known))}"
        elif line.attribute == "TYPE" and file != GENERIC and line.value != kind:
            why = f"{line.value}: allowed: {kind}"
        elif line.value and not row.values.takes(line.value):
            why = f"{line.value}: allowed: {row.values.allowed}"
        if why:
            problems.append(Problem(f"templates/{file}", line.number, line.attribute, why))
    refuse(problems)
    return lines


def judge(file: str, text: bytes) -> None:
    """Raises ProfileRefused if `text` will not do as the file of that name in /clu/templates."""
    if file == DEFINITIONS:
        parse_definitions(text, f"templates/{DEFINITIONS}")
    elif file == GENERIC or file in map(template_name, ResourceType):
        template_lines(file, text, user=None)
