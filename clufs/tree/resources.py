"""/clu/resources: profiles, and a directory for each resource that is registered."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from clufs.caa.attributes import is_resource_name
from clufs.errors import (
    InvalidRequest,
    NameExists,
    NameTooLong,
    NoSuchName,
    ResourceInUse,
)
from clufs.limits import NAMESPACE_MAX_BYTES
from clufs.registry.resources import Register, Unregister
from clufs.tree.files import Registry
from clufs.tree.items import Caller, Directory, Item
from clufs.tree.judged import REFUSED, JudgedDirectory
from clufs.tree.names import shown
from clufs.tree.profiles import CAP, RESOURCES, Profiles


class ResourcesDirectory(JudgedDirectory):
    """Judges each text that gets a name NAME.cap. mkdir(2) registers, rmdir(2) unregisters.

    make_directory: of a registered resource, by its name.
    """

    __slots__ = ("_directories", "_make_directory", "profiles")

    def __init__(
        self,
        registry: Registry,
        profiles: Profiles,
        make_directory: Callable[[str], Directory],
    ) -> None:
        super().__init__(RESOURCES, registry)
        self.profiles = profiles
        self._make_directory = make_directory
        self._directories: dict[bytes, Directory] = {}

    # ------------------------------------------------- looking

    def find(self, name: bytes) -> Item | None:
        resources = self.registry.state.resources
        known = self._directories.get(name)
        if name.decode(errors="replace") in resources:
            if known is None:
                known = self._directories[name] = self._make_directory(name.decode())
            return known
        if known is not None:
            del self._directories[name]
        return super().find(name)

    def names(self) -> Iterator[tuple[bytes, Item]]:
        registered = sorted(name.encode() for name in self.registry.state.resources)
        for name in registered:
            item = self.find(name)
            if item is not None:
                yield name, item
        yield from ((name, item) for name, item in super().names() if name not in registered)

    # ------------------------------------------------- judging

    def check_name(self, name: bytes) -> None:
        if name.endswith(CAP) and len(name) + len(REFUSED) > NAMESPACE_MAX_BYTES:
            raise NameTooLong(f"'{shown(name)}' leaves no room for '{REFUSED.decode()}'")
        if name.decode(errors="replace") in self.registry.state.resources:
            raise NameExists(f"'{shown(name)}' is a registered resource")

    def is_judged(self, name: bytes) -> bool:
        return name.endswith(CAP)

    def judge(self, name: bytes, text: bytes) -> None:
        self.profiles.judge(name.removesuffix(CAP).decode(errors="replace"), text)

    # ------------------------------------------------- registering

    async def mkdir(self, name: bytes, mode: int, caller: Caller) -> Item:
        """Register a resource. Raises NameExists, NoSuchName without a profile, InvalidRequest, NoQuorum."""
        word = name.decode(errors="replace")
        if not is_resource_name(word):
            raise InvalidRequest(f"'{shown(name)}' is no name of a resource")
        if self.find(name) is not None:
            raise NameExists(f"'{shown(name)}' is there already")
        profile = self.profiles.to_register(word)
        await self.registry.propose(Register(word, profile.text(), new=True))
        item = self.find(name)
        if item is None:
            raise NoSuchName(f"{word} was unregistered at the same moment")
        return item

    async def rmdir(self, name: bytes, caller: Caller) -> None:
        """Unregister a resource. Raises ResourceInUse where it is ONLINE or another one requires it."""
        word = name.decode(errors="replace")
        if word not in self.registry.state.resources:
            raise NoSuchName(f"{shown(name)} is not registered")
        others = [each for each, p in self.profiles.registered().items() if word in p.required]
        if others:
            raise ResourceInUse(f"{word} is required by {' '.join(sorted(others))}")
        await self.registry.propose(Unregister(word))

    async def remove(self, name: bytes) -> None:
        if name.decode(errors="replace") in self.registry.state.resources:
            raise ResourceInUse(f"'{shown(name)}' is a registered resource: rmdir unregisters it")
        await super().remove(name)
