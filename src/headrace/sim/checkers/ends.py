"""How jobs move and how they end: each step from where it may begin, one end a job."""

from __future__ import annotations

from itertools import pairwise

from headrace.model.limits import REMEMBER_MS
from headrace.sim.checkers.asked import OK, REFUSED, Item
from headrace.sim.checkers.base import Breaches, Checker, Life
from headrace.sim.checkers.excuses import lives_twice
from headrace.sim.checkers.ledger import (
    ABSENT,
    DELETED,
    FINAL,
    LEASED,
    PRUNED,
    READY,
    SCHEDULED,
    SUCCEEDED,
    WAITING,
    JobStory,
    Step,
    word_of,
)
from headrace.sim.history import HandlerBegan, Recorded

_HELD = frozenset({LEASED})
_FROM: dict[str, frozenset[int]] = {
    "enqueue": frozenset({ABSENT, DELETED, PRUNED}),
    "promote": frozenset({SCHEDULED}),
    "claim": frozenset({READY}),
    "start": _HELD,
    "ack": _HELD,
    "nack": _HELD,
    "release": _HELD,
    "expire": _HELD,
    "cancel": _HELD,
    "cancel_requested": _HELD,
    "reschedule": WAITING,
    "priority": WAITING,
    "revive": FINAL,
    "delete": WAITING | FINAL,
    "prune": FINAL,
}
"""Verb → states in which it may meet a job. Written down a second time on purpose: the
engine's own table cannot judge the engine."""
_BY_HOLDER = frozenset({"start", "ack", "nack", "release", "expire", "cancel_requested"})


class OneEnd(Checker):
    """A final job stays so unless somebody revives or deletes it."""

    invariants = ("I3",)
    clauses = (2, 3)
    promise = "A job reaches exactly one terminal state, and completes at most once."

    def breaches(self, life: Life) -> Breaches:
        for step in life.ledger.steps:
            verb = step.verb
            by_hand = verb == "cancel" and not step.named
            allowed = WAITING if by_hand else _FROM[verb]
            if step.was not in allowed:
                message = f"{verb} met it {word_of(step.was)}"
                yield self.violation(message, _before(step), step.event, job_id=step.job.job_id)
            elif step.named and verb in _BY_HOLDER and step.named != step.was_token:
                message = f"{verb} under lease {step.named}; its lease is {step.was_token}"
                yield self.violation(message, step.event, job_id=step.job.job_id)
            elif verb == "cancel" and step.named and not step.cancel_requested:
                message = "cancelled under its holder, and nobody had asked"
                yield self.violation(message, step.event, job_id=step.job.job_id)


def _before(step: Step) -> Recorded | None:
    steps = step.job.steps
    place = steps.index(step)
    return steps[place - 1].event if place else None


class OneWinner(Checker):
    """Seen by clients alone: of all leases of a job, one is told that it has won."""

    invariants = ("I3",)
    clauses = (3,)
    promise = "One ack wins; after it the job neither runs again nor is acked by another."
    needs_log = False

    def breaches(self, life: Life) -> Breaches:
        won: dict[bytes, Item] = {}
        for lease, items in life.asked.of_lease.items():
            job_id = lease[0]
            for item in items:
                if item.verb != "ack" or item.outcome != OK or lives_twice(life, job_id):
                    continue
                first = won.setdefault(job_id, item)
                if first.token != item.token:
                    message = f"leases {first.token} and {item.token} were both told that they won"
                    yield self.violation(message, first.call, item.call, job_id=job_id)
        for event in life.history.events:
            if type(event) is HandlerBegan and event.job_id in won:
                item = won[event.job_id]
                # The holder of an older lease may have stood still: it cannot know yet.
                is_later = event.at_ns > item.call.returned_ns and event.token > item.token
                if is_later:
                    message = "started again after its success was acknowledged"
                    yield self.violation(message, item.call, event, job_id=event.job_id)


class FirstAnswerAgain(Checker):
    """A lease that won is told so again; a live lease is taken at its word."""

    invariants = ("I3", "I4")
    clauses = (3,)
    promise = "A repeated ack gets the first answer; a lease is refused only when it has ended."

    def breaches(self, life: Life) -> Breaches:
        for (job_id, token), items in life.asked.of_lease.items():
            story = life.ledger.stories.get(job_id)
            for item in items:
                if item.outcome != REFUSED or item.code not in _GONE or not item.index:
                    continue
                step = None if story is None else story.at(item.index)
                if story is None or step is None:
                    continue
                if step.to == LEASED and step.token == token:
                    message = f"{item.verb} of live lease {token} was refused as {item.code}"
                    yield self.violation(message, item.call, step.event, job_id=job_id)
                elif item.verb == "ack" and _won(life, story, step, item):
                    message = f"the ack of lease {token}, which won, was refused when repeated"
                    yield self.violation(message, item.call, step.event, job_id=job_id)


_GONE = frozenset({"stale_lease", "unknown_job"})


def _won(life: Life, story: JobStory, step: Step, item: Item) -> bool:
    """At that index the job had succeeded under this very lease, and that was remembered."""
    if step.to in WAITING or step.to == LEASED:
        return False
    end = next(
        (
            one
            for one in reversed(story.steps)
            if one.index <= item.index and one.to in FINAL and one.was not in FINAL
        ),
        None,
    )
    if end is None or end.to != SUCCEEDED or end.token != item.token:
        return False
    if step.verb == "delete" and step.was in WAITING:
        return False
    return life.ledger.now_at(item.index) - end.now_ms < REMEMBER_MS


class ReportsAreConsistent(Checker):
    """Seen by readers alone, in the order of the indexes that they observed."""

    invariants = ("I3",)
    clauses = (2,)
    promise = "A reader who saw a job end never sees it otherwise, unless it was revived."
    needs_log = False

    def breaches(self, life: Life) -> Breaches:
        for job_id, items in life.asked.of_job.items():
            reads = [
                item
                for item in items
                if item.verb in ("get", "wait")
                and item.outcome == OK
                and item.call.reply.job is not None  # type: ignore[union-attr]
            ]
            if len(reads) < 2 or lives_twice(life, job_id):
                continue
            reads.sort(key=lambda item: item.index)
            for earlier, later in pairwise(reads):
                before, after = _state_told(earlier), _state_told(later)
                if before in FINAL and after != before:
                    message = f"told as {word_of(before)}, then as {word_of(after)}"
                    yield self.violation(message, earlier.call, later.call, job_id=job_id)


def _state_told(item: Item) -> int:
    state: int = item.call.reply.job.state  # type: ignore[union-attr]
    return state
