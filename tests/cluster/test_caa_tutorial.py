"""The tutorial of the TruCluster manual (2.13), typed as printed, on three members."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.caa.test_profile import DTCALC
from tests.cluster.lab import Lab

pytestmark = pytest.mark.timeout(100)

BIN = Path(sys.executable).parent
DEFINED = "NAME=dtcalc\nTYPE=application\nTARGET={}\nSTATE={}\n"


def typed(lab: Lab, line: str) -> str:
    """What a line of the manual prints on provolone; its programs are ours."""
    own = line.replace("/usr/sbin/", f"{BIN}/").replace("/usr/bin/", f"{BIN}/")
    return lab.sh("provolone", f"PATH={BIN}:$PATH; {own}")


def test_the_tutorial(lab: Lab) -> None:
    program = lab.directory / "dtcalc"
    program.write_text("#!/bin/sh\nexec sleep 1000\n")
    program.chmod(0o755)

    # 2.13.4
    create = f"/usr/sbin/caa_profile -create dtcalc -t application -B {program}"
    assert typed(lab, f'{create} \\\n-d "dtcalc application" -p balanced') == ""
    assert typed(lab, "cat /clu/resources/dtcalc.cap") == DTCALC
    # 2.13.5, 2.13.6
    assert typed(lab, "caa_profile -validate dtcalc") == ""
    assert typed(lab, "/usr/sbin/caa_register dtcalc") == ""
    assert typed(lab, "/usr/bin/caa_stat dtcalc") == DEFINED.format("OFFLINE", "OFFLINE")
    # 2.13.7
    assert typed(lab, "/usr/bin/caa_start dtcalc") == (
        "Attempting to start 'dtcalc' on member 'provolone'\n"
        "Start of 'dtcalc' on member 'provolone' succeeded.\n"
    )
    assert typed(lab, "/usr/bin/caa_stat dtcalc") == DEFINED.format("ONLINE", "ONLINE on provolone")
    # 2.13.8, with the lines of 2.7
    assert typed(lab, "/usr/bin/caa_relocate dtcalc -c polishham") == (
        "Attempting to stop 'dtcalc' on member 'provolone'\n"
        "Stop of 'dtcalc' on member 'provolone' succeeded.\n"
        "Attempting to start 'dtcalc' on member 'polishham'\n"
        "Start of 'dtcalc' on member 'polishham' succeeded.\n"
    )
    assert typed(lab, "/usr/bin/caa_stat dtcalc") == DEFINED.format("ONLINE", "ONLINE on polishham")
    assert lab.sh("polishham", f"pgrep -f {program} || pgrep sleep") != ""
    # 2.13.9; the manual's own print has the member that it had just left.
    assert typed(lab, "/usr/bin/caa_stop dtcalc") == (
        "Attempting to stop 'dtcalc' on member 'polishham'\n"
        "Stop of 'dtcalc' on member 'polishham' succeeded.\n"
    )
    assert typed(lab, "/usr/bin/caa_stat dtcalc") == DEFINED.format("OFFLINE", "OFFLINE")
    # 2.13.10
    assert typed(lab, "/usr/sbin/caa_unregister dtcalc") == ""
    assert typed(lab, "caa_stat -g dtcalc || echo no") == "no\n"


SCRIPT = """#!/bin/sh
[ "$1" = start ] && [ "$(uname -n)" = "$(cat DIR/fails 2>/dev/null)" ] && exit 1
echo "$1 because of $_CAA_REASON, $USR_DEBUG"
"""


@pytest.fixture
def clock(lab: Lab) -> Iterator[str]:
    """An application that starts anywhere but on the member that `fails` names; it is gone afterwards."""
    (lab.directory / "fails").unlink(missing_ok=True)
    tdf = "attribute: USR_DEBUG\\ntype: boolean\\nswitch: -o d\\ndefault: 0\\nrequired: no\\n"
    lab.sh("provolone", f"printf '{tdf}' >/clu/templates/application.tdf")
    path = lab.directory / "clock.scr"
    path.write_text(SCRIPT.replace("DIR", str(lab.directory)))
    lab.sh("provolone", f"install -m 755 {path} /clu/scripts/clock.scr")
    typed(lab, "caa_profile -create clock -t application && caa_register clock")
    yield "clock"
    typed(lab, "caa_stop -q clock; caa_unregister clock; caa_profile -delete clock")


def test_a_relocation_that_fails_everywhere(lab: Lab, clock: str) -> None:
    """Manual 2.7: back to where it was."""
    typed(lab, "caa_start clock -c pepicelli")
    (lab.directory / "fails").write_text("provolone\n")
    said = typed(lab, "caa_relocate clock -c provolone || echo exit $?")
    assert said == (
        "Attempting to stop 'clock' on member 'pepicelli'\n"
        "Stop of 'clock' on member 'pepicelli' succeeded.\n"
        "Attempting to start 'clock' on member 'provolone'\n"
        "Start of 'clock' on member 'provolone' failed.\n"
        "No more members to consider\n"
        "Attempting to restart 'clock' on member 'pepicelli'\n"
        "Could not relocate resource clock.\n"
        "exit 1\n"
    )
    assert "STATE=ONLINE on pepicelli\n" in typed(lab, "caa_stat clock")


def test_the_scripts_output_is_shown_to_who_asks(lab: Lab, clock: str) -> None:
    """Manual 2.3.4, 2.4."""
    said = typed(lab, "_CAA_UI_FMT=v caa_start USR_DEBUG=1 clock -c polishham").splitlines()
    assert "polishham:clock:start because of user, 1" in said
    said = typed(lab, "_CAA_UI_FMT=vs caa_stop clock").splitlines()
    assert "stop because of user, 0" in said
    assert typed(lab, "caa_start clock -c polishham").splitlines() == [
        "Attempting to start 'clock' on member 'polishham'",
        "Start of 'clock' on member 'polishham' succeeded.",
    ]


def test_balance_and_plans(lab: Lab, clock: str) -> None:
    """Manual 2.8."""
    typed(lab, "caa_start clock -c polishham")
    assert typed(lab, "caa_balance clock") == (
        "Resource clock is already well placed\n"
        "  clock is placed optimally. No relocation is needed.\n"
    )
    before = typed(lab, "caa_stat clock")
    assert "'polishham'" in typed(lab, "caa_relocate clock -c provolone -n")
    assert typed(lab, "caa_stat clock") == before
    assert "Start of 'clock' on member 'provolone' succeeded." in typed(
        lab, "caa_relocate -s polishham -c provolone"
    )
    assert typed(lab, "caa_stat -t clock").splitlines()[2] == (
        "clock          application    ONLINE    ONLINE    provolone"
    )


def test_the_report_counts_what_ran(lab: Lab, clock: str) -> None:
    typed(lab, "caa_start clock; sleep 2; caa_stop clock")
    line = typed(lab, "caa_report -a clock").splitlines()[-1]
    assert 50 < float(line.split()[-2]) <= 100
    assert "NEVER STARTED" not in typed(lab, "caa_report -o")


def test_a_copy_is_a_bundle(lab: Lab, clock: str) -> None:
    typed(lab, "caa_start clock")
    bundle = lab.directory / "bundle"
    typed(lab, f"mkdir {bundle}; cp -a /clu/resources /clu/status {bundle} 2>/dev/null || :")
    for line in ("caa_stat -v", "caa_stat -p", "caa_stat -t clock"):
        assert typed(lab, f"CLU_ROOT={bundle} {line}") == typed(lab, line)
    assert typed(lab, f"CLU_ROOT={bundle} caa_start clock; echo $?") == "1\n"
