"""The tables of attributes against the manual's, cell by cell, and each range at both of its ends."""

import pytest

from clufs.caa.attributes import ATTRIBUTES, ResourceType, of_type, place, read_rebalance
from clufs.caa.profile import validate
from clufs.errors import ProfileRefused

# Attribute, required, default: tables 2-1 to 2-4 of the TruCluster manual. `name` for the name of
# the resource, which table 2-1 says of DESCRIPTION and we hold for every type.
TABLE_2_1 = """
    TYPE yes -
    NAME yes -
    DESCRIPTION no name
    FAILURE_THRESHOLD no 0
    FAILURE_INTERVAL no 0
    REQUIRED_RESOURCES no none
    OPTIONAL_RESOURCES no none
    PLACEMENT no balanced
    HOSTING_MEMBERS sometimes none
    RESTART_ATTEMPTS no 1
    FAILOVER_DELAY no 0
    AUTO_START no 0
    ACTION_SCRIPT yes -
    ACTIVE_PLACEMENT no 0
    SCRIPT_TIMEOUT no 60
    CHECK_INTERVAL no 60
    REBALANCE no none
"""
TABLE_2_2 = """
    TYPE yes -
    NAME yes -
    DESCRIPTION no name
    SUBNET yes -
    FAILURE_THRESHOLD no 0
    FAILURE_INTERVAL no 0
"""
TABLE_2_3 = """
    TYPE yes -
    NAME yes -
    DESCRIPTION no name
    DEVICE_NAME yes -
    FAILURE_THRESHOLD no 0
    FAILURE_INTERVAL no 0
"""
TABLE_2_4 = TABLE_2_3

TABLES = [
    (ResourceType.APPLICATION, TABLE_2_1),
    (ResourceType.NETWORK, TABLE_2_2),
    (ResourceType.TAPE, TABLE_2_3),
    (ResourceType.CHANGER, TABLE_2_4),
]

MINIMAL = {
    ResourceType.APPLICATION: {"ACTION_SCRIPT": "r.scr"},
    ResourceType.NETWORK: {"SUBNET": "16.69.225.0"},
    ResourceType.TAPE: {"DEVICE_NAME": "/dev/tape/tape1"},
    ResourceType.CHANGER: {"DEVICE_NAME": "/dev/changer/mc1"},
}


def rows(table: str) -> dict[str, tuple[str, str]]:
    cells = [line.split() for line in table.strip().splitlines()]
    return {name: (required, default) for name, required, default in cells}


def judged(kind: ResourceType, **given: str) -> dict[str, str]:
    """The values of a profile that has nothing but what it must, and `given`; no templates."""
    values = {"NAME": "r", "TYPE": str(kind), **MINIMAL[kind], **given}
    text = "".join(f"{name}={value}\n" for name, value in values.items())
    return validate("r", text.encode(), templates={}).values()


@pytest.mark.parametrize(("kind", "table"), TABLES)
def test_each_type_has_the_attributes_of_its_table(kind: ResourceType, table: str) -> None:
    assert {row.name for row in of_type(kind)} == set(rows(table))


@pytest.mark.parametrize(("kind", "table"), TABLES)
def test_what_is_required_is_refused_when_it_is_missing(kind: ResourceType, table: str) -> None:
    needed = {name for name, (required, _) in rows(table).items() if required == "yes"}
    assert needed == {"NAME", "TYPE", *MINIMAL[kind]}
    for name in needed:
        with pytest.raises(ProfileRefused, match=f"^r.cap.*: {name}: is missing; allowed: "):
            judged(kind, **{name: ""})


@pytest.mark.parametrize(("kind", "table"), TABLES)
def test_the_defaults_are_those_of_the_table(kind: ResourceType, table: str) -> None:
    meant = {"none": "", "name": "r"}
    expected = {
        name: meant.get(default, default)
        for name, (required, default) in rows(table).items()
        if required != "yes"
    }
    values = judged(kind)
    assert {name: values[name] for name in expected} == expected


# Attribute, the values at the ends of its range, and values just beyond them.
RANGES = [
    ("NAME", ["r", "s."], [".r", "a b", "a/b", "ä", "x" * 244, "x.cap", "x.cap.refused"]),
    ("FAILURE_THRESHOLD", ["0", "20"], ["21", "-1", "x", "1.5", "²"]),
    ("FAILURE_INTERVAL", ["0", "2147483647"], ["-1", "2147483648", "1m", "9" * 5000]),
    ("RESTART_ATTEMPTS", ["0", "30"], ["-1", "many"]),
    ("FAILOVER_DELAY", ["0", "30"], ["-1", "1s"]),
    ("SCRIPT_TIMEOUT", ["1", "3600"], ["0", "-1"]),
    ("CHECK_INTERVAL", ["0", "5"], ["-5"]),
    ("AUTO_START", ["0", "1"], ["2", "yes"]),
    ("ACTIVE_PLACEMENT", ["0", "1"], ["2", "true"]),
    ("PLACEMENT", ["balanced"], ["favoured", "Balanced"]),
    ("OPTIONAL_RESOURCES", ["", "a b", " ".join(map(str, range(58)))],
     [" ".join(map(str, range(59))), "a a", ".a", "r"]),
    ("REQUIRED_RESOURCES", ["", "b a"], ["b b", "a,b", "r"]),
    ("ACTION_SCRIPT", ["x.scr", "/usr/users/smith/caa/scripts/app.scr",
                       "systemd:nginx.service", "systemd:pg@14-main.service",
                       "ocf:heartbeat:IPaddr2"],
     ["../x", "a/x", ".x", "systemd:-x", "systemd:", "systemd:a b", "ocf:x", "ocf::x", "ocf:a:b:c"]),
    ("REBALANCE", ["", "t:0:3:0", "t:*:2:30", "t:6:23:59", "t:*:*:0", "t:*:12:00"],
     ["0:3:0", "t:7:3:0", "t:0:24:0", "t:0:3:60", "t:0:3:*", "t:0:3", "t::3:0", "t:0:3:0:0"]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "good", "bad"), RANGES, ids=[r[0] for r in RANGES])
def test_a_range_ends_where_the_table_says(name: str, good: list[str], bad: list[str]) -> None:
    for value in good:
        assert judged(ResourceType.APPLICATION, **{name: value})[name] == value
    for value in bad:
        with pytest.raises(ProfileRefused) as refused:
            judged(ResourceType.APPLICATION, **{name: value})
        assert f": {name}: " in str(refused.value)
        assert value in str(refused.value)
        assert " allowed" in str(refused.value)


def test_a_subnet_is_an_address_of_four_numbers() -> None:
    for value in ("16.140.112.0", "0.0.0.0", "255.255.255.255"):
        assert judged(ResourceType.NETWORK, SUBNET=value)["SUBNET"] == value
    for value in ("16.140.112", "16.140.112.256", "16.140.112.0/24", "lan", "::1"):
        with pytest.raises(ProfileRefused, match=r"SUBNET: .*allowed: an address like"):
            judged(ResourceType.NETWORK, SUBNET=value)


@pytest.mark.parametrize("kind", [ResourceType.TAPE, ResourceType.CHANGER])
def test_a_device_has_a_full_path(kind: ResourceType) -> None:
    with pytest.raises(ProfileRefused, match="DEVICE_NAME: tape1: allowed: the full path"):
        judged(kind, DEVICE_NAME="tape1")


def test_hosting_members_go_with_the_policy() -> None:
    application = ResourceType.APPLICATION
    for policy in ("favored", "restricted"):
        values = judged(application, PLACEMENT=policy, HOSTING_MEMBERS="b a")
        assert values["HOSTING_MEMBERS"] == "b a"
        with pytest.raises(ProfileRefused, match=f"HOSTING_MEMBERS: must name .* {policy}$"):
            judged(application, PLACEMENT=policy)
        with pytest.raises(ProfileRefused, match="HOSTING_MEMBERS: a a: allowed: names"):
            judged(application, PLACEMENT=policy, HOSTING_MEMBERS="a a")
    with pytest.raises(ProfileRefused, match="HOSTING_MEMBERS: a: must be empty"):
        judged(application, HOSTING_MEMBERS="a")


def test_the_order_of_a_profile() -> None:
    names = [row.name for row in of_type(ResourceType.APPLICATION)]
    assert names[:3] == ["NAME", "TYPE", "ACTION_SCRIPT"]
    assert names[2:] == sorted(names[2:])
    assert sorted(ATTRIBUTES, key=place)[:2] == ["NAME", "TYPE"]


def test_a_rebalance_knows_its_minutes() -> None:
    sunday = read_rebalance("t:0:3:0")
    daily = read_rebalance("t:*:2:30")
    hourly = read_rebalance("t:*:*:5")
    assert read_rebalance("") is None
    assert sunday and daily and hourly
    week = [(d, h, m) for d in range(7) for h in range(24) for m in range(60)]
    assert [at for at in week if sunday.due(*at)] == [(0, 3, 0)]
    assert [at for at in week if daily.due(*at)] == [(day, 2, 30) for day in range(7)]
    assert sum(hourly.due(*at) for at in week) == 7 * 24
