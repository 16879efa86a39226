"""Hangs into the tree what applications are made of: resources/, scripts/, templates/, and what members are to them."""

from __future__ import annotations

from clufs.caa.templates import BUILT_IN
from clufs.registry.files import FileRecord
from clufs.tree.drains import DrainFile, IfLostFile
from clufs.tree.files import Registry, ScriptsDirectory
from clufs.tree.items import Report, StaticDirectory
from clufs.tree.judged import TemplatesDirectory
from clufs.tree.members import MembersDirectory
from clufs.tree.profiles import Profiles
from clufs.tree.resource import Caa, Orders, ResourceDirectory, ResourceReport
from clufs.tree.resources import ResourcesDirectory

SCRIPTS = b"scripts"
_OF_CLUFS_NS = 1_000_000_000_000_000_000  # their time: the same on every member


def build(root: StaticDirectory, registry: Registry, caa: Caa) -> None:
    """Add the directories, the report of all resources to status/, and two files to each member's directory."""
    profiles, orders = Profiles(registry), Orders(caa)
    built_in = {
        name.encode(): FileRecord(data, 0, 0, 0o644, _OF_CLUFS_NS, 0, 0)
        for name, data in BUILT_IN.items()
    }
    root.add(
        ResourcesDirectory(
            registry, profiles, lambda name: ResourceDirectory(registry, profiles, orders, name)
        )
    )
    root.add(ScriptsDirectory(SCRIPTS, registry))
    root.add(TemplatesDirectory(registry, built_in))
    status = root.entries[b"status"]
    assert isinstance(status, StaticDirectory)
    status.add(Report(b"status/resources", ResourceReport(registry, profiles).show))

    def more(directory: StaticDirectory, member: str) -> None:
        directory.add(DrainFile(directory, member, registry, orders))
        directory.add(IfLostFile(directory, member, caa))

    members = root.entries[b"members"]
    assert isinstance(members, MembersDirectory)
    members.more = more
