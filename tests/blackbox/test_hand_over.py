"""The main job: two shells hand a lock over."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.blackbox.clu import SHELLS, Clu, Shell


@pytest.mark.parametrize("kind", SHELLS)
def test_the_second_waits_until_the_first_releases(
    clu: Clu, name: str, shell: Callable[..., Shell], kind: str
) -> None:
    first, second = shell(kind, cwd=clu.public), shell(kind, cwd=clu.public)
    assert first.ask(f"echo EX > {name}") == (0, "")
    second.begin(f"echo EX > {name}")
    clu.until_queued(name)
    assert " EX - " in clu.queue(name, "GRANTED")[0]
    assert f" {first.pid} " in clu.queue(name, "GRANTED")[0]
    assert "waits for EX held by" in clu.queue(name, "WAITING")[0]
    assert first.ask(f"echo 'UN value=handed over' > {name}") == (0, "")
    assert second.hear() == (0, "")
    assert second.ask(f"cat {name}") == (0, "handed over\n")
    assert first.ask(f"echo UN > {name}")[0] == 1


def test_the_lock_of_a_killed_process_goes_on_and_its_value_is_invalid(
    clu: Clu, name: str, shell: Callable[..., Shell]
) -> None:
    holder, waiter = shell(cwd=clu.public), shell(cwd=clu.public)
    holder.ask(f"echo EX > {name}; echo 'EX value=one' > {name}")
    waiter.begin(f"echo PR > {name}")
    clu.until_queued(name)
    holder.close()
    assert waiter.hear() == (0, "")
    assert waiter.ask(f"cat {name}; test -k {name}") == (0, "one\n")
    assert "VALID=0" in clu.report(name)
