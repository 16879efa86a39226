"""The machine's disks, for the tests in the guest."""

from __future__ import annotations

import pytest

from tests.qemu.lio import Disk, load_modules


@pytest.fixture(scope="session")
def modules() -> None:
    """Loaded."""
    load_modules()


@pytest.fixture(scope="session")
def disk(modules: None) -> Disk:
    """One LUN, two paths."""
    return Disk(1)
