"""What outlives the daemon: view numbers that never repeat, and namespaces."""

from __future__ import annotations

from pathlib import Path

import pytest

from clufs.errors import StateError
from clufs.registry.store import RegistryStore


def test_a_view_number_is_never_used_twice_not_even_after_a_kill(tmp_path: Path) -> None:
    first = RegistryStore(tmp_path)
    views = [first.next_view(), first.next_view()]
    # A killed daemon closes nothing: only the descriptor's lock goes with it.
    first.close()
    second = RegistryStore(tmp_path)
    views.append(second.next_view())
    second.close()
    assert views == [1, 2, 3]


def test_namespaces_come_back_as_they_were(tmp_path: Path) -> None:
    store = RegistryStore(tmp_path)
    store.put_namespace(b"db", 1001, 100, 0o770)
    store.put_namespace(b"odd \xff\n", 0, 0, 0o700)
    store.put_namespace(b"db", 1001, 100, 0o777)
    store.put_namespace(b"gone", 1, 1, 0o700)
    store.drop_namespace(b"gone")
    store.close()
    again = RegistryStore(tmp_path)
    assert sorted(again.namespaces()) == [(b"db", 1001, 100, 0o777), (b"odd \xff\n", 0, 0, 0o700)]
    again.close()


def test_a_state_directory_has_one_user(tmp_path: Path) -> None:
    store = RegistryStore(tmp_path)
    with pytest.raises(StateError, match="is used by another clufsd"):
        RegistryStore(tmp_path)
    store.close()
    RegistryStore(tmp_path).close()


def test_a_damaged_registry_is_named_and_left_as_it_is(tmp_path: Path) -> None:
    damaged = tmp_path / "registry.sqlite"
    damaged.write_bytes(b"this is not a database, and not empty either" * 100)
    before = damaged.read_bytes()
    with pytest.raises(StateError, match="not a database"):
        RegistryStore(tmp_path)
    assert damaged.read_bytes() == before


def test_a_state_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StateError, match=r"file/state: Not a directory"):
        RegistryStore(tmp_path / "file" / "state")
