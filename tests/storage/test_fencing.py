"""The fencer's sequence, step by step, against LUNs that answer as they are told."""

from __future__ import annotations

import pytest

from clufs.errors import LunError, LunTimedOut, NotFenced, PathLost, ReservationConflict
from clufs.storage import commands as c
from clufs.storage.certificate import FenceCertificate, MemberKey
from clufs.storage.commands import ReserveIn, ReserveOut
from clufs.storage.fencing import Ask, Bury, Fencing, PathId, Target
from clufs.storage.reservation_data import Keys, OutParameters, Reservation, encode_reservation
from clufs.storage.steps import TYPE

ME, VICTIM, BEFORE = MemberKey(7, 1, 4), MemberKey(7, 2, 9), MemberKey(7, 2, 8)
TOMBSTONE_ROUND_TRIPS = 3
"""OwnLun.evict reads what is there, writes, and reads it back."""


class Array:
    """LUNs with keys; every command takes one round trip. broken: paths that do not answer, and why."""

    def __init__(self, luns: int, paths: int, disks: int = 1) -> None:
        self.keys = {f"lun{n}": [ME.number, VICTIM.number] for n in range(luns)}
        self.reserved = dict.fromkeys(self.keys, True)
        self.broken: dict[PathId, LunError] = {}
        self.stubborn: dict[str, int] = {}
        self.disks = {f"disk{n}": None for n in range(disks)}
        targets = {lun: Target(tuple(f"path{n}" for n in range(paths))) for lun in self.keys}
        self.fencing = Fencing(ME, VICTIM, tuple(self.disks), targets, lambda: 55)
        self.round_trips = 0
        self.sent: list[tuple[PathId, str]] = []

    def run(self) -> tuple[FenceCertificate, ...]:
        """In each round trip everything that is asked is answered."""
        doing = [(self._takes(effect), effect) for effect in self.fencing.begin()]
        while not self.fencing.done and doing:
            self.round_trips += 1
            now, doing = doing, []
            for left, effect in now:
                if left > 1:
                    doing.append((left - 1, effect))
                elif isinstance(effect, Bury):
                    doing += [(self._takes(e), e) for e in self.fencing.buried(effect.disk, None)]
                else:
                    answer = self.answer(effect)
                    doing += [(self._takes(e), e) for e in self.fencing.answered(effect, answer)]
        return self.fencing.certificates

    def _takes(self, effect: Bury | Ask) -> int:
        return TOMBSTONE_ROUND_TRIPS if isinstance(effect, Bury) else 1

    def answer(self, ask: Ask) -> bytes | LunError:
        if ask.at in self.broken:
            return self.broken[ask.at]
        lun, command = ask.at.lun, ask.sent.command
        if isinstance(command, c.PersistentReserveIn):
            self.sent.append((ask.at, ReserveIn(command.action).name))
            if command.action == ReserveIn.READ_KEYS:
                return Keys.of(3, tuple(self.keys[lun])).encode()
            held = Reservation(ME.number, TYPE) if self.reserved[lun] else None
            return encode_reservation(3, held)
        assert isinstance(command, c.PersistentReserveOut)
        self.sent.append((ask.at, ReserveOut(command.action).name))
        if command.action == ReserveOut.RESERVE:
            self.reserved[lun] = True
            return b""
        return self.preempt(lun, OutParameters.decode(ask.sent.data))

    def preempt(self, lun: str, said: OutParameters) -> bytes | LunError:
        if said.key not in self.keys[lun] or said.action_key not in self.keys[lun]:
            return ReservationConflict("conflict")
        if self.stubborn.get(lun, 0) > 0:
            self.stubborn[lun] -= 1
        else:
            self.keys[lun] = [key for key in self.keys[lun] if key != said.action_key]
        return b""

    @property
    def failure(self) -> str:
        (failure,) = self.fencing.failures
        return str(failure)


def test_three_luns_by_two_paths_take_five_round_trips_in_sequence() -> None:
    array = Array(luns=3, paths=2, disks=3)
    proofs = array.run()
    assert array.round_trips == 5
    assert [proof.lun for proof in proofs] == ["lun0", "lun1", "lun2"]
    for proof in proofs:
        assert (proof.victim, proof.by, proof.time_ns) == (VICTIM.number, ME.number, 55)
        assert [(one.path, one.keys) for one in proof.proofs] == [
            ("path0", (ME.number,)),
            ("path1", (ME.number,)),
        ]
        assert proof.aborted and not proof.already and not proof.unproven


def test_no_key_is_taken_away_before_the_tombstone_stands() -> None:
    array = Array(luns=1, paths=1, disks=3)
    first, second, third, look = array.fencing.begin()
    assert isinstance(look, Ask)
    assert array.fencing.answered(look, array.answer(look)) == []
    assert isinstance(first, Bury) and isinstance(second, Bury) and isinstance(third, Bury)
    assert array.fencing.buried(first.disk, None) == []
    assert array.fencing.buried(second.disk, LunTimedOut("slow")) == []
    (preempt,) = array.fencing.buried(third.disk, None)
    assert isinstance(preempt, Ask)
    assert isinstance(preempt.sent.command, c.PersistentReserveOut)
    assert preempt.sent.command.action == ReserveOut.PREEMPT_AND_ABORT


def test_without_a_majority_of_tombstones_nothing_is_fenced_and_the_disks_are_named() -> None:
    array = Array(luns=2, paths=1, disks=3)
    array.fencing.begin()
    array.fencing.buried("disk0", LunTimedOut("no answer"))
    array.fencing.buried("disk1", PathLost("is off"))
    assert array.fencing.done
    assert [str(one) for one in array.fencing.failures] == [
        f"lun{n}: no tombstone could be written: disk0: no answer; disk1: is off" for n in (0, 1)
    ]
    assert not array.sent


def test_a_path_that_does_not_answer_is_named_and_the_other_proves() -> None:
    array = Array(luns=1, paths=2)
    array.broken[PathId("lun0", "path1")] = LunTimedOut("no answer within 10 s")
    (proof,) = array.run()
    assert proof.lines()[-1] == "PATH=path1 no answer: no answer within 10 s"
    assert [one.path for one in proof.proofs] == ["path0"]


def test_one_lun_that_fails_says_which_path_and_why_and_the_others_are_fenced() -> None:
    array = Array(luns=3, paths=2)
    array.broken[PathId("lun1", "path0")] = PathLost("is off")
    array.broken[PathId("lun1", "path1")] = LunTimedOut("hangs")
    assert [proof.lun for proof in array.run()] == ["lun0", "lun2"]
    assert array.failure == "lun1: no path answered: path0: is off; path1: hangs"


def test_a_lun_that_no_path_leads_to_is_named() -> None:
    array = Array(luns=1, paths=0)
    assert array.run() == ()
    assert array.failure == "lun0: there is no path to it"


def test_a_victim_that_registers_again_is_fenced_again() -> None:
    array = Array(luns=1, paths=1)
    array.stubborn["lun0"] = 1
    (proof,) = array.run()
    assert VICTIM.number not in proof.proofs[0].keys
    array = Array(luns=1, paths=1)
    array.stubborn["lun0"] = 99
    assert array.run() == ()
    assert array.failure == f"lun0: {VICTIM.number:#018x} is still registered after 3 attempts"


def test_the_lives_before_are_fenced_with_it_and_later_ones_and_others_are_left_alone() -> None:
    later, other = MemberKey(7, 2, 10).number, MemberKey(6, 2, 9).number
    array = Array(luns=1, paths=1)
    array.keys["lun0"] += [BEFORE.number, later, other]
    (proof,) = array.run()
    assert proof.proofs[0].keys == (ME.number, later, other)


def test_who_is_not_registered_fences_nobody_though_the_victim_is_gone() -> None:
    array = Array(luns=1, paths=1)
    array.keys["lun0"] = []
    assert array.run() == ()
    assert "our own key is not registered any more, says path0" in array.failure


def test_a_victim_that_is_gone_already_is_certified_as_that() -> None:
    array = Array(luns=1, paths=1)
    array.keys["lun0"] = [ME.number]
    (proof,) = array.run()
    assert proof.already and not proof.aborted
    assert proof.lines()[0].endswith("HOW=was gone")


def test_a_lun_without_a_reservation_is_reserved_before_the_key_is_taken_away() -> None:
    array = Array(luns=1, paths=1)
    array.reserved["lun0"] = False
    array.run()
    said = [what for _, what in array.sent]
    assert said.index("RESERVE") < said.index("PREEMPT_AND_ABORT")


def test_a_lun_that_lost_its_reservation_meanwhile_has_aborted_nothing_for_certain() -> None:
    array = Array(luns=1, paths=1)
    answer = array.answer

    def lose_it(ask: Ask) -> bytes | LunError:
        said = answer(ask)
        if [what for _, what in array.sent] == ["READ_RESERVATION", "PREEMPT_AND_ABORT"]:
            array.reserved["lun0"] = False
        return said

    array.answer = lose_it  # type: ignore[method-assign]
    (proof,) = array.run()
    assert not proof.aborted and not proof.already
    assert array.fencing.aborts == {"lun0": True}  # the array can, all the same
    assert [what for _, what in array.sent].count("RESERVE") == 1


def test_nobody_fences_its_own_member() -> None:
    with pytest.raises(NotFenced, match="nobody fences itself"):
        Fencing(VICTIM, BEFORE, (), {}, lambda: 0)
