"""The LUNs of this member: from the configuration and from udev, as /clu/luns shows them."""

from __future__ import annotations

from clufs.config import Config
from clufs.daemon.disk_lease import DiskLease
from clufs.daemon.lun_fencing import LunFencing
from clufs.storage.certificate import MemberKey
from clufs.storage.disk_header import cluster_number
from clufs.storage.inventory import Change, SharedLun
from clufs.storage.keeping import Luns
from clufs.storage.paths import initiator_name
from clufs.tree.cluster import Cluster
from clufs.tree.journals import Events
from clufs.tree.luns import LunFacts, LunsDirectory


def luns_of(config: Config, member: str, events: Events) -> Luns:
    """All that clufs.toml names, and what the kernel has; `events` hears of what comes and goes."""

    def tell(change: Change) -> None:
        facts = {"lun": change.lun, "path": change.path, "why": change.why}
        events.add(change.what, **{key: value for key, value in facts.items() if value})

    luns = Luns(config.storage.initiator or initiator_name(member), tell)
    for lun in config.luns:
        luns.expect(lun.role, lun.urls)
    return luns


def luns_directory(
    luns: Luns, cluster: Cluster, lease: DiskLease, fencing: LunFencing
) -> LunsDirectory:
    """/clu/luns."""
    number = cluster_number(cluster.name)

    def who_is(key: MemberKey) -> str | None:
        if key.cluster != number:
            return None
        return next((one.name for one in cluster.members() if one.id == key.member), None)

    def slots(lun: SharedLun) -> str:
        return lease.slots(path.url for path in lun.paths.values())

    return LunsDirectory(LunFacts(luns, cluster.me, who_is, fencing.method, slots))
