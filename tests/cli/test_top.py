"""clufs top: what it makes of the files of a /clu."""

from __future__ import annotations

from pathlib import Path

from clufs.cli.top import Look, look, rates, screen


def bundle(root: Path) -> Path:
    """A copy of a /clu, as an administrator takes one."""
    files = {
        "status/cluster": "NAME=deli\nMEMBER=provolone\n",
        "status/quorum": "QUORATE=1\nVOTES=2\nEXPECTED_VOTES=3\nVIEW=7\nWAITS_FOR=fencing of x\n",
        "status/busiest": "30 public/hot\n2 public/a\\040b\n",
        "members/provolone/state": "member\n",
        "members/provolone/votes": "1\n",
        "members/provolone/incarnation": "3\n",
        "members/provolone/address": "10.0.0.1:7788\n",
        "members/pepicelli/state": "lost\n",
        "resources/clock/target": "ONLINE\n",
        "resources/clock/state": "ONLINE on provolone\n",
        "resources/lan/target": "ONLINE on provolone\nONLINE on polishham\n",
        "resources/db/target": "ONLINE\n",
        "resources/lan/state": "ONLINE on provolone\nOFFLINE on polishham\n",
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_a_screen_has_members_resources_and_busy_locks(tmp_path: Path) -> None:
    root = bundle(tmp_path)
    before = look(root)
    (root / "status/busiest").write_text("130 public/hot\n2 public/a\\040b\n5 public/new\n")
    after = look(root)
    now = Look(before.when_s + 2, *[getattr(after, key) for key in Look.__slots__[1:]])
    assert screen(root, before, now, 100, 100) == [
        "cluster deli, seen by provolone  view 7  quorate, 2 of 3 votes  waits for fencing of x",
        "",
        "MEMBER     STATE   VOTES  INCARNATION  ADDRESS",
        "pepicelli  lost    -      -            -",
        "provolone  member      1            3  10.0.0.1:7788",
        "",
        "RESOURCE  TARGET  STATE    MEMBER",
        "db        ONLINE  -",
        "lan       ONLINE  OFFLINE  polishham",
        "clock     ONLINE  ONLINE   provolone",
        "lan       ONLINE  ONLINE   provolone",
        "",
        "LOCK        REQUESTS/S  GRANTED  CONVERTING  WAITING  MASTER",
        "public/hot        50.0  -        -           -        -",
        "public/new         2.5  -        -           -        -",
    ]


def test_a_small_screen_is_not_overrun(tmp_path: Path) -> None:
    root = bundle(tmp_path)
    for number in range(40):
        (root / f"resources/r{number}").mkdir()
    lines = screen(root, None, look(root), 24, 30)
    assert len(lines) <= 24 and all(len(line) <= 30 for line in lines)
    assert any(line.startswith("... and ") for line in lines)
    assert any(line.startswith("LOCK") for line in lines)


def test_what_was_counted_anew_has_no_rate(tmp_path: Path) -> None:
    root = bundle(tmp_path)
    before = look(root)
    (root / "status/busiest").write_text("15 public/hot\n")
    assert rates(before, look(root)) == []
