"""What the planner looks at when a member is lost grows with the resources, not with their square."""

import pytest

from clufs.caa.resources import Table
from tests.bench.placement import lose_one


def looks(resources: int, monkeypatch: pytest.MonkeyPatch) -> int:
    """Return how often placement asked for a state, until all of a lost member's resources run again."""
    count = 0
    online = Table.online

    def counting(table: Table, resource: str, member: str) -> bool:
        nonlocal count
        count += 1
        return online(table, resource, member)

    with monkeypatch.context() as patch:
        patch.setattr(Table, "online", counting)
        lose_one(resources)
    return count


def test_the_work_grows_with_the_resources(monkeypatch: pytest.MonkeyPatch) -> None:
    few, many = looks(50, monkeypatch), looks(500, monkeypatch)
    assert many <= 10 * few
    assert many <= 20 * 500
