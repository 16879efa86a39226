"""clufs lab tour: a story of two minutes on a lab of its own, for who sees clufs for the first time."""

from __future__ import annotations

from clufs.lab import cluster
from clufs.lab.plan import DIRECTORY_VARIABLE, Lab
from clufs.lab.stage import Stage

DIR = "/run/clufs-lab-tour"


def play(lab: Lab, fast: bool) -> None:
    """Play the story; nothing of the lab is left, however it ends. Raises ProgramError if it breaks."""
    cluster.check_machine()
    cluster.check_free(lab)
    stage = Stage(lab, fast)
    try:
        for scene in (_up, _hand_over, _deadlock, _killed, _cut):
            scene(stage)
        stage.close()
        stage.tell("That was clufs: a cluster lock manager, driven by echo and cat.")
        stage.run("clufs lab down")
    finally:
        stage.close()
        if lab.exists():
            cluster.down(lab)


def _up(stage: Stage) -> None:
    stage.tell(
        f"""Three machines, each with its own corosync, its own clufsd and its own /clu; here they are
        namespaces of this one. (This lab has {DIRECTORY_VARIABLE}={stage.lab.directory} in the
        environment, yours needs nothing.)"""
    )
    stage.run("clufs lab up")
    stage.do("provolone", "cat /clu/status/cluster")
    stage.tell("What one member makes, all have.")
    stage.do("provolone", "mkdir /clu/locks/tour")
    stage.do("polishham", "ls /clu/locks")


def _hand_over(stage: Stage) -> None:
    stage.tell("A lock is a file: write a mode to it, and when echo returns, this shell has it.")
    stage.do("provolone", "cd /clu/locks/tour; echo EX > door")
    stage.wait("polishham", "cd /clu/locks/tour; echo EX > door")
    stage.tell("Who holds it, who waits, and why, can be read on any member.")
    stage.do("pepicelli", "cat /clu/status/locks/tour/door")
    stage.tell("Whoever lets go may leave a value to the next one.")
    stage.do("provolone", "echo UN value=the key is under the mat > door")
    stage.goes_on("polishham")
    stage.do("polishham", "cat door; echo UN > door")


def _deadlock(stage: Stage) -> None:
    stage.tell(
        "Two members that wait for each other would wait for ever. It is found, on any number."
    )
    stage.do("provolone", "echo EX > left")
    stage.do("polishham", "echo EX > right")
    stage.wait("provolone", "echo EX > right")
    stage.start("polishham", "echo EX > left")
    victim = stage.first_refused("provolone", "polishham")
    other, had = {"provolone": ("polishham", "left"), "polishham": ("provolone", "right")}[victim]
    stage.do("pepicelli", "cat /clu/status/deadlocks")
    stage.tell("One was refused and still has what it had. It lets go, and the other goes on.")
    stage.do(victim, f"echo UN > {had}")
    stage.goes_on(other)
    stage.do(other, "echo UN > left; echo UN > right")


def _killed(stage: Stage) -> None:
    stage.tell(
        "provolone leaves a value and keeps NL, which bars nobody. pepicelli wants to change it."
    )
    stage.do("provolone", "echo EX > vault; echo NL value=1000 francs > vault")
    stage.do("pepicelli", "cd /clu/locks/tour; echo EX > vault; cat vault")
    stage.wait("provolone", "echo EX > vault")
    stage.tell("Now pepicelli dies, at the worst moment.")
    stage.run("clufs lab kill pepicelli")
    stage.forget("pepicelli")
    stage.tell(
        """Nobody gets its lock before it is surely dead: the others fence it, by a program that the
        configuration names. Only then does provolone go on."""
    )
    stage.goes_on("provolone")
    stage.do("provolone", "tail -n 6 /clu/events")
    stage.tell("The value is still there, and everybody is told that it may be wrong (VALID=0).")
    stage.do("provolone", "cat vault; grep VALID= /clu/status/locks/tour/vault")
    stage.do("provolone", "echo UN value=990 francs, counted again > vault")
    stage.run("clufs lab restart pepicelli")
    stage.do("pepicelli", "cat /clu/status/quorum")


def _cut(stage: Stage) -> None:
    stage.tell("A member whose cable is cut lives on, and may think that it holds its lock.")
    stage.do("polishham", "echo EX > bridge")
    stage.wait("pepicelli", "echo EX > /clu/locks/tour/bridge")
    stage.run("clufs lab cut polishham")
    stage.goes_on("pepicelli")
    stage.forget("polishham")
    stage.tell(
        "It, too, was fenced first; in a lab that is: killed. Mended and started, it is back."
    )
    stage.run("clufs lab status")
    stage.run("clufs lab heal")
    stage.run("clufs lab restart polishham")
    stage.do("polishham", "cat /clu/status/cluster")
