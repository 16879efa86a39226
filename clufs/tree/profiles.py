"""The profiles in the registry: which texts may be one, and what they say."""

from __future__ import annotations

from clufs.caa.definitions import parse_definitions
from clufs.caa.profile import Profile, read, requires_itself, validate
from clufs.caa.templates import BUILT_IN, DEFINITIONS
from clufs.errors import InvalidRequest, NoSuchName
from clufs.registry.files import FileRecord
from clufs.tree.files import Registry
from clufs.tree.judged import REFUSED, TEMPLATES

RESOURCES = b"resources"
CAP = b".cap"


class Profiles:
    """Judges texts by the templates as they are now."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._read: dict[str, tuple[str, Profile]] = {}

    def templates(self) -> dict[str, bytes]:
        """The files of /clu/templates: those of a new cluster, as far as nobody has changed them."""
        prefix = TEMPLATES + b"/"
        changed = {
            path.removeprefix(prefix).decode(errors="replace"): record.data
            for path, record in self._registry.state.files.items()
            if path.startswith(prefix)
        }
        return {**BUILT_IN, **changed}

    def judge(self, name: str, text: bytes) -> Profile:
        """What the text NAME.cap says, judged alone. Raises ProfileRefused."""
        templates = self.templates()
        return validate(name, text, templates, parse_definitions(templates[DEFINITIONS]))

    def to_register(self, name: str) -> Profile:
        """The profile that NAME is to be registered with, from NAME.cap as it is now.

        Raises NoSuchName without one; InvalidRequest where a newer text was refused;
        ProfileRefused for one that does not validate any more, or closes a circle.
        """
        file = self._file(name.encode() + CAP)
        refused = self._file(name.encode() + CAP + REFUSED)
        if refused is not None and (file is None or refused.version > file.version):
            raise InvalidRequest(
                f"a newer text of {name}.cap was refused: see {name}.cap.refused; write one that is"
                " right, or remove it"
            )
        if file is None or not file.data:
            raise NoSuchName(f"there is no profile {name}.cap in /{RESOURCES.decode()}")
        templates = self.templates()
        definitions = parse_definitions(templates[DEFINITIONS])
        known = self._registry.state.resources
        profile = validate(name, file.data, templates, definitions, known.keys())
        circle = requires_itself(profile, self.registered())
        if circle:
            raise InvalidRequest(f"REQUIRED_RESOURCES go in a circle: {' -> '.join(circle)}")
        return profile

    def registered(self) -> dict[str, Profile]:
        """The profiles of all registered resources, by name."""
        records = self._registry.state.resources
        self._read = {name: self._profile(name, record.profile) for name, record in records.items()}
        return {name: profile for name, (_, profile) in self._read.items()}

    def of(self, name: str) -> Profile:
        """The profile that a resource is registered with. Raises NoSuchName."""
        record = self._registry.state.resources.get(name)
        if record is None:
            raise NoSuchName(f"{name} is not registered")
        self._read[name] = self._profile(name, record.profile)
        return self._read[name][1]

    def _profile(self, name: str, text: str) -> tuple[str, Profile]:
        known = self._read.get(name)
        return known if known is not None and known[0] == text else (text, read(text))

    def _file(self, name: bytes) -> FileRecord | None:
        return self._registry.state.files.get(RESOURCES + b"/" + name)
