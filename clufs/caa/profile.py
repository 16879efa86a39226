"""Resource profiles: parsed, merged with the templates, judged, and printed (manual 2.2).

A text is judged twice. As a file it must be right in itself; so a copy of another resource's
profile, edited later, is one. Registering it asks more: NAME is the resource's, and every required
resource is registered already.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from clufs.caa.attributes import (
    ATTRIBUTES,
    NAME_WORDS,
    Attribute,
    Placement,
    Rebalance,
    ResourceType,
    is_resource_name,
    of_type,
    place,
    read_rebalance,
)
from clufs.caa.definitions import NONE, Definition
from clufs.caa.syntax import Line, Problem, parse, refuse
from clufs.caa.templates import BUILT_IN, DEFINITIONS, defaults
from clufs.errors import ProfileRefused

__all__ = ["Line", "Profile", "join", "parse", "read", "requires_itself", "validate"]

_USR = "USR_"
_OCF = "OCF_"
_WITH_HOSTS = (Placement.FAVORED, Placement.RESTRICTED)
_OCF_NAME = re.compile(r"OCF_[A-Za-z0-9_]+", re.ASCII)


@dataclass(frozen=True, slots=True)
class Profile:
    """A valid profile, merged with the templates. What its type has not is as if it were not given.

    restart_attempts: on one member before the application is relocated. *_s: seconds.
    check_interval_s: 0 for never. failure_threshold: 0 for no tracking, as failure_interval_s 0.
    user: attributes USR_... of application.tdf and, for an OCF agent, OCF_..., by full name.
    """

    name: str
    type: ResourceType
    description: str = ""
    required: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    placement: Placement = Placement.BALANCED
    hosting_members: tuple[str, ...] = ()
    restart_attempts: int = 1
    failover_delay_s: int = 0
    script_timeout_s: int = 60
    check_interval_s: int = 60
    auto_start: bool = False
    active_placement: bool = False
    failure_threshold: int = 0
    failure_interval_s: int = 0
    rebalance: Rebalance | None = None
    action_script: str = ""
    subnet: str = ""
    device_name: str = ""
    user: dict[str, str] = field(default_factory=dict)

    def values(self) -> dict[str, str]:
        """Every attribute of the type, and those of `user`, as text and in the order of a profile."""
        every = self._texts()
        mine = {row.name: every[row.name] for row in of_type(self.type)}
        return {name: value for name, value in sorted((mine | self.user).items(), key=_key)}

    def text(self) -> str:
        """The profile as `caa_stat -p` prints it; parsed and judged again it is equal to this one."""
        return join(self.values())

    def _texts(self) -> dict[str, str]:
        return {
            "NAME": self.name,
            "TYPE": self.type,
            "DESCRIPTION": self.description or self.name,
            "REQUIRED_RESOURCES": " ".join(self.required),
            "OPTIONAL_RESOURCES": " ".join(self.optional),
            "PLACEMENT": self.placement,
            "HOSTING_MEMBERS": " ".join(self.hosting_members),
            "RESTART_ATTEMPTS": str(self.restart_attempts),
            "FAILOVER_DELAY": str(self.failover_delay_s),
            "SCRIPT_TIMEOUT": str(self.script_timeout_s),
            "CHECK_INTERVAL": str(self.check_interval_s),
            "AUTO_START": str(int(self.auto_start)),
            "ACTIVE_PLACEMENT": str(int(self.active_placement)),
            "FAILURE_THRESHOLD": str(self.failure_threshold),
            "FAILURE_INTERVAL": str(self.failure_interval_s),
            "REBALANCE": self.rebalance.text if self.rebalance else "",
            "ACTION_SCRIPT": self.action_script,
            "SUBNET": self.subnet,
            "DEVICE_NAME": self.device_name,
        }


def _key(item: tuple[str, str]) -> tuple[int, str]:
    return place(item[0])


def join(values: Mapping[str, str]) -> str:
    """The text of a profile with these values, one `KEY=value` a line, in the order given."""
    return "".join(f"{name}={value}\n" for name, value in values.items())


def validate(
    name: str,
    text: bytes,
    templates: Mapping[str, bytes] = BUILT_IN,
    definitions: Mapping[str, Definition] = NONE,
    registered: Collection[str] | None = None,
) -> Profile:
    """The profile that `text`, the file NAME.cap, gives the resource of that name.

    templates: the files of /clu/templates. definitions: those of application.tdf.
    registered: the resources that are registered, if this text is to be; None judges the file alone.

    Raises ProfileRefused, whose message names for each problem the line, the attribute and the
    allowed values.
    """
    where = f"{name}.cap"
    if not is_resource_name(name):
        refuse([Problem(where, 0, "NAME", f"'{name}': allowed: {NAME_WORDS}")])
    return _Judge(name, where, parse(text, where), definitions).profile(templates, registered)


class _Judge:
    """One text's way to a profile; collects every problem before it refuses."""

    def __init__(
        self, name: str, where: str, lines: Sequence[Line], definitions: Mapping[str, Definition]
    ) -> None:
        self._name = name
        self._where = where
        self._lines = lines
        self._definitions = definitions
        self._problems: list[Problem] = []
        self._at: dict[str, int] = {}
        self._given: dict[str, str] = {}

    def profile(
        self, templates: Mapping[str, bytes], registered: Collection[str] | None
    ) -> Profile:
        for line in self._lines:
            if line.attribute in self._at:
                before = self._at[line.attribute]
                self._wrong(line.attribute, f"stands in line {before} already", line.number)
            else:
                self._at[line.attribute] = line.number
                self._given[line.attribute] = line.value
        kind = self._kind()
        values = self._merged(kind, defaults(kind, templates))
        self._check_together(values)
        if registered is not None:
            self._check_registration(values, registered)
        self._refuse()
        return _build(values)

    def _wrong(self, attribute: str, why: str, line: int | None = None) -> None:
        at = self._at.get(attribute, 0) if line is None else line
        self._problems.append(Problem(self._where, at, attribute, why))

    def _refuse(self) -> None:
        refuse(sorted(self._problems, key=lambda problem: problem.line))

    def _kind(self) -> ResourceType:
        given = self._given.get("TYPE", "")
        values = ATTRIBUTES["TYPE"].values
        if not values.takes(given):
            self._wrong("TYPE", self._not_allowed(given, values.allowed))
            self._refuse()
        return ResourceType(given)

    @staticmethod
    def _not_allowed(given: str, allowed: str) -> str:
        return f"{given}: allowed: {allowed}" if given else f"is missing; allowed: {allowed}"

    def _merged(self, kind: ResourceType, from_templates: Mapping[str, str]) -> dict[str, str]:
        """The value of every attribute, from the text, the templates or the tables."""
        rows = of_type(kind)
        merged = {row.name: self._value(row, from_templates) for row in rows}
        if kind is ResourceType.APPLICATION:
            merged |= self._user_values(from_templates)
            merged |= self._agent_values(merged["ACTION_SCRIPT"], from_templates)
        for attribute in self._given:
            if attribute not in merged:
                self._unknown(attribute, kind, [row.name for row in rows])
        return merged

    def _value(self, row: Attribute, from_templates: Mapping[str, str]) -> str:
        given = self._given.get(row.name)
        if given is None or (not given and not row.may_be_empty):
            given = from_templates.get(row.name) or self._default(row)
        if not given:
            if not row.may_be_empty:
                self._wrong(row.name, self._not_allowed("", row.values.allowed))
            return ""
        if not row.values.takes(given):
            self._wrong(row.name, self._not_allowed(given, row.values.allowed))
        return given

    def _default(self, row: Attribute) -> str:
        if row.name == "DESCRIPTION":
            return self._given.get("NAME") or self._name
        return row.default or ""

    def _user_values(self, from_templates: Mapping[str, str]) -> dict[str, str]:
        values = {}
        for each in self._definitions.values():
            value = self._given.get(each.attribute) or from_templates.get(each.attribute, "")
            if value and not each.values.takes(value):
                self._wrong(each.attribute, self._not_allowed(value, each.values.allowed))
            if each.required and not value:
                self._wrong(each.attribute, self._not_allowed("", each.values.allowed))
            values[each.attribute] = value or each.default
        return values

    def _agent_values(self, script: str, from_templates: Mapping[str, str]) -> dict[str, str]:
        """The parameters of an OCF agent; any name will do, only the agent knows them."""
        if not script.startswith("ocf:"):
            return {}
        both = {**from_templates, **self._given}
        return {name: value for name, value in both.items() if _OCF_NAME.fullmatch(name)}

    def _unknown(self, attribute: str, kind: ResourceType, known: list[str]) -> None:
        if attribute.startswith(_USR):
            user = ", ".join(self._definitions) or "none so far"
            why = (
                f"only application profiles have it, and {DEFINITIONS} defines it; defined: {user}"
            )
        elif attribute.startswith(_OCF):
            why = "only a profile whose ACTION_SCRIPT is ocf:PROVIDER:AGENT has it"
        else:
            why = f"is no attribute of type {kind}, which has {', '.join(known)}"
        self._wrong(attribute, why)

    def _check_together(self, values: Mapping[str, str]) -> None:
        """What two attributes say of each other."""
        if values["TYPE"] != ResourceType.APPLICATION:
            return
        balanced = values["PLACEMENT"] == Placement.BALANCED
        hosts = values["HOSTING_MEMBERS"]
        if balanced and hosts:
            self._wrong("HOSTING_MEMBERS", f"{hosts}: must be empty, as PLACEMENT is balanced")
        elif values["PLACEMENT"] in _WITH_HOSTS and not hosts:
            why = f"must name members, as PLACEMENT is {values['PLACEMENT']}"
            self._wrong("HOSTING_MEMBERS", why)
        for attribute in ("REQUIRED_RESOURCES", "OPTIONAL_RESOURCES"):
            if values["NAME"] in values[attribute].split():
                self._wrong(attribute, f"{values['NAME']}: only other resources are allowed")

    def _check_registration(self, values: Mapping[str, str], registered: Collection[str]) -> None:
        if values["NAME"] != self._name:
            self._wrong("NAME", f"{values['NAME']}: allowed: {self._name}, as the file is called")
        absent = [
            each
            for each in values.get("REQUIRED_RESOURCES", "").split()
            if each not in registered and each != values["NAME"]
        ]
        if absent:
            why = f"{' '.join(absent)}: only resources that are registered already are allowed"
            self._wrong("REQUIRED_RESOURCES", why)


def read(text: str) -> Profile:
    """The profile whose `text()` this is: one that was judged before, whatever the templates say by now.

    Raises ProfileRefused for a text that none has.
    """
    values = {line.attribute: line.value for line in parse(text.encode(), "registered profile")}
    try:
        return _build(values)
    except (ValueError, KeyError) as error:
        raise ProfileRefused(
            f"registered profile of '{values.get('NAME', '')}': {error}"
        ) from error


def _build(values: Mapping[str, str]) -> Profile:
    """The profile with these valid values."""

    def value(attribute: str) -> str:
        row = ATTRIBUTES[attribute]
        return values.get(attribute, row.default or "")

    return Profile(
        name=value("NAME"),
        type=ResourceType(value("TYPE")),
        description=value("DESCRIPTION"),
        required=tuple(value("REQUIRED_RESOURCES").split()),
        optional=tuple(value("OPTIONAL_RESOURCES").split()),
        placement=Placement(value("PLACEMENT")),
        hosting_members=tuple(value("HOSTING_MEMBERS").split()),
        restart_attempts=int(value("RESTART_ATTEMPTS")),
        failover_delay_s=int(value("FAILOVER_DELAY")),
        script_timeout_s=int(value("SCRIPT_TIMEOUT")),
        check_interval_s=int(value("CHECK_INTERVAL")),
        auto_start=value("AUTO_START") == "1",
        active_placement=value("ACTIVE_PLACEMENT") == "1",
        failure_threshold=int(value("FAILURE_THRESHOLD")),
        failure_interval_s=int(value("FAILURE_INTERVAL")),
        rebalance=read_rebalance(value("REBALANCE")),
        action_script=value("ACTION_SCRIPT"),
        subnet=value("SUBNET"),
        device_name=value("DEVICE_NAME"),
        user={name: text for name, text in values.items() if name.startswith((_USR, _OCF))},
    )


def requires_itself(profile: Profile, others: Mapping[str, Profile]) -> tuple[str, ...]:
    """The circle of required resources that `profile` would close among `others`, or nothing.

    The answer begins and ends with the profile's name. Such an application could never start.
    """
    paths: list[tuple[str, ...]] = [(profile.name, each) for each in profile.required]
    seen: set[str] = set()
    while paths:
        path = paths.pop()
        last = path[-1]
        if last == profile.name:
            return path
        if last in seen or last not in others:
            continue
        seen.add(last)
        paths += [(*path, each) for each in others[last].required]
    return ()
