"""The fencing gate: which lost lives are awaited, and for what. Pure.

A life is one incarnation of a member. The registry says which are `in`; one that is in and not in
the view is lost, and what it held is granted to nobody until it is out. It gets out by a proof
that it is finished: an agent's certificate or a person's word, nothing else. The gate runs the
agents and proposes what is proved; the registry makes it so on every member.

- Only the first member of the view runs agents: two at once would do no harm, but no good either.
  If it dies, the first of the next view begins anew.
- Agents are tried in their order and then again, for ever; a person's word is taken at any time.
- What is proved of a life holds for the older ones of the same member, and outlives the view in
  which it was proved. Only a view that the life itself is in refutes it.
- A life that others may write for gets out only when none of these can any more: those in the view have
  done with it (`serving`), and the lost ones are proved finished themselves.
- Without a view no agent is begun: a minority does not shoot. One that runs then goes on, since
  the next view usually wants it; what it certifies is proposed in that view.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from clufs.dlm.interface import Life
from clufs.errors import InvalidRequest, NoQuorum
from clufs.timeouts import FENCE_AGENT_S, FENCING_RETRY_MAX_S, FENCING_RETRY_MIN_S

NONE = "none"
COMMAND = "command"
LUN = "lun"


@dataclass(frozen=True, slots=True)
class AgentPlan:
    """A configured way to make sure that a member is off.

    kind: `command`; `lun`: by the reservations of the shared LUNs; or `none`: a person confirms. command: program
    and arguments; the member's name is appended. timeout_s: a run that takes longer is ended and has failed.
    called: its name in reports, where that is not the program's.
    """

    kind: str
    command: tuple[str, ...] = ()
    timeout_s: float = FENCE_AGENT_S
    called: str = ""

    def __post_init__(self) -> None:
        """Raises ValueError for what is no plan."""
        if self.kind not in (COMMAND, LUN, NONE):
            raise ValueError(f"there is no fencing agent '{self.kind}': command, lun, none")
        if (self.kind == COMMAND) != bool(self.command):
            raise ValueError("the agent 'command', and no other, has a command")

    @property
    def name(self) -> str:
        """What reports call it: as configured, else the program without its directory."""
        program = self.command[0].rpartition("/")[2] if self.command else self.kind
        return self.called or program


# ------------------------------------------------- what is to be done


@dataclass(frozen=True, slots=True)
class RunAgent:
    """Run the agent (its place in the plans) against the member, then call agent_done()."""

    life: Life
    agent: int


@dataclass(frozen=True, slots=True)
class StopAgent:
    """Whatever agent runs against this life is to be stopped; what became of it is not asked for."""

    life: Life


@dataclass(frozen=True, slots=True)
class ProposeOut:
    """It is proved that the life is finished: have the registry mark it `out`. why: the proof."""

    life: Life
    why: str


@dataclass(frozen=True, slots=True)
class OrderEnded:
    """What became of fence(): whether the member is surely off, and why or why not."""

    life: Life
    ok: bool
    why: str


@dataclass(frozen=True, slots=True)
class Told:
    """Something happened: a line of /clu/events and of /clu/status/fencing.

    agent: its name, `person`, or `-`.
    result: lost, ordered, begun, failed, off, confirmed, refuted, out.
    """

    life: Life
    agent: str
    result: str
    why: str


@dataclass(frozen=True, slots=True)
class At:
    """Call tick() at this time."""

    time_s: float


Effect = RunAgent | StopAgent | ProposeOut | OrderEnded | Told | At


@dataclass(slots=True)
class _Attempt:
    """How far the fencing of a life is. ordered: a person waits for it."""

    position: int = 0
    running: bool = False
    ordered: bool = False
    rounds: int = 0
    due_s: float | None = None
    said: str = ""


class Gate:
    """One member's part. Methods return effects, to be carried out in their order."""

    def __init__(self, me: str, agents: tuple[AgentPlan, ...]) -> None:
        """agents: must be configured alike on all members, as any of them may come to run them."""
        self.me = me
        self.plans = agents
        self._usable = [index for index, plan in enumerate(agents) if plan.kind != NONE]
        self._members: frozenset[Life] = frozenset()
        self._ins: frozenset[Life] = frozenset()
        self._standing = False
        self._proved: dict[str, tuple[int, str]] = {}
        self._ended: Mapping[Life, str] = {}
        self._servers: Mapping[Life, frozenset[Life]] = {}
        self._proposed: set[Life] = set()
        self._told: set[Life] = set()
        self._attempts: dict[Life, _Attempt] = {}

    # ------------------------------------------------- what is so

    @property
    def lost(self) -> frozenset[Life]:
        """The lives that may still hold locks and are not in the view (the last one, without one)."""
        return self._ins - self._members

    def is_fencing(self, life: Life) -> bool:
        """Whether this member runs an agent against that life now."""
        attempt = self._attempts.get(life)
        return attempt is not None and attempt.running

    def waits_for(self) -> str:
        """What the lost lives wait for, as a sentence; empty without a view or when none is lost."""
        if not self._standing:
            return ""
        return "; ".join(
            f"fencing of {life.member} (incarnation {life.incarnation}): {self._awaited(life)}"
            for life in sorted(self.lost)
        )

    def _awaited(self, life: Life) -> str:
        by_hand = f"echo confirmed > /clu/members/{life.member}/fence once it is surely off"
        if self._proof(life) is not None:
            if writers := self._writers(life):
                names = ", ".join(one.member for one in writers)
                return f"it is off; what {names} may still write for it ends with the fencing of {names}"
            return "it is off; the registry has to record it"
        if back := self._newer(life, self._members):
            return f"incarnation {back.incarnation}, now here, has not ended it; {by_hand}"
        if not self._usable:
            return f"no agent is configured; {by_hand}"
        if not self._is_first():
            return f"{self._first()} runs the agents"
        attempt = self._attempts.get(self._newest(life)) or _Attempt()
        agent = self.plans[self._usable[attempt.position]].name
        if not attempt.rounds:
            return f"agent {agent} runs"
        times = "once" if attempt.rounds == 1 else f"{attempt.rounds} times"
        again = f"agent {agent} runs again" if attempt.running else "they are tried again soon"
        return f"all agents have failed {times} ({attempt.said}); {again}, or {by_hand}"

    # ------------------------------------------------- events

    def installed(self, view: int, members: tuple[Life, ...], ins: frozenset[Life]) -> list[Effect]:
        """A view holds from now on. ins: the lives that the registry says are `in`."""
        self._standing = True
        self._members, self._ins = frozenset(members), ins
        self._proposed.clear()
        effects: list[Effect] = []
        for life in sorted(self._members):
            if self._proof(life) is not None:
                del self._proved[life.member]
                why = f"it is in view {view}, after it was said to be off"
                effects.append(Told(life, "-", "refuted", why))
        for life, attempt in list(self._attempts.items()):
            if not attempt.running:
                del self._attempts[life]
        return effects + self._go_on()

    def changed(self, ins: frozenset[Life], outs: Mapping[Life, str]) -> list[Effect]:
        """The registry has marked lives `in` or `out`. outs: why those that are out are."""
        gone = sorted(life for life in self.lost - ins)
        self._ins = ins
        return [*(Told(life, "-", "out", outs.get(life, "")) for life in gone), *self._go_on()]

    def learn(self, servers: Mapping[Life, frozenset[Life]], ended: Mapping[Life, str]) -> None:
        """Said before installed() and changed(): what else the registry knows of the lives that are in.

        servers: the lives that may write for a life. ended: why later lives prove the end of one that is served.
        """
        self._servers, self._ended = servers, ended

    def suspended(self) -> list[Effect]:
        """The view holds no more: nothing is begun or proposed until the next one."""
        self._standing = False
        return []

    def confirm(self, member: str, by: str = "a person") -> list[Effect]:
        """A person says that the incarnation of `member` which is lost now is surely finished.

        Raises NoQuorum without a view, InvalidRequest if no incarnation of it is lost.
        """
        self._need_view()
        lost = sorted(life for life in self.lost if life.member == member)
        if not lost:
            raise InvalidRequest(f"{member} is not lost: there is nothing to confirm")
        self._prove(lost[-1], f"confirmed by {by}")
        told: list[Effect] = [Told(life, "person", "confirmed", by) for life in lost]
        return told + self._go_on()

    def fence(self, member: str, by: str = "a person") -> list[Effect]:
        """A person orders `member` off: the agents are tried here once, lost or not.

        OrderEnded tells what became of it. Raises NoQuorum without a view, InvalidRequest if there
        is no agent, nothing to fence, or the member is this one.
        """
        self._need_view()
        if member == self.me:
            raise InvalidRequest("a member does not fence itself; write this on another one")
        if not self._usable:
            raise InvalidRequest(
                f"no agent is configured; turn {member} off, then write 'confirmed' here"
            )
        lives = sorted(life for life in self._members | self._ins if life.member == member)
        if not lives:
            raise InvalidRequest(f"{member} is neither in the view nor lost")
        life = lives[-1]
        proof = self._proof(life)
        if proof is not None:
            return [OrderEnded(life, True, proof)]
        attempt = self._attempts.setdefault(life, _Attempt())
        attempt.ordered = True
        return [Told(life, "person", "ordered", by), *self._begin(life, attempt)]

    def agent_done(self, now: float, life: Life, agent: int, ok: bool, said: str) -> list[Effect]:
        """The agent has ended. ok: the member is surely off. said: its last words."""
        name = self.plans[agent].name
        if ok:
            self._prove(life, f"agent {name}: {said}")
            done = self._attempts.pop(life, None)
            effects: list[Effect] = [Told(life, name, "off", said)]
            if done is not None and done.ordered:
                effects.append(OrderEnded(life, True, said))
            return effects + self._go_on()
        attempt = self._attempts.get(life)
        told = Told(life, name, "failed", said)
        if attempt is None or not attempt.running or self._usable[attempt.position] != agent:
            return [told]
        attempt.running = False
        attempt.said = f"{name}: {said}"
        return [told, *self._failed(now, life, attempt)]

    def tick(self, now: float) -> list[Effect]:
        """The time of an At has come."""
        effects: list[Effect] = []
        for life, attempt in self._attempts.items():
            if attempt.due_s is not None and attempt.due_s <= now and self._is_mine(life):
                effects += self._begin(life, attempt)
        return effects

    # ------------------------------------------------- proofs

    def _prove(self, life: Life, why: str) -> None:
        before = self._proved.get(life.member)
        if before is None or before[0] <= life.incarnation:
            self._proved[life.member] = (life.incarnation, why)

    def _proof(self, life: Life) -> str | None:
        incarnation, why = self._proved.get(life.member, (life.incarnation - 1, ""))
        return why if life.incarnation <= incarnation else self._ended.get(life)

    def _writers(self, life: Life) -> list[Life]:
        """The lost lives that may still write for this one."""
        lost = self._servers.get(life, frozenset()) & self.lost
        return sorted(one for one in lost if self._proof(one) is None)

    # ------------------------------------------------- who does what

    def _need_view(self) -> None:
        if not self._standing:
            raise NoQuorum("this member has no quorum; write this on one that has")

    def _first(self) -> str:
        return min(self._members).member

    def _is_first(self) -> bool:
        return self._standing and self._first() == self.me

    def _newest(self, life: Life) -> Life:
        return self._newer(life, self.lost) or life

    def _newer(self, life: Life, among: frozenset[Life]) -> Life | None:
        """The newest life of the same member after this one, if there is one."""
        return max((one for one in among if one.member == life.member and one > life), default=None)

    def _is_mine(self, life: Life) -> bool:
        """Whether this member is to run agents against that life, unordered.

        Not against a member that is back: it would be the new life that is shot. That one has to
        end the old one, as every daemon does before it joins.
        """
        wanted = life in self.lost and self._proof(life) is None and bool(self._usable)
        newer = self._newer(life, self._ins | self._members)
        return wanted and newer is None and self._is_first()

    # ------------------------------------------------- what follows

    def _go_on(self) -> list[Effect]:
        effects = self._drop_what_is_over()
        self._told &= self._ins
        if not self._standing:
            return effects
        for life in sorted(self.lost - self._told):
            self._told.add(life)
            effects.append(Told(life, "-", "lost", self._awaited(life)))
        for life in sorted(self.lost - self._proposed):
            why = self._proof(life)
            if why is not None and not self._writers(life):
                self._proposed.add(life)
                effects.append(ProposeOut(life, why))
        for life in sorted(self.lost):
            if life not in self._attempts and self._is_mine(life):
                attempt = self._attempts[life] = _Attempt()
                effects += self._begin(life, attempt)
        return effects

    def _drop_what_is_over(self) -> list[Effect]:
        effects: list[Effect] = []
        for life, attempt in list(self._attempts.items()):
            proof = self._proof(life)
            over = life not in self._ins | self._members or proof is not None
            if not over and self._newer(life, self._members) is None:
                continue
            del self._attempts[life]
            if attempt.running:
                effects.append(StopAgent(life))
            if attempt.ordered:
                effects.append(OrderEnded(life, proof is not None, proof or "it ended by itself"))
        return effects

    def _begin(self, life: Life, attempt: _Attempt) -> list[Effect]:
        attempt.due_s = None
        if attempt.running:
            return []
        attempt.position = 0
        return self._run(life, attempt)

    def _run(self, life: Life, attempt: _Attempt) -> list[Effect]:
        attempt.running = True
        agent = self._usable[attempt.position]
        return [Told(life, self.plans[agent].name, "begun", ""), RunAgent(life, agent)]

    def _failed(self, now: float, life: Life, attempt: _Attempt) -> list[Effect]:
        """On to the next agent; after the last one, a pause, or the end of an order."""
        wanted = self._is_mine(life) or (attempt.ordered and self._standing)
        if wanted and attempt.position + 1 < len(self._usable):
            attempt.position += 1
            return self._run(life, attempt)
        effects: list[Effect] = []
        if attempt.ordered:
            attempt.ordered = False
            effects.append(OrderEnded(life, False, attempt.said))
        if not self._is_mine(life):
            del self._attempts[life]
            return effects
        attempt.position = 0
        pause_s = min(FENCING_RETRY_MIN_S * 2**attempt.rounds, FENCING_RETRY_MAX_S)
        attempt.rounds += 1
        attempt.due_s = now + pause_s
        return [*effects, At(attempt.due_s)]
