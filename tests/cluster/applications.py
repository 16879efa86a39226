"""An application on a lab, with an oracle outside of clufs.

A running instance holds flock(2) on a file that is not clufs's, and the kernel lets go of it when the last of
its processes is gone; one that finds it held has found two instances.
"""

from pathlib import Path

from tests.cluster.lab import NAMES, Lab, within
from tests.cluster.torture.faults import make_whole

FIRST, SECOND, THIRD = NAMES
RESOURCES = "/clu/resources"
HELD = 75
SCRIPT = """#!/bin/sh
me=$(readlink /clu/members/self)
case $1 in
start)
    sleep {slow}
    (
        flock -n -E {held} {place}/running sh -c 'echo $$ > {place}/pid; exec sleep 100000'
        [ $? = {held} ] && echo "twice $me" >> {place}/log
    ) &
    echo "start $me" >> {place}/log
    ;;
stop)
    echo "stop $me" >> {place}/log
    kill $(cat {place}/pid) || :
    ;;
check)
    kill -0 $(cat {place}/pid)
    ;;
esac
"""


class Application:
    """A registered application with its oracle."""

    def __init__(self, lab: Lab, place: Path, name: str, slow: str = "0", **more: object) -> None:
        self.lab = lab
        self.name = name
        self.log = place / "log"
        self.log.touch()
        (place / f"{name}.scr").write_text(SCRIPT.format(place=place, slow=slow, held=HELD))
        lines = {"TYPE": "application", "NAME": name, "ACTION_SCRIPT": f"{name}.scr", **more}
        (place / f"{name}.cap").write_text("".join(f"{k}={v}\n" for k, v in lines.items()))
        lab.sh(
            FIRST,
            f"cp {place}/{name}.scr /clu/scripts/ && chmod 755 /clu/scripts/{name}.scr"
            f" && cp {place}/{name}.cap {RESOURCES}/ && mkdir {RESOURCES}/{name}",
        )

    def says(self, file: str, member: str = THIRD) -> str:
        return self.lab.sh(member, f"cat {RESOURCES}/{self.name}/{file}").strip()

    def write(self, file: str, text: str, member: str = SECOND) -> None:
        self.lab.sh(member, f"echo {text} > {RESOURCES}/{self.name}/{file}")

    def runs_on(self, *members: str, at: str = THIRD, patience_s: float = 40) -> bool:
        """Whether it comes to run on one of these, as the member `at` sees it."""
        states = [f"ONLINE on {member}" for member in members]
        return within(patience_s, lambda: self.says("state", at) in states)

    @property
    def story(self) -> list[str]:
        """What the instances wrote."""
        return self.log.read_text().splitlines()

    @property
    def doubled(self) -> bool:
        """Whether an instance ever found another one."""
        return any(line.startswith("twice") for line in self.story)

    def is_as_wanted(self, patience_s: float) -> bool:
        """Whether it comes to run if its target is ONLINE, and comes to be OFFLINE otherwise."""

        def settled() -> bool:
            target, state = self.says("target"), self.says("state").partition(" ")[0]
            return state in (target, "UNKNOWN")

        return within(patience_s, settled)

    def end(self) -> None:
        """Nobody ever found two of it; it goes."""
        self.lab.run("heal")
        assert make_whole(self.lab, lambda member: None) == ""
        assert not self.doubled
        self.write("target", "OFFLINE")
        files = f"{RESOURCES}/{self.name}.cap /clu/scripts/{self.name}.scr"
        self.lab.sh(THIRD, f"rmdir {RESOURCES}/{self.name} && rm {files}")
