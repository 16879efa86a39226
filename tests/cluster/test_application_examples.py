"""The examples of applications, on a real lab: a web server and a database move with their addresses."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.lab import NAMES, Lab, within

pytestmark = pytest.mark.timeout(150)

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
START_S = 30


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    lab = Lab(tmp_path_factory.mktemp("applications") / "lab")
    lab.do("up")
    yield lab
    assert lab.run("down").returncode == 0


def installed(lab: Lab, name: str, *resources: str, **changed: str) -> None:
    """What the example's README says, with attributes changed for this machine."""
    place = EXAMPLES / name
    edits = " ".join(f"-e 's|^{key}=.*|{key}={value}|'" for key, value in changed.items())
    script = [f"cat {place}/{name}.tdf >> /clu/templates/application.tdf"]
    script += [f"cp {place}/{name}.scr /clu/scripts/"]
    script += [f"sed {edits} {place}/{one}.cap > /clu/resources/{one}.cap" for one in resources]
    script += [f"caa_register {' '.join(resources)}", f"caa_start {name}"]
    lab.sh(NAMES[0], "set -e; " + "; ".join(script))


def host(lab: Lab, name: str, asked: str = NAMES[2]) -> str:
    """The member that an application is ONLINE on, empty if on none."""
    return lab.sh(asked, f"cat /clu/resources/{name}/state").strip().partition("ONLINE on ")[2]


def test_a_web_server_moves_with_its_address(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("it works\n")
    installed(lab, "web", "lan", "web", USR_PAGES=str(tmp_path))
    first = host(lab, "web")
    assert first in NAMES
    page = "timeout 3 busybox wget -q -O - http://10.77.0.80/"
    for member in NAMES:
        assert lab.sh(member, page) == "it works\n"
    second = next(name for name in NAMES if name != first)
    lab.sh(NAMES[2], f"caa_relocate web -c {second}")
    assert host(lab, "web") == second
    for member in NAMES:
        assert lab.sh(member, page) == "it works\n"
    shows = "ip -o address show dev eth0 | grep -c 10.77.0.80 || :"
    assert [lab.sh(name, shows).strip() for name in NAMES] == [
        str(int(name == second)) for name in NAMES
    ]
    lab.sh(NAMES[0], "caa_stop web")
    assert lab.run("exec", NAMES[0], "--", "sh", "-c", page).returncode != 0


def test_a_database_fails_over_with_all_that_it_acknowledged(lab: Lab, tmp_path: Path) -> None:
    installed(lab, "redis", "redis", USR_REDIS_DATA=str(tmp_path))
    first = host(lab, "redis")
    ask = "redis-cli -h 10.77.0.81"
    alive = next(name for name in NAMES if name != first)
    for number in range(20):
        assert lab.sh(alive, f"{ask} set key{number} {number}") == "OK\n"
    lab.do("kill", first)
    assert within(START_S, lambda: host(lab, "redis", alive) not in ("", first))
    assert within(START_S, lambda: lab.sh(alive, f"{ask} get key19 || :") == "19\n")
    assert lab.sh(alive, f"{ask} dbsize") == "20\n"
    assert first in lab.sh(alive, "tail -n 1 /clu/resources/redis/history")
    lab.do("restart", first)
    lab.sh(alive, "caa_stop redis")
