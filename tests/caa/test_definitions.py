"""application.tdf: the manual's entry, the seven types, and what is refused."""

import errno

import pytest

from clufs.caa.attributes import ATTRIBUTES
from clufs.caa.definitions import OPTION_KEYS, SWITCHES, TYPES, Definition, parse_definitions
from clufs.errors import ProfileRefused

# Manual 2.4, as printed.
PRINTED = b"""\
#!=====================================================
attribute: USR_DEBUG
type: boolean
switch: -o d
default: 0
required: no
"""


def entry(attribute: str = "USR_A", **given: str) -> bytes:
    keys = {"type": "string", "switch": "-o a1", "default": "", "required": "no", **given}
    lines = [f"attribute: {attribute}", *(f"{key}: {value}" for key, value in keys.items())]
    return "".join(f"{line}\n" for line in lines).encode()


def refusal(text: bytes) -> str:
    with pytest.raises(ProfileRefused) as refused:
        parse_definitions(text)
    assert refused.value.errno == errno.EINVAL
    return str(refused.value)


def test_the_manuals_entry() -> None:
    debug = Definition("USR_DEBUG", "boolean", "-o d", "0", False)
    assert parse_definitions(PRINTED) == {"USR_DEBUG": debug}
    assert parse_definitions(b"") == {}


def test_two_entries_and_a_switch_of_its_own() -> None:
    text = PRINTED + b"\n" + entry("USR_HOSTS", type="name_list", switch="-hosts", required="YES")
    hosts = Definition("USR_HOSTS", "name_list", "-hosts", "", True)
    assert list(parse_definitions(text).values())[1:] == [hosts]


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        ("boolean", ["0", "1"], ["2", "no"]),
        ("string", ["any text = at all", "x"], []),
        ("name_list", ["a", "a b.c d-e"], ["a,b", "a /b"]),
        ("name_string", ["a", "up-app-1"], ["a b", ".a"]),
        ("positive_integer", ["0", "1", "2147483647"], ["-1", "x", "2147483648", "1.5"]),
        ("internet_address", ["10.0.0.1", "fd00::1"], ["10.0.0", "host", "10.0.0.1/8"]),
        ("file", ["/etc/hosts", "x.conf"], ["/a b"]),
    ],
)
def test_what_each_type_takes(kind: str, good: list[str], bad: list[str]) -> None:
    for value in good:
        (found,) = parse_definitions(entry(type=kind, default=value)).values()
        assert found.values.takes(value)
        assert found.default == value
    for value in bad:
        assert not TYPES[kind].takes(value)
        said = refusal(entry(type=kind, default=value))
        expected = f"line 4: USR_A: default: {value}: allowed: {TYPES[kind].allowed}"
        assert said == f"application.tdf {expected}"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (entry("DEBUG"), "line 1: DEBUG: allowed: USR_ and letters"),
        (entry("USR_"), "line 1: USR_: allowed: USR_ and letters"),
        (entry() + entry(switch="-o b"), "line 6: USR_A: is defined above already"),
        (entry() + entry("USR_B"), "line 8: USR_B: switch: -o a1: allowed: -o KEY or"),
        (entry(switch="-o ci"), "line 3: USR_A: switch: -o ci: allowed: -o KEY or"),
        (entry(switch="-B"), "line 3: USR_A: switch: -B: allowed: -o KEY or"),
        (entry(switch="d"), "line 3: USR_A: switch: d: allowed: -o KEY or"),
        (entry(type="number"), "line 2: USR_A: type: number: allowed: boolean, string,"),
        (entry(required="maybe"), "line 5: USR_A: required: maybe: allowed: yes or no"),
        (b"type: string\n", "line 1: type: stands before any attribute:"),
        (entry() + b"type: string\n", "line 6: USR_A: type: is repeated"),
        (entry() + b"kind: string\n", "line 6: 'kind: string' is not one of attribute:, type:,"),
        (entry() + b"string\n", "line 6: 'string' is not one of attribute:, type:,"),
        (b"attribute: USR_A\n", "line 1: USR_A: type: is missing; allowed: boolean"),
        (b"\xff\n", "line 1: is not UTF-8 text"),
    ],
)
def test_a_refusal_names_the_line_and_what_is_allowed(text: bytes, said: str) -> None:
    assert refusal(text).startswith(f"application.tdf {said}")


def test_a_definition_of_the_manuals_own_attributes_is_passed_over() -> None:
    text = entry("RESTART_ATTEMPTS", type="positive_integer", switch="-o ra", default="1")
    assert parse_definitions(text + PRINTED).keys() == {"USR_DEBUG"}


def test_every_switch_sets_an_attribute_of_the_tables() -> None:
    assert set(SWITCHES.values()) == {*ATTRIBUTES} - {"NAME", "TYPE"}
    assert " ".join(OPTION_KEYS) == "ci ft fi ra bt as ap fd st"
