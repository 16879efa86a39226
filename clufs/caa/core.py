"""The bench on which stories run: their actions, who has claimed what, what is said to which job."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from clufs.caa.interface import Effect, EndJob, RunAction, Say, UnderWay
from clufs.caa.resources import Resource, Table
from clufs.caa.stories import Act, Operation, Outcome, Story


@dataclass(slots=True)
class _Job:
    """A command that has not ended. pending: the operations whose end it awaits."""

    pending: int = 0
    exit: int = 0


class Core:
    """Runs stories side by side. Every resource is claimed by one at most.

    effects: what the step has given rise to so far; endings: the jobs that ended in it. muted:
    progress lines are left out, since nothing is really done. freed: a story has ended.
    """

    def __init__(self, table: Table, next_action: int, *, muted: bool = False) -> None:
        self.table = table
        self.effects: list[Effect] = []
        self.endings: list[Effect] = []
        self.freed = False
        self.muted = muted
        self.next_action = next_action
        self._actions: dict[int, tuple[Operation, Act]] = {}
        self._stories: dict[Operation, Story[int]] = {}
        self._claimed: dict[str, Operation] = {}
        self._beside: Counter[str] = Counter()
        self._delayed: list[tuple[Operation, Act]] = []
        self._jobs: dict[int, _Job] = {}
        self._blocked: dict[str, None] = {}

    # Jobs.

    def say(self, job: int, text: str) -> None:
        """Say a line to a job."""
        self.effects.append(Say(job, text))

    def end(self, job: int, code: int) -> None:
        """End a job that waits for nothing, with this exit."""
        self.endings.append(EndJob(job, code))

    def refuse(self, job: int, *lines: str) -> None:
        """Say why not, and end the job with exit 1."""
        for line in lines:
            self.say(job, line)
        self.end(job, 1)

    def join(self, operation: Operation, job: int) -> None:
        """Have a job hear of an operation, what was said already included, and end with it."""
        operation.jobs.append(job)
        for line in operation.lines:
            self.say(job, line)
        self._jobs.setdefault(job, _Job()).pending += 1

    def hold(self, job: int) -> None:
        """Keep a job from ending until `release`."""
        self._jobs.setdefault(job, _Job()).pending += 1

    def release(self, job: int, code: int) -> None:
        """One thing less that the job awaits; the worst exit is the job's."""
        found = self._jobs[job]
        found.exit = max(found.exit, code)
        found.pending -= 1
        if not found.pending:
            del self._jobs[job]
            self.end(job, found.exit)

    def tell(self, operation: Operation, text: str) -> None:
        """Say one of the progress lines of an operation to whom it concerns."""
        if self.muted:
            return
        operation.lines.append(text)
        for job in operation.jobs:
            self.say(job, text)

    # Operations.

    def of(self, resource: Resource) -> Operation | None:
        """Return the operation that has claimed the resource."""
        return self._claimed.get(resource.name)

    def under_way(self) -> bool:
        """Whether any story waits for an action."""
        return bool(self._actions)

    def wait_for(self, resource: Resource) -> None:
        """Look at the resource again as soon as any operation has ended."""
        self._blocked[resource.name] = None

    def waits(self, resource: Resource) -> bool:
        """Whether the resource is to be looked at as soon as any operation has ended."""
        return resource.name in self._blocked

    def begin(self, operation: Operation, story: Story[int]) -> None:
        """Run a story up to its first action. What it claims must be free.

        One that claims nothing runs beside others of its resource, which is not free before it ends.
        """
        self._claim(operation, story)
        self._go_on(operation, None)

    def adopt(self, operation: Operation, story: Story[int], action: UnderWay) -> None:
        """Run a story whose first action is one that is under way already."""
        self._claim(operation, story)
        self._actions[action.action] = (operation, next(story))

    def _claim(self, operation: Operation, story: Story[int]) -> None:
        self._stories[operation] = story
        for job in operation.jobs:
            self._jobs.setdefault(job, _Job()).pending += 1
        for name in operation.claims:
            self.table.resources[name].busy = True
            self._claimed[name] = operation
        if not operation.claims:
            self.table.resources[operation.resource].busy = True
            self._beside[operation.resource] += 1

    def _go_on(self, operation: Operation, outcome: Outcome | None) -> None:
        story = self._stories[operation]
        while True:
            try:
                act = next(story) if outcome is None else story.send(outcome)
            except StopIteration as ended:
                self._finish(operation, int(ended.value))
                return
            if act.member in self.table.up:
                if self._beside[act.resource] and self._acts(act):
                    self._delayed.append((operation, act))
                else:
                    self._run(operation, act)
                return
            outcome = Outcome(False, "the member is not up", lost=True)

    def _acts(self, wanted: Act) -> bool:
        """Whether an action for the same application is under way on the same member."""
        place = (wanted.resource, wanted.member)
        return any((act.resource, act.member) == place for _, act in self._actions.values())

    def _run_delayed(self) -> None:
        delayed, self._delayed = self._delayed, []
        for operation, act in delayed:
            if act.member not in self.table.up:
                self._go_on(operation, Outcome(False, "the member is not up", lost=True))
            elif self._acts(act):
                self._delayed.append((operation, act))
            else:
                self._run(operation, act)

    def _run(self, operation: Operation, act: Act) -> None:
        number = self.next_action
        self.next_action += 1
        self._actions[number] = (operation, act)
        self.effects.append(
            RunAction(
                action=number,
                resource=act.resource,
                member=act.member,
                entry=act.entry,
                reason=act.reason,
                why=act.why,
                variables=operation.variables,
                job=operation.jobs[0] if operation.jobs else 0,
            )
        )

    def _finish(self, operation: Operation, code: int) -> None:
        del self._stories[operation]
        for name in operation.claims:
            del self._claimed[name]
        if not operation.claims:
            self._beside[operation.resource] -= 1
        for name in operation.claims or (operation.resource,):
            resource = self.table.resources[name]
            resource.busy = name in self._claimed or self._beside[name] > 0
            if not resource.busy:
                self.table.reserve(resource, resource.member)
            self.table.unsettle(name)
        for name in self._blocked:
            self.table.unsettle(name)
        self._blocked.clear()
        self.freed = True
        for job in operation.jobs:
            self.release(job, code)

    # What happens to actions.

    def action_ended(self, number: int, outcome: Outcome) -> None:
        """Let the story go on whose action ended; one that is not known is ignored."""
        found = self._actions.pop(number, None)
        if found is not None:
            self._go_on(found[0], outcome)
            if self._delayed:
                self._run_delayed()

    def acting(self, resource: Resource) -> Act | None:
        """Return the action under way for the resource itself."""
        operation = self._claimed.get(resource.name)
        for owner, act in self._actions.values():
            if owner is operation and act.resource == resource.name:
                return act
        return None

    def lose(self, gone: Callable[[str], bool]) -> None:
        """End every action on members that are gone; their stories go on."""
        lost = [number for number, (_, act) in self._actions.items() if gone(act.member)]
        for number in lost:
            self.action_ended(number, Outcome(False, "the member was lost", lost=True))
