"""An application as a rebellious script makes it, and the oracle outside clufs that counts its instances.

A running instance holds flock(2) on a file of the machine's own disk: the kernel lets go of it exactly when the last
of its processes is gone. One that finds it held has found two instances.
"""

from __future__ import annotations

import fcntl
from dataclasses import dataclass, field
from pathlib import Path

HELD = 75
RESOURCES = "/clu/resources"

_SCRIPT = """#!/bin/sh
me=$(hostname)
case $1 in
start)
    sleep {slow}
    {apart} sh -c '{deaf}
        flock -n -E {held} {oracle}.running sh -c '\\''echo "$0 $$" > {oracle}.who; exec sleep 100000'\\'' "$0"
        [ $? = {held} ] && echo "{name}: twice, on $0" >> {violations}' "$me" &
    n=0
    until read -r where pid < {oracle}.who && [ "$where" = "$me" ] && kill -0 "$pid"; do
        n=$((n + 1)); [ $n -lt 300 ] || exit 1
        sleep 0.1
    done
    echo "start $me" >> {oracle}.log
    ;;
stop)
    echo "stop $me" >> {oracle}.log
    read -r where pid < {oracle}.who
    [ "$where" != "$me" ] || {kill}
    ;;
check)
    read -r where pid < {oracle}.who && [ "$where" = "$me" ] && kill -0 "$pid"
    ;;
esac
"""


@dataclass(frozen=True)
class Instance:
    """One application. slow: seconds its start takes. deaf: it is a daemon that no stop entry ends.

    requires: another one, without which it cannot run. attributes: of its profile.
    """

    directory: Path
    name: str
    slow: str = "0"
    deaf: bool = False
    requires: str = ""
    attributes: dict[str, str] = field(default_factory=dict)

    @property
    def violations(self) -> Path:
        """Where what must not be is written, by all."""
        return self.directory / "violations"

    @property
    def _oracle(self) -> Path:
        return self.directory / self.name

    def write(self) -> str:
        """Write script and profile; the shell command that registers it."""
        script = self.directory / f"{self.name}.scr"
        script.write_text(
            _SCRIPT.format(
                name=self.name,
                slow=self.slow,
                held=HELD,
                oracle=self._oracle,
                violations=self.violations,
                apart="setsid" if self.deaf else "",
                deaf='trap "" TERM HUP INT' if self.deaf else ":",
                kill=":" if self.deaf else 'kill "$pid" || :',
            )
        )
        profile = self.directory / f"{self.name}.cap"
        lines = {"NAME": self.name, "TYPE": "application", "ACTION_SCRIPT": script.name}
        lines |= {"CHECK_INTERVAL": "1", "REQUIRED_RESOURCES": self.requires, **self.attributes}
        profile.write_text("".join(f"{key}={value}\n" for key, value in lines.items()))
        self._oracle.with_suffix(".who").touch()
        return (
            f"cp {script} /clu/scripts/ && chmod 755 /clu/scripts/{script.name}"
            f" && cp {profile} {RESOURCES}/ && caa_register {self.name}"
        )

    def is_running(self) -> bool:
        """Whether any process of any instance is there."""
        with self._oracle.with_suffix(".running").open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False

    def who(self) -> tuple[str, str]:
        """The member where an instance ran last, and its process as that member numbers it."""
        member, _, pid = self._oracle.with_suffix(".who").read_text().strip().partition(" ")
        return member, pid

    def log(self) -> list[str]:
        """What its script has done, in order: `start MEMBER`, `stop MEMBER`."""
        log = self._oracle.with_suffix(".log")
        return log.read_text().splitlines() if log.exists() else []
