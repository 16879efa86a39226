"""A life at its paths: what it does before it may write, and when it is over. `test_fencing_model` has the rest."""

from __future__ import annotations

from clufs.errors import LunTimedOut, ReservationConflict
from clufs.storage import commands as c
from clufs.storage.certificate import MemberKey
from clufs.storage.commands import ReserveIn, ReserveOut
from clufs.storage.entering import Effect, Entrance, Exhume, Fenced, Hold, Left, Open, Shut
from clufs.storage.fencing import Ask, PathId
from clufs.storage.reservation_data import Keys, OutParameters, Reservation, encode_reservation
from clufs.storage.steps import TYPE

ME, BEFORE, OTHER = MemberKey(7, 2, 9), MemberKey(7, 2, 8), MemberKey(7, 1, 4)
ONE, TWO = PathId("lun", "path1"), PathId("lun", "path2")


class Member:
    """A life whose LUN answers at once. buried: the life that the LUNs of clufs have a tombstone of."""

    def __init__(self, disks: int = 1) -> None:
        self.entrance = Entrance(ME, [f"disk{n}" for n in range(disks)])
        self.keys = [OTHER.number]
        self.generation = 5
        self.holder = OTHER.number
        self.buried: int | LunTimedOut = 0
        self.said: list[str] = []

    def do(self, effects: list[Effect]) -> Member:
        """Carry out what follows; what it was stays in `said`."""
        for effect in effects:
            match effect:
                case Ask():
                    self.do(self.entrance.answered(effect, self.answer(effect)))
                case Hold():
                    self.said.append(f"hold {effect.at.path}")
                    self.do(self.entrance.drained(effect.at))
                case Exhume():
                    self.said.append(f"tombstones of {effect.disk}")
                    self.do(self.entrance.exhumed(effect, self.buried))
                case Open() | Left():
                    self.said.append(f"{type(effect).__name__} {effect.at.path}".lower())
                case Shut() | Fenced():
                    self.said.append(f"{type(effect).__name__}: {effect.why}".lower())
        return self

    def answer(self, ask: Ask) -> bytes | ReservationConflict:
        command = ask.sent.command
        if isinstance(command, c.PersistentReserveIn):
            self.said.append(ReserveIn(command.action).name)
            if command.action == ReserveIn.READ_KEYS:
                return Keys.of(self.generation, tuple(self.keys)).encode()
            return encode_reservation(self.generation, Reservation(self.holder, TYPE))
        assert isinstance(command, c.PersistentReserveOut)
        parameters = OutParameters.decode(ask.sent.data)
        self.said.append(ReserveOut(command.action).name)
        if command.action == ReserveOut.REGISTER_AND_IGNORE_EXISTING_KEY:
            self.generation += 1
            self.keys = [key for key in self.keys if key != ME.number]
            self.keys += [parameters.action_key] if parameters.action_key else []
        if command.action == ReserveOut.PREEMPT_AND_ABORT:
            self.keys.remove(parameters.action_key)
        return b""

    def enter(self, at: PathId = ONE) -> Member:
        self.do(self.entrance.connected(at))
        return self


REGISTER = "REGISTER_AND_IGNORE_EXISTING_KEY"


def test_a_life_holds_registers_looks_for_its_tombstone_and_only_then_opens() -> None:
    member = Member(disks=1).enter()
    assert member.said == [
        "hold path1",
        REGISTER,
        "tombstones of disk0",
        "READ_KEYS",
        "RESERVE",
        "open path1",
    ]
    assert member.entrance.is_open(ONE) and not member.entrance.is_open(TWO)


def test_a_life_with_a_tombstone_takes_its_key_back_and_is_over() -> None:
    member = Member()
    member.buried = ME.incarnation
    member.enter()
    assert member.said[-2:] == [REGISTER, "fenced: incarnation 9 has a tombstone"]
    assert ME.number not in member.keys
    assert member.entrance.fenced
    assert member.entrance.connected(TWO) == []


def test_a_tombstone_of_the_life_before_means_nothing() -> None:
    member = Member()
    member.buried = BEFORE.incarnation
    assert member.enter().entrance.is_open(ONE)


def test_without_a_majority_of_the_tombstones_the_path_stays_held_and_is_tried_again() -> None:
    member = Member(disks=3)
    member.buried = LunTimedOut("no answer")
    member.enter()
    assert "shut: tombstones cannot be read: disk0: no answer; disk1: no answer" in member.said
    assert not member.entrance.is_open(ONE)
    member.buried = 0
    assert member.enter().entrance.is_open(ONE)


def test_what_the_life_before_left_behind_is_taken_away() -> None:
    member = Member()
    member.keys += [BEFORE.number, BEFORE.number]
    member.enter()
    assert member.keys.count(BEFORE.number) == 1  # this LUN takes one registration at a time away
    assert member.said.count("PREEMPT_AND_ABORT") == 1


def test_a_key_that_is_gone_ends_the_life_on_all_its_paths() -> None:
    member = Member().enter(ONE).enter(TWO)
    member.do(member.entrance.look(ONE))
    assert member.entrance.is_open(ONE)
    member.keys.remove(ME.number)
    member.generation += 1
    member.said.clear()
    member.do(member.entrance.look(TWO))
    assert member.said == [
        "READ_KEYS",
        "hold path1",
        "hold path2",
        "fenced: lun: its key was taken away (generation 8)",
    ]


def test_a_lun_that_has_begun_anew_is_entered_again_by_every_path() -> None:
    member = Member().enter(ONE).enter(TWO)
    member.keys, member.generation = [], 0
    member.said.clear()
    member.do(member.entrance.look(ONE))
    assert not member.entrance.fenced
    assert member.said.count(REGISTER) == 2
    assert member.entrance.is_open(ONE) and member.entrance.is_open(TWO)


def test_after_a_conflict_a_life_looks_at_its_key_before_it_registers_again() -> None:
    member = Member().enter()
    member.said.clear()
    member.do(member.entrance.conflict(ONE))
    assert member.said[:4] == ["hold path1", "READ_KEYS", "READ_RESERVATION", REGISTER]
    member.keys.remove(ME.number)
    member.generation += 1
    member.do(member.entrance.conflict(ONE))
    assert member.entrance.fenced and ME.number not in member.keys


def test_a_session_that_is_lost_is_held_and_the_next_one_enters_anew() -> None:
    member = Member().enter()
    member.do(member.entrance.lost(ONE))
    assert not member.entrance.is_open(ONE)
    assert member.enter().said.count(REGISTER) == 2


def test_who_leaves_gives_its_key_back_but_not_the_one_that_the_reservation_hangs_on() -> None:
    member = Member().enter()
    member.do(member.entrance.leave(ONE))
    assert member.said[-1] == "left path1" and ME.number not in member.keys
    member = Member().enter()
    member.holder = ME.number
    member.do(member.entrance.leave(ONE))
    assert member.said[-1] == "left path1" and ME.number in member.keys
