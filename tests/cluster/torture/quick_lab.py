"""`clufs lab` without a new interpreter for each command: on a busy machine that is most of what a command takes."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

from clufs.errors import ClufsError
from clufs.lab import cluster, inside, plan
from tests.cluster.lab import Lab


class QuickLab(Lab):
    """Does itself what changes or shows the lab; the program does the rest."""

    def run(self, *words: str, **options: object) -> subprocess.CompletedProcess[str]:
        """As the program: what it prints, and 0 or 1."""
        here = self._here(*words)
        if here is None or options:
            return super().run(*words, **options)
        try:
            return subprocess.CompletedProcess(words, 0, here(), "")
        except ClufsError as error:
            return subprocess.CompletedProcess(words, 1, "", f"clufs lab: {error}\n")

    def _here(self, *words: str) -> Callable[[], str] | None:
        lab = plan.Lab(self.directory)

        def quietly(does: Callable[..., object], *arguments: object) -> Callable[[], str]:
            return lambda: str(does(lab, *arguments) or "")

        match words:
            case ["status"]:
                return lambda: "".join(f"{line}\n" for line in cluster.status(lab))
            case ["heal"]:
                return quietly(cluster.heal)
            case ["cut", *names]:
                return quietly(cluster.cut, tuple(names))
            case ["kill" | "pause" | "resume" | "restart" as what, member]:
                return quietly(getattr(cluster, what), member, "member")
            case ["kill" | "pause" | "resume" | "restart" as what, member, "--what", service]:
                return quietly(getattr(cluster, what), member, service)
            case ["lun", "online" | "offline" | "slow" as what, lun, *rest]:
                given = dict(zip(rest[::2], rest[1::2], strict=True))
                where = given.get("--member", "-"), given.get("--path", "0")
                return quietly(cluster.lun, what, lun, *where, given.get("--seconds", "0"))
            case ["exec", member, "--", *command] if command[0] in ("cat", "pkill"):
                return lambda: inside.output(cluster.living(lab, member)[1], *command)
        return None
