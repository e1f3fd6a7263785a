"""What was asked for each job, by whom, and what they were told: calls, item by item.

A call of ten jobs is ten items, each with an outcome of its own:

    ok        it happened between call and return
    existing  an enqueue: the job was there already, or another answers for its key
    refused   it did not happen. What was repeated over a new connection may have happened
              the first time all the same: a second release finds its own lease ended
    unknown   nobody knows: it may have happened at any time since the call, or never
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from headrace.model import commands as c
from headrace.model.errors import ClientError, Unavailable
from headrace.model.job import JobSpec
from headrace.model.replies import Claimed, Enqueued, Existing, Problem, Settled
from headrace.sim.checkers.early import AsyncQueues, may_be_undone, says_early
from headrace.sim.checkers.ledger import FINAL, Ledger
from headrace.sim.history import Call, Connected, History

OK = "ok"
EXISTING = "existing"
REFUSED = "refused"
UNKNOWN = "unknown"


class Item:
    """One job of one call."""

    __slots__ = (
        "call",
        "code",
        "existing",
        "is_early",
        "job_id",
        "outcome",
        "position",
        "token",
        "verb",
    )

    def __init__(
        self, call: Call, verb: str, job_id: bytes, token: int = 0, position: int = 0
    ) -> None:
        self.call = call
        self.verb = verb
        self.job_id = job_id
        self.token = token
        self.position = position
        self.outcome, self.code = outcome_of(call)
        self.existing: Existing | None = None
        self.is_early = False
        """Answered before it was durable, as its queue wants it: a crash may undo it."""

    @property
    def index(self) -> int:
        """What the answer observed; 0 when there is none, or it came from no server."""
        return index_of(self.call)

    @property
    def new_job(self) -> c.NewJob:
        """Of an enqueue."""
        job: c.NewJob = self.call.command.jobs[self.position]  # type: ignore[attr-defined]
        return job

    @property
    def spec(self) -> JobSpec | None:
        """Of an enqueue; None when it names one that the call does not have."""
        specs: list[JobSpec] = self.call.command.specs  # type: ignore[attr-defined]
        number = self.new_job.spec
        return specs[number] if 0 <= number < len(specs) else None


def _ended_before(ledger: Ledger, job_id: bytes, call: Call) -> bool:
    """The job ended in an earlier commit than the one that was answered: it is said again."""
    story = ledger.stories.get(job_id)
    answered_ns = ledger.seen_ns(index_of(call))
    ends = [step for step in story.steps if step.to in FINAL] if story is not None else []
    return answered_ns is not None and any(step.event.at_ns < answered_ns for step in ends)


def outcome_of(call: Call) -> tuple[str, str]:
    """Of the call as a whole: outcome and code of the refusal."""
    if call.reply is not None:
        return OK, ""
    error = call.error
    if isinstance(error, ClientError | Unavailable):
        return REFUSED, error.code
    return UNKNOWN, ""


def connections_ns(history: History) -> dict[str, list[int]]:
    """By actor, when each of its connections began; those are missing of whom nobody knows."""
    found: dict[str, list[int]] = {}
    for event in history.events:
        if type(event) is Connected:
            found.setdefault(event.actor, []).append(event.at_ns)
    return found


def index_of(call: Call) -> int:
    if call.reply is not None:
        return call.reply.index
    return call.error.index if call.error is not None else 0


class Asked:
    """All calls of a history, by what they are about."""

    def __init__(self, history: History, ledger: Ledger) -> None:
        self.of_job: dict[bytes, list[Item]] = {}
        """Items in order of their calls."""
        self.of_lease: dict[tuple[bytes, int], list[Item]] = {}
        """Acks, nacks, releases and extends."""
        self._calls: dict[type[c.Command], list[Call]] = {}
        self.granted: dict[tuple[bytes, int], Call] = {}
        """Leases that the answer to a `Claim` named."""
        self.nameless: list[Call] = []
        """Enqueues without an answer, of jobs that the server was to name."""
        for call in history.calls:
            self._calls.setdefault(type(call.command), []).append(call)
            note = _NOTES.get(type(call.command))
            if note is not None:
                note(self, call, call.command)
        self.early = self._early(history, ledger)
        """Numbers of the calls that were answered early, and rightly so."""
        self._undo(ledger, connections_ns(history))

    def _early(self, history: History, ledger: Ledger) -> frozenset[int]:
        """Of a log that is not whole nobody knows the settings: its server is believed."""
        said = [call for call in history.calls if says_early(call)]
        if ledger.whole and said:
            queues = AsyncQueues(ledger, self.calls(c.ConfigureQueue))
            said = [call for call in said if self._may_be_early(call, queues, ledger)]
        return frozenset(call.number for call in said)

    def _may_be_early(self, call: Call, queues: AsyncQueues, ledger: Ledger) -> bool:
        command = call.command
        if isinstance(command, c.Enqueue):
            return queues.all_may_be({spec.queue for spec in command.specs}, call)
        if not isinstance(command, c.Ack):
            return False
        touched, live = set(), set()
        for job_id, token, _ in command.results:
            queue = self.queue_of(job_id, ledger)
            first = self._first_ack(job_id, token)
            touched.add(queue)
            ended = _ended_before(ledger, job_id, call)
            if first is not None and first.call is call and not ended:
                live.add(queue)
        return queues.all_may_be(live, call) and queues.any_may_be(touched, call)

    def queue_of(self, job_id: bytes, ledger: Ledger) -> str:
        """By the log, or else by the first who enqueued it; `` when nobody knows."""
        story = ledger.stories.get(job_id)
        if story is not None:
            return story.spec.queue
        specs = (item.spec for item in self.enqueues(job_id))
        return next((spec.queue for spec in specs if spec is not None), "")

    def _first_ack(self, job_id: bytes, token: int) -> Item | None:
        """The one that found the lease alive, when it was told so; it may be any when not."""
        items = self.of_lease[job_id, token]
        took = [item for item in items if item.verb == "ack" and item.outcome != REFUSED]
        return took[0] if took and took[0].outcome == OK else None

    def _undo(self, ledger: Ledger, connected_ns: dict[str, list[int]]) -> None:
        """What was answered early, before a node began anew, may not have happened after all."""
        for items in self.of_job.values():
            for item in items:
                item.is_early = item.call.number in self.early
                begun_ns = connected_ns.get(item.call.actor, [])
                if item.is_early and may_be_undone(ledger, item.call, begun_ns):
                    item.outcome, item.code = UNKNOWN, ""

    def calls(self, kind: type[c.Command]) -> list[Call]:
        """All of this type, in order."""
        return self._calls.get(kind, [])

    def enqueues(self, job_id: bytes) -> list[Item]:
        return [item for item in self.of_job.get(job_id, ()) if item.verb == "enqueue"]

    def items(self, job_id: bytes, verb: str) -> list[Item]:
        return [item for item in self.of_job.get(job_id, ()) if item.verb == verb]

    # --- one method a command

    def _enqueue(self, call: Call, command: c.Enqueue) -> None:
        reply = call.reply if isinstance(call.reply, Enqueued) else None
        made = reply.made_ids if reply is not None else None
        existing = {one.position: one for one in reply.existing or ()} if reply else {}
        problems = _by_position(reply.problems if reply is not None else None)
        for position, new in enumerate(command.jobs):
            job_id = made[position] if made else new.job_id
            if not job_id:
                if not self.nameless or self.nameless[-1] is not call:
                    self.nameless.append(call)
                continue
            item = Item(call, "enqueue", job_id, 0, position)
            if position in existing:
                item.outcome, item.existing = EXISTING, existing[position]
            _take_problem(item, problems)
            self._note(item)

    def _claim(self, call: Call, command: c.Claim) -> None:
        if isinstance(call.reply, Claimed):
            for group in call.reply.groups:
                for job in group.jobs:
                    self.granted[job.job_id, group.token] = call
                    self._note(Item(call, "claim", job.job_id, group.token))

    def _ack(self, call: Call, command: c.Ack) -> None:
        self._settle(call, "ack", ((job_id, token) for job_id, token, _ in command.results))

    def _nack(self, call: Call, command: c.Nack) -> None:
        self._settle(call, "nack", ((one.job_id, one.token) for one in command.failures))

    def _release(self, call: Call, command: c.Release) -> None:
        self._settle(call, "release", ((one.job_id, one.token) for one in command.jobs))

    def _extend(self, call: Call, command: c.Extend) -> None:
        self._settle(call, "extend", command.leases)

    def _settle(self, call: Call, verb: str, leases: Iterable[tuple[bytes, int]]) -> None:
        problems = _by_position(call.reply.problems if isinstance(call.reply, Settled) else None)
        for position, (job_id, token) in enumerate(leases):
            item = Item(call, verb, job_id, token, position)
            _take_problem(item, problems)
            self._note(item)
            self.of_lease.setdefault((job_id, token), []).append(item)

    def _one(self, call: Call, command: Any) -> None:
        verb = _VERBS[type(command)]
        self._note(Item(call, verb, command.job_id))

    def _note(self, item: Item) -> None:
        self.of_job.setdefault(item.job_id, []).append(item)


def _by_position(problems: list[Problem] | None) -> dict[int, Problem]:
    return {problem.position: problem for problem in problems or ()}


def _take_problem(item: Item, problems: dict[int, Problem]) -> None:
    problem = problems.get(item.position)
    if problem is not None:
        item.outcome, item.code = REFUSED, problem.code


_VERBS: dict[type[c.Command], str] = {
    c.Cancel: "cancel",
    c.Reschedule: "reschedule",
    c.ChangePriority: "priority",
    c.Revive: "revive",
    c.Delete: "delete",
    c.GetJob: "get",
    c.WaitJob: "wait",
}

_NOTES: dict[type[c.Command], Callable[[Asked, Call, Any], None]] = {
    c.Enqueue: Asked._enqueue,
    c.Claim: Asked._claim,
    c.Ack: Asked._ack,
    c.Nack: Asked._nack,
    c.Release: Asked._release,
    c.Extend: Asked._extend,
    **dict.fromkeys(_VERBS, Asked._one),
}
