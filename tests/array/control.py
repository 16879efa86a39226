"""How the array is driven from outside: a line is a command, and every line has a line as answer.

lun N online | offline | hang | slow SECONDS | reset | lose-reservations
lun N fault NAME [NAME ...]        the next commands have these faults
lun N rate NAME CHANCE             each command has this fault with this chance
port N active | non_optimized | standby | unavailable | transitioning
portal N down | up
sessions [NAME]                    break the connections of an initiator, or all
power [lost]                       power fails and comes back
writes N                           how many entries the log of a LUN has
"""

from __future__ import annotations

import math

from clufs.storage.port_groups import AccessState
from tests.array.array import Array
from tests.array.faults import Fault

STATES = {
    "active": AccessState.ACTIVE_OPTIMIZED,
    "non_optimized": AccessState.ACTIVE_NON_OPTIMIZED,
    "standby": AccessState.STANDBY,
    "unavailable": AccessState.UNAVAILABLE,
    "transitioning": AccessState.TRANSITIONING,
}


def obey(array: Array, line: str) -> str:
    """Do what a line says. Returns `ok`, a number, or `error: ` and why."""
    try:
        return _obey(array, line.split())
    except (KeyError, ValueError, IndexError) as error:
        return f"error: {line!r}: {error!r}"


def _obey(array: Array, words: list[str]) -> str:
    match words:
        case ["lun", number, *rest]:
            return _lun(array, int(number), rest)
        case ["port", number, state]:
            if not array.ports.set(int(number), STATES[state], asked=False):
                raise KeyError(number)
        case ["portal", number, "down" | "up" as how]:
            array.portal_down(int(number), how == "down")
        case ["sessions", *name]:
            return str(array.lose_sessions(name[0] if name else None))
        case ["power", *how]:
            array.fail_power(how == ["lost"])
        case ["writes", number]:
            return str(len(array.units[int(number)].medium.log))
        case _:
            raise ValueError("no such command")
    return "ok"


def _lun(array: Array, number: int, words: list[str]) -> str:
    unit = array.units[number]
    match words:
        case ["online" | "offline" as how]:
            array.online(number, how == "online")
        case ["hang"]:
            array.slow(number, math.inf)
        case ["slow", seconds]:
            array.slow(number, float(seconds))
        case ["reset"]:
            array.reset_unit(unit)
        case ["lose-reservations"]:
            unit.reservations.lose()
        case ["fault", *names]:
            array.fail_next(number, *(Fault(name) for name in names))
        case ["rate", name, chance]:
            array.rate(number, Fault(name), float(chance))
        case _:
            raise ValueError("no such command")
    return "ok"
