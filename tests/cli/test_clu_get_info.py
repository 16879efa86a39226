"""clu_get_info over the files of a /clu: the manual's print, its options, its exit status."""

from pathlib import Path

import pytest

from clufs.cli.clu_get_info import main

# TruCluster manual 2.13.2, with our addresses and without its quorum disk.
EXPECTED = """
    Cluster information for cluster deli

Number of members configured in this cluster = 3
memberid for this member = 3

    Information on each cluster member

        Cluster memberid = 1
        Hostname = polishham
        Cluster interconnect IP name = 10.77.0.1
        Member state = UP

        Cluster memberid = 2
        Hostname = provolone
        Cluster interconnect IP name = fd00::2
        Member state = DOWN

        Cluster memberid = 3
        Hostname = pepicelli
        Cluster interconnect IP name = pepicelli
        Member state = UP

"""

FULL = """
    Cluster information for cluster deli

Number of members configured in this cluster = 3
memberid for this member = 3
Cluster expected votes = 3
Current votes = 2
Votes required for quorum = 2

    Information on each cluster member

        Cluster memberid = 1
        Hostname = polishham
        Cluster interconnect IP name = 10.77.0.1
        Member state = UP
        Member cluster version = 0.1.0
        Member incarnation = 7
        Member votes = 1

"""

MEMBERS = {
    "polishham": ("1", "member", "10.77.0.1:7788"),
    "provolone": ("2", "lost", "[fd00::2]:7788"),
    "pepicelli": ("3", "member", "-"),
}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What of /clu is read."""
    (tmp_path / "status").mkdir()
    (tmp_path / "status/cluster").write_text("NAME=deli\nMEMBER=pepicelli\nVIEW=4\n")
    (tmp_path / "status/quorum").write_text("QUORATE=1\nVOTES=2\nEXPECTED_VOTES=3\nQUORUM=2\n")
    for name, (number, state, address) in MEMBERS.items():
        directory = tmp_path / "members" / name
        directory.mkdir(parents=True)
        facts = {"id": number, "state": state, "address": address, "votes": "1"}
        for key, value in {**facts, "version": "0.1.0", "incarnation": "7"}.items():
            (directory / key).write_text(f"{value}\n")
    (tmp_path / "members/self").symlink_to("pepicelli")
    monkeypatch.setenv("CLU_ROOT", str(tmp_path))
    return tmp_path


@pytest.mark.usefixtures("root")
def test_it_prints_what_the_manual_prints(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert capsys.readouterr().out == EXPECTED


@pytest.mark.usefixtures("root")
def test_all_of_one_member(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["-full", "-m", "1"]) == 0
    assert capsys.readouterr().out == FULL


def test_quiet_says_it_by_the_exit_status(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, status in (([], 0), (["-m", "1"], 0), (["-m", "2"], 1), (["-m", "9"], 1)):
        assert main(["-q", *arguments]) == status
    (root / "members/pepicelli/state").write_text("joining\n")
    assert main(["-q"]) == 1
    assert capsys.readouterr() == ("", "")


def test_who_is_not_in_a_cluster_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CLU_ROOT", str(tmp_path / "absent"))
    assert main(["-q"]) == 1
    assert capsys.readouterr() == ("", "")
    assert main([]) == 1
    said = capsys.readouterr()
    assert said.err.startswith("clu_get_info: this system is not a cluster member: ")
    assert (said.out, said.err.count("\n")) == ("", 1)


@pytest.mark.usefixtures("root")
def test_a_member_that_is_not_configured(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["-m", "9"]) == 1
    assert capsys.readouterr().err == "clu_get_info: no member with memberid 9 is configured\n"
