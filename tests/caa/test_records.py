"""Records of resources: what is saved joins what is kept."""

import msgspec

from clufs.caa.records import (
    MonitorRecord,
    ResourceRecord,
    StartOrStop,
    Transition,
    absorb,
    state_text,
)
from clufs.limits import RESOURCE_HISTORY_KEPT, RESOURCE_STARTS_KEPT


def test_what_is_saved_joins_what_is_kept_and_the_oldest_go() -> None:
    past = tuple(Transition(float(n), "OFFLINE", "ONLINE on a", "") for n in range(100))
    runs = tuple(StartOrStop(float(n), "a", "start") for n in range(1000))
    kept = ResourceRecord("clock", profile="NAME=clock\n", history=past, starts_and_stops=runs)
    saved = ResourceRecord(
        "clock",
        state="UNKNOWN",
        member="b",
        history=(Transition(7.0, "OFFLINE", "UNKNOWN on b", "why"),),
        starts_and_stops=(StartOrStop(7.0, "b", "start"),),
    )
    after = absorb(kept, saved)
    assert (after.profile, after.state, after.member) == ("NAME=clock\n", "UNKNOWN", "b")
    assert len(after.history) == RESOURCE_HISTORY_KEPT
    assert after.history[-1].reason == "why"
    assert after.history[0].time_s == 1.0
    assert len(after.starts_and_stops) == RESOURCE_STARTS_KEPT
    assert after.starts_and_stops[-1].member == "b"


def test_a_record_travels_whole() -> None:
    record = ResourceRecord(
        "network1",
        monitors=(MonitorRecord("a", "ONLINE", "OFFLINE", (1.0, 2.0)),),
        failure_times_s=(3.0,),
    )
    back = msgspec.msgpack.decode(msgspec.msgpack.encode(record), type=ResourceRecord)
    assert back == record
    assert (back.monitors[0].failure_count, back.failure_count) == (2, 1)


def test_a_state_reads_as_caa_stat_prints_it() -> None:
    assert state_text("ONLINE", "rye") == "ONLINE on rye"
    assert state_text("OFFLINE", "") == "OFFLINE"
