"""A runner of action scripts, for whoever tests one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from clufs.actions.commands import Machine
from tests.actions.machine import Actions, actions


@pytest.fixture(params=["cgroups", "ancestry"])
async def either(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Actions]:
    """With cgroups, and as on a machine where none can be made."""
    async with actions(tmp_path / "state", Machine(cgroups=request.param == "cgroups")) as found:
        yield found
