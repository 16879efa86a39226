"""The environment of actions, ACTION_SCRIPT's forms, OCF's words, kept output and subnets."""

import ipaddress

import pytest

from clufs.caa import ocf
from clufs.caa.action_script import (
    NamedScript,
    OcfAgent,
    ScriptFile,
    SystemdUnit,
    parse_action_script,
)
from clufs.caa.environment import action_environment
from clufs.caa.interface import Reason
from clufs.caa.output import Lines, Tail
from clufs.caa.subnets import is_in
from clufs.errors import InvalidRequest


def test_environment_has_every_attribute_reason_locale_and_path() -> None:
    attributes = {"NAME": "clock", "AUTO_START": "1", "USR_DEBUG": "0"}
    found = action_environment(attributes, Reason.BOOT, "C de_DE C C C C")
    assert found == {
        "_CAA_NAME": "clock",
        "_CAA_AUTO_START": "1",
        "_CAA_USR_DEBUG": "0",
        "USR_DEBUG": "0",
        "_CAA_REASON": "boot",
        "_CAA_CLIENT_LOCALE": "C de_DE C C C C",
        "PATH": "/sbin:/usr/sbin:/usr/bin",
    }


def test_environment_takes_the_command_line_before_the_profile() -> None:
    found = action_environment({"USR_DEBUG": "0"}, Reason.USER, variables={"USR_DEBUG": "1"})
    assert (found["USR_DEBUG"], found["_CAA_USR_DEBUG"]) == ("1", "1")


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("clock.scr", NamedScript("clock.scr")),
        ("/usr/users/smith/app.scr", ScriptFile("/usr/users/smith/app.scr")),
        ("systemd:postgresql@15-main.service", SystemdUnit("postgresql@15-main.service")),
        ("ocf:heartbeat:IPaddr2", OcfAgent("heartbeat", "IPaddr2")),
    ],
)
def test_action_script_names(text: str, what: object) -> None:
    assert parse_action_script(text) == what


@pytest.mark.parametrize(
    "text",
    [
        *"systemd: systemd:--force systemd:a/b ocf:heartbeat ocf:a:b:c ocf:..:x ocf:a:../b".split(),
        *["../x", "a/b", ".x", "", "systemd:a b", "a\0b"],
    ],
)
def test_action_script_refuses(text: str) -> None:
    with pytest.raises(InvalidRequest, match="ACTION_SCRIPT"):
        parse_action_script(text)


def test_ocf_parameters_come_from_user_and_ocf_attributes() -> None:
    attributes = {"USR_IP": "10.0.0.1", "USR_nic": "eth0", "OCF_nic": "eth1", "PATH": "/bin"}
    found = ocf.agent_environment("ip", "heartbeat", "IPaddr2", 60, attributes, "/usr/lib/ocf")
    assert found["OCF_RESKEY_ip"] == found["OCF_RESKEY_IP"] == "10.0.0.1"
    assert found["OCF_RESKEY_nic"] == "eth1"
    assert found["OCF_RESKEY_CRM_meta_timeout"] == "60000"
    assert found["OCF_RESOURCE_INSTANCE"] == "ip"
    assert found["OCF_ROOT"] == "/usr/lib/ocf"
    assert (found["OCF_RA_VERSION_MAJOR"], found["OCF_RA_VERSION_MINOR"]) == ("1", "1")
    assert not any("PATH" in name for name in found)


def test_ocf_lower_case_of_another_attribute_is_not_overwritten() -> None:
    attributes = {"USR_IP": "10.0.0.1", "USR_ip": "10.0.0.2"}
    found = ocf.agent_environment("r", "p", "a", 1, attributes, "/")
    assert found["OCF_RESKEY_ip"] == "10.0.0.2"


@pytest.mark.parametrize(
    ("entry", "status", "ok"),
    [
        ("check", 0, True), ("check", 7, False), ("check", 8, True), ("check", 9, False), ("check", 190, True),
        ("check", 1, False), ("start", 0, True), ("start", 8, False), ("stop", 0, True), ("stop", 7, False),
    ],
)  # fmt: skip
def test_ocf_success(entry: str, status: int, ok: bool) -> None:
    assert ocf.is_success(entry, status) is ok


def test_ocf_statuses_have_words() -> None:
    assert ocf.meaning(7) == "not running"
    assert ocf.meaning(5) == "not installed"
    assert "77" in ocf.meaning(77)


def test_tail_keeps_the_last_bytes() -> None:
    tail = Tail(10)
    for number in range(100):
        tail.add(b"%02d" % number)
        assert bytes(tail) == b"".join(b"%02d" % n for n in range(number + 1))[-10:]
    tail.add(b"x" * 1000 + b"the end...")
    assert bytes(tail) == b"the end..."


def test_lines_come_whole() -> None:
    lines = Lines()
    assert lines.add(b"one\ntw") == ["one"]
    assert lines.add(b"o\n\nthr\xffee") == ["two", ""]
    assert lines.end() == ["thr\\xffee"]
    assert lines.end() == []


def test_a_line_without_end_comes_in_pieces() -> None:
    lines = Lines()
    found = lines.add(b"x" * 10_000)
    found += lines.add(b"y\nshort\n")
    assert "".join(found) == "x" * 10_000 + "yshort"
    assert max(map(len, found)) == 4096


@pytest.mark.parametrize(
    ("subnet", "address", "member"),
    [
        ("16.69.225.0", "16.69.225.12/24", True),  # the manual's own example
        ("16.69.225.0", "16.69.225.12/25", True),
        ("16.69.225.0", "16.69.225.12/23", False),
        ("16.69.225.0", "16.69.226.12/24", False),
        ("16.69.225.0/24", "16.69.225.12/24", True),
        ("16.69.225.0/24", "16.69.225.12/25", False),
        ("2001:db8::", "2001:db8::7/64", True),
        ("2001:db8:0::0", "2001:db8::7/64", True),
        ("2001:db8::", "2001:db8:0:1::7/64", False),
        ("::", "0.0.0.0/0", False),
        ("no subnet", "10.0.0.1/8", False),
    ],
)
def test_subnet_is_the_and_of_address_and_mask(subnet: str, address: str, member: bool) -> None:
    assert is_in(subnet, [ipaddress.ip_interface(address)]) is member
