"""Profiles and scripts on three members: what one writes the others have, and a minority only reads."""

from __future__ import annotations

import pytest

from tests.cluster.lab import Lab, within

pytestmark = pytest.mark.timeout(100)

CAP = "NAME=web\nTYPE=application\nACTION_SCRIPT=web.scr\n"


def test_what_a_member_writes_every_member_has(lab: Lab) -> None:
    lab.sh("provolone", f"printf '{CAP}' > /clu/resources/web.cap && mkdir /clu/resources/web")
    lab.sh("provolone", "cd /clu/scripts; umask 077; echo : > web.scr; chmod 755 web.scr")
    seen = "cd /clu; cat resources/web.cap resources/web/state; stat -c '%a %s' scripts/web.scr"
    for member in ("polishham", "pepicelli"):
        assert within(5, lambda m=member: lab.sh(m, seen) == f"{CAP}OFFLINE\n755 2\n"), member
    lab.sh("polishham", "cd /clu/scripts; sed -i s/:/true/ web.scr; mv web.scr other.scr")
    seen = "cd /clu/scripts; ls; cat other.scr"
    assert within(5, lambda: lab.sh("provolone", seen) == "other.scr\ntrue\n")
    assert "resource=web" in lab.sh("pepicelli", "grep ' registered ' /clu/events")


def test_of_two_who_make_one_file_only_one_does(lab: Lab) -> None:
    line = "set -C; for n in 1 2 3 4 5 6 7 8 9; do echo $0 2>/dev/null > f$n && echo $n; done; true"
    racers = {
        member: lab.start(member, "sh", "-c", f"cd /clu/templates; {line}", member, stdout=-1)
        for member in ("provolone", "polishham", "pepicelli")
    }
    won = {member: racer.communicate()[0].split() for member, racer in racers.items()}
    assert sorted(number for numbers in won.values() for number in numbers) == [*"123456789"]
    for member, numbers in won.items():
        for number in numbers:
            assert lab.sh("pepicelli", f"cat /clu/templates/f{number}") == f"{member}\n"


def test_a_member_alone_reads_and_is_refused_changes_at_once(lab: Lab) -> None:
    text = CAP.replace("web", "cut")
    lab.sh("provolone", f"printf '{text}' > /clu/resources/cut.cap")
    assert within(5, lambda: lab.sh("pepicelli", "cat /clu/resources/cut.cap") == text)
    lab.do("kill", "provolone")
    lab.do("kill", "polishham")
    quorum = "grep -c ^QUORATE=0 /clu/status/quorum || true"
    assert within(20, lambda: lab.sh("pepicelli", quorum) == "1\n")
    for line in ("rm resources/cut.cap", "cp /etc/hostname scripts/x", "mkdir resources/cut"):
        command = f"cd /clu && exec timeout 3 {line}"
        refused = lab.run("exec", "pepicelli", "--", "sh", "-c", command)
        assert refused.returncode == 1 and "Host is down" in refused.stderr, line
    assert lab.sh("pepicelli", "cat /clu/resources/cut.cap") == text
    lab.do("restart", "provolone")
    lab.do("restart", "polishham")
    remove = "rm /clu/resources/cut.cap 2>/dev/null && echo gone || true"
    assert within(40, lambda: lab.sh("pepicelli", remove) == "gone\n")
    look = "test -e /clu/resources/cut.cap || echo gone"
    assert within(5, lambda: lab.sh("provolone", look) == "gone\n")
