"""Profiles: the manual's examples as printed, the syntax, merging, refusals, and the round trip."""

import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clufs.caa.attributes import ATTRIBUTES, Placement, ResourceType
from clufs.caa.definitions import TYPES, Definition
from clufs.caa.profile import Profile, parse, read, requires_itself, validate
from clufs.caa.templates import BUILT_IN
from clufs.errors import ProfileRefused

# 2.2.2, with REBALANCE where 2.8 prints it.
CLOCK = """\
NAME=clock
TYPE=application
ACTION_SCRIPT=clock.scr
ACTIVE_PLACEMENT=0
AUTO_START=0
CHECK_INTERVAL=5
DESCRIPTION=Clock Application
FAILOVER_DELAY=0
FAILURE_INTERVAL=12
FAILURE_THRESHOLD=2
HOSTING_MEMBERS=
OPTIONAL_RESOURCES=application2
PLACEMENT=balanced
REBALANCE=t:*:12:00
REQUIRED_RESOURCES=network1
RESTART_ATTEMPTS=2
SCRIPT_TIMEOUT=60
"""
# 2.2.3, 2.2.4, 2.2.5, 2.8, 2.11.
NETWORK1 = """\
NAME=network1
TYPE=network
DESCRIPTION=Network1
FAILURE_INTERVAL=0
FAILURE_THRESHOLD=0
SUBNET=16.69.244.0
"""
TAPE1 = """\
NAME=tape1
TYPE=tape
DESCRIPTION=Tape Drive
DEVICE_NAME=/dev/tape/tape1
FAILURE_INTERVAL=0
FAILURE_THRESHOLD=0
"""
MCHANGER1 = """\
NAME=mchanger1
TYPE=changer
DESCRIPTION=Media Changer Drive
DEVICE_NAME=/dev/changer/mc1
FAILURE_INTERVAL=0
FAILURE_THRESHOLD=0
"""
TESTAPP = """\
NAME=testapp
TYPE=application
ACTION_SCRIPT=testapp.scr
ACTIVE_PLACEMENT=0
AUTO_START=0
CHECK_INTERVAL=60
DESCRIPTION=testapp
FAILOVER_DELAY=0
FAILURE_INTERVAL=0
FAILURE_THRESHOLD=0
HOSTING_MEMBERS=
OPTIONAL_RESOURCES=
PLACEMENT=balanced
REBALANCE=t:*:2:30
REQUIRED_RESOURCES=
RESTART_ATTEMPTS=1
SCRIPT_TIMEOUT=60
"""
CLUSTER_LOCKD = """\
NAME=cluster_lockd
TYPE=application
ACTION_SCRIPT=cluster_lockd.scr
ACTIVE_PLACEMENT=0
AUTO_START=1
CHECK_INTERVAL=5
DESCRIPTION=Cluster lockd/statd
FAILOVER_DELAY=30
FAILURE_INTERVAL=60
FAILURE_THRESHOLD=1
HOSTING_MEMBERS=
OPTIONAL_RESOURCES=
PLACEMENT=balanced
REBALANCE=
REQUIRED_RESOURCES=
RESTART_ATTEMPTS=2
SCRIPT_TIMEOUT=60
"""
# 2.13.4: without REBALANCE.
DTCALC = """\
NAME=dtcalc
TYPE=application
ACTION_SCRIPT=dtcalc.scr
ACTIVE_PLACEMENT=0
AUTO_START=0
CHECK_INTERVAL=60
DESCRIPTION=dtcalc application
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
# 2.14.1: another order, blanks around `=`, and without SCRIPT_TIMEOUT.
OPENLDAP = """\
TYPE = application
NAME = openldap
DESCRIPTION = OpenLDAP Directory Server
CHECK_INTERVAL = 60
FAILURE_THRESHOLD = 0
FAILURE_INTERVAL = 0
REQUIRED_RESOURCES =
OPTIONAL_RESOURCES =
HOSTING_MEMBERS =
PLACEMENT = balanced
RESTART_ATTEMPTS = 1
FAILOVER_DELAY = 0
AUTO_START = 0
ACTION_SCRIPT = openldap.scr
"""

USR_DEBUG = Definition("USR_DEBUG", "boolean", "-o d", "0", False)
USR_ADDRESS = Definition("USR_ADDRESS", "internet_address", "-o ip", "", True)


def refusal(text: str, name: str = "r", **more: object) -> str:
    with pytest.raises(ProfileRefused) as refused:
        validate(name, text.encode(), **more)  # type: ignore[arg-type]
    assert refused.value.errno == errno.EINVAL
    assert "\n" not in str(refused.value)
    return str(refused.value)


@pytest.mark.parametrize(
    "text", [CLOCK, NETWORK1, TAPE1, MCHANGER1, TESTAPP, CLUSTER_LOCKD], ids=lambda t: t[5:12]
)
def test_the_manuals_complete_profiles_come_out_as_they_went_in(text: str) -> None:
    name = text.splitlines()[0].removeprefix("NAME=")
    assert validate(name, text.encode()).text() == text


@pytest.mark.parametrize("text", [DTCALC, OPENLDAP], ids=["dtcalc", "openldap"])
def test_the_manuals_other_profiles_get_what_they_leave_out(text: str) -> None:
    given = {line.attribute: line.value for line in parse(text.encode())}
    values = validate(given["NAME"], text.encode()).values()
    added = {name: value for name, value in values.items() if name not in given}
    assert {name: values[name] for name in given} == given
    expected = {"REBALANCE": "", "ACTIVE_PLACEMENT": "0", "SCRIPT_TIMEOUT": "60"}
    assert added == {name: value for name, value in expected.items() if name not in given}


def test_what_a_profile_says_is_typed() -> None:
    clock = validate("clock", CLOCK.encode())
    assert clock.type is ResourceType.APPLICATION
    assert clock.placement is Placement.BALANCED
    assert (clock.required, clock.optional) == (("network1",), ("application2",))
    assert (clock.check_interval_s, clock.failure_interval_s, clock.failure_threshold) == (5, 12, 2)
    assert (clock.restart_attempts, clock.script_timeout_s, clock.failover_delay_s) == (2, 60, 0)
    assert (clock.auto_start, clock.active_placement) == (False, False)
    assert clock.rebalance and clock.rebalance.due(4, 12, 0)
    assert validate("tape1", TAPE1.encode()).device_name == "/dev/tape/tape1"
    assert validate("network1", NETWORK1.encode()).subnet == "16.69.244.0"


APPLICATION = "NAME=r\nTYPE=application\nACTION_SCRIPT=r.scr\n"


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("DESCRIPTION=a=b # not a comment", "a=b # not a comment"),
        (" DESCRIPTION \t=\t a  b \r", "a  b"),
        ("DESCRIPTION=one \\\ntwo", "one two"),
        ("DESCRIPTION=one\\\n   two", "one two"),
        ("DESCRIPTION=one\\\ntwo", "onetwo"),
        ("DESCRIPTION=one \\  \n \\\n two", "one two"),
        ("DESCRIPTION=back\\slash", "back\\slash"),
        ("DESCRIPTION=ÄÖ ✓", "ÄÖ ✓"),
        ("# DESCRIPTION=no\n\n  # neither \\\nDESCRIPTION=yes", "yes"),
    ],
)
def test_the_syntax_of_a_line(written: str, value: str) -> None:
    text = f"{APPLICATION}{written}\n"
    assert validate("r", text.encode()).description == value
    assert validate("r", text.removesuffix("\n").encode()).description == value


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("NAME=r\nno value\n", "r.cap line 2: 'no value' is not KEY=value"),
        ("NAME=r\n=x\n2=x\n", "r.cap line 2: '=x' is not KEY=value; r.cap line 3: '2=x' is not KEY=value"),
        ("NAME=r\\\n", "r.cap line 1: a '\\' continues the line, and nothing follows"),
        ("\nNAME=r\0\n", "r.cap line 2: has a control character"),
        ("", "r.cap: TYPE: is missing; allowed: application, network, tape or changer"),
        ("TYPE=disk\n", "r.cap line 1: TYPE: disk: allowed: application, network, tape or changer"),
        (
            f"{APPLICATION}AUTO_START=\\\n2\nAUTO_START=1\n",
            "r.cap line 4: AUTO_START: 2: allowed: 0 or 1;"
            " r.cap line 6: AUTO_START: stands in line 4 already",
        ),
        (
            "TYPE=tape\nNAME=r\nSUBNET=1.2.3.0\n",
            "r.cap: DEVICE_NAME: is missing; allowed: the full path of a device special file;"
            " r.cap line 3: SUBNET: is no attribute of type tape, which has"
            " NAME, TYPE, DESCRIPTION, DEVICE_NAME, FAILURE_INTERVAL, FAILURE_THRESHOLD",
        ),
        (
            f"{APPLICATION}USR_DEBUG=1\n",
            "r.cap line 4: USR_DEBUG: only application profiles have it, and application.tdf"
            " defines it; defined: none so far",
        ),
        (
            f"{APPLICATION}OCF_ip=10.0.0.1\n",
            "r.cap line 4: OCF_ip: only a profile whose ACTION_SCRIPT is ocf:PROVIDER:AGENT has it",
        ),
    ],
)  # fmt: skip
def test_a_refusal_names_line_attribute_and_allowed_values(text: str, said: str) -> None:
    assert refusal(text) == said


def test_text_that_is_not_utf8_is_refused() -> None:
    with pytest.raises(ProfileRefused, match=r"^r.cap line 2: is not UTF-8 text$"):
        validate("r", b"NAME=r\nDESCRIPTION=\xff\n")


def test_user_attributes_are_merged_and_judged() -> None:
    defined = {each.attribute: each for each in (USR_DEBUG, USR_ADDRESS)}
    text = f"{APPLICATION}USR_ADDRESS=10.1.2.3\n"
    profile = validate("r", text.encode(), definitions=defined)
    assert profile.user == {"USR_DEBUG": "0", "USR_ADDRESS": "10.1.2.3"}
    assert profile.text().endswith("SCRIPT_TIMEOUT=60\nUSR_ADDRESS=10.1.2.3\nUSR_DEBUG=0\n")
    assert refusal(APPLICATION, definitions=defined) == (
        "r.cap: USR_ADDRESS: is missing; allowed: an IPv4 or IPv6 address"
    )
    assert refusal(f"{text}USR_DEBUG=2\n", definitions=defined) == (
        "r.cap line 5: USR_DEBUG: 2: allowed: 0 or 1"
    )
    network = f"{NETWORK1}USR_DEBUG=1\n"
    assert "USR_DEBUG: only application profiles" in refusal(
        network, "network1", definitions=defined
    )


def test_an_agents_parameters_are_kept() -> None:
    text = "NAME=ip\nTYPE=application\nACTION_SCRIPT=ocf:heartbeat:IPaddr2\nOCF_ip=10.0.0.9\n"
    assert validate("ip", text.encode()).user == {"OCF_ip": "10.0.0.9"}


def test_the_type_template_counts_before_the_generic_one() -> None:
    templates = {
        "TYPE_application.cap": b"TYPE=application\nCHECK_INTERVAL=7\nPLACEMENT=favored\n"
        b"HOSTING_MEMBERS=a\nREBALANCE=t:0:1:2\nDESCRIPTION=ours\n",
        "TYPE_generic.cap": b"FAILURE_THRESHOLD=3\nCHECK_INTERVAL=9\nSUBNET=1.2.3.0\n",
    }
    profile = validate("r", APPLICATION.encode(), templates)
    assert (profile.check_interval_s, profile.failure_threshold) == (7, 3)
    assert (profile.hosting_members, profile.description) == (("a",), "ours")
    assert profile.subnet == ""
    own = f"{APPLICATION}HOSTING_MEMBERS=\nPLACEMENT=balanced\nREBALANCE=\nCHECK_INTERVAL=\n"
    profile = validate("r", own.encode(), templates)
    assert profile.hosting_members == ()
    assert profile.rebalance is None
    assert profile.check_interval_s == 7


def test_a_bad_template_is_named() -> None:
    templates = {"TYPE_application.cap": b"AUTO_START=maybe\nSUBNET=1.2.3.4\nTYPE=tape\n"}
    said = refusal(APPLICATION, templates=templates)
    assert said.startswith(
        "templates/TYPE_application.cap line 1: AUTO_START: maybe: allowed: 0 or 1;"
    )
    assert "line 2: SUBNET: is not an attribute of this template" in said
    assert said.endswith("line 3: TYPE: tape: allowed: application")


def test_registering_asks_more_than_a_file() -> None:
    text = f"{APPLICATION}REQUIRED_RESOURCES=a b\n"
    assert validate("other", text.encode()).name == "r"
    assert validate("r", text.encode(), registered={"a", "b"}).required == ("a", "b")
    assert refusal(text, "other", registered={"a"}) == (
        "other.cap line 1: NAME: r: allowed: other, as the file is called;"
        " other.cap line 4: REQUIRED_RESOURCES: b: only resources that are registered already are"
        " allowed"
    )


def test_a_name_that_no_resource_has() -> None:
    assert refusal(APPLICATION, ".r").startswith(".r.cap: NAME: '.r': allowed: letters, digits")


def test_a_circle_of_required_resources_is_found() -> None:
    def application(name: str, *required: str) -> Profile:
        return Profile(name, ResourceType.APPLICATION, required=required)

    others = {each.name: each for each in (application("a", "b"), application("b", "c"))}
    assert requires_itself(application("c", "x", "a"), others) == ("c", "a", "b", "c")
    assert requires_itself(application("c", "x"), others) == ()
    assert requires_itself(application("a", "b"), {**others, "a": application("a", "a")}) == ()


def test_a_registered_text_is_read_whatever_the_templates_say_by_now() -> None:
    profile = validate(
        "r", f"{APPLICATION}USR_DEBUG=1\n".encode(), definitions={"USR_DEBUG": USR_DEBUG}
    )
    assert read(profile.text()) == profile
    with pytest.raises(ProfileRefused, match="'r': 'soon'"):
        read("NAME=r\nTYPE=application\nPLACEMENT=soon\n")


NAMES = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,9}", fullmatch=True).filter(
    lambda name: not name.endswith(".cap")
)
TEXTS = st.text(
    st.characters(exclude_categories=["Cc", "Cs", "Zs", "Zl", "Zp"]) | st.just(" "), max_size=30
).filter(lambda text: text.strip() == text and not text.endswith("\\"))
NUMBERS = st.integers(0, 2**31 - 1)


@st.composite
def applications(draw: st.DrawFn) -> dict[str, str]:
    """The values of a valid application profile, each left out, empty or given."""
    names = draw(st.lists(NAMES, unique=True, max_size=6))
    policy = draw(st.sampled_from(Placement))
    values = {
        "NAME": "r.",
        "TYPE": "application",
        "ACTION_SCRIPT": draw(st.sampled_from(["x.scr", "/x/y z", "systemd:x", "ocf:a:b"])),
        "PLACEMENT": policy,
        "HOSTING_MEMBERS": "" if policy == "balanced" else " ".join(["m1", *names]),
        "REQUIRED_RESOURCES": " ".join(names[:3]),
        "OPTIONAL_RESOURCES": " ".join(names[3:]),
        "REBALANCE": draw(st.sampled_from(["", "t:*:*:0", "t:6:23:59", "t:0:03:00"])),
        "AUTO_START": draw(st.sampled_from(["0", "1"])),
        "ACTIVE_PLACEMENT": draw(st.sampled_from(["0", "1"])),
        "FAILURE_THRESHOLD": str(draw(st.integers(0, 20))),
        "SCRIPT_TIMEOUT": str(draw(st.integers(1, 2**31 - 1))),
        "USR_TEXT": draw(TEXTS),
    }
    for attribute in ("FAILURE_INTERVAL", "RESTART_ATTEMPTS", "FAILOVER_DELAY", "CHECK_INTERVAL"):
        values[attribute] = str(draw(NUMBERS))
    values["DESCRIPTION"] = draw(TEXTS)
    needed = {"NAME", "TYPE", "ACTION_SCRIPT", "PLACEMENT", "HOSTING_MEMBERS"}
    left_out = draw(st.sets(st.sampled_from(sorted(set(values) - needed))))
    return {name: value for name, value in values.items() if name not in left_out}


@given(applications(), st.randoms(use_true_random=False))
def test_text_profile_text(values: dict[str, str], random: object) -> None:
    defined = {"USR_TEXT": Definition("USR_TEXT", "string", "-o x", "", False)}
    lines = [f"{name} = {value}" for name, value in values.items()]
    random.shuffle(lines)  # type: ignore[attr-defined]
    profile = validate("r.", "\n".join(lines).encode(), BUILT_IN, defined)
    again = validate("r.", profile.text().encode(), BUILT_IN, defined)
    assert again == profile == read(profile.text())
    assert again.text() == profile.text()
    printed = {line.attribute: line.value for line in parse(profile.text().encode())}
    for name, value in values.items():
        assert printed[name] == (value or printed[name])
    assert set(printed) == {
        *(row for row in ATTRIBUTES if ResourceType.APPLICATION in ATTRIBUTES[row].types),
        "USR_TEXT",
    }


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_bytes_are_a_profile_or_refused(text: bytes) -> None:
    for data in (text, APPLICATION.encode() + text):
        try:
            profile = validate("r", data)
        except ProfileRefused as refused:
            assert str(refused).startswith("r.cap")
        else:
            assert validate("r", profile.text().encode()) == profile


def test_every_type_of_definition_is_in_the_manual() -> None:
    manual = "boolean string name_list name_string positive_integer internet_address file"
    assert list(TYPES) == manual.split()
