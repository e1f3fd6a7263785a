"""Answers and records agree: what was answered happened, and what happened was asked for."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable

from headrace.model import commands as c
from headrace.model import records
from headrace.model.errors import Unavailable
from headrace.model.queue import QueueSettings
from headrace.model.replies import Changed, Purged
from headrace.sim.checkers.asked import OK, REFUSED, Item, index_of
from headrace.sim.checkers.base import Breaches, Checker, Life, is_refused
from headrace.sim.checkers.content import is_done_so
from headrace.sim.checkers.excuses import may_have_left_twice
from headrace.sim.checkers.ledger import (
    ABSENT,
    CANCELLED,
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
)
from headrace.sim.history import NEVER


class AnswersAreTrue(Checker):
    """Every answer names the index that it observed: the log must show there what it says."""

    invariants = ("I1", "I13")
    clauses = (1, 8)
    promise = "What was answered is in the log, at the index that the answer names."

    def breaches(self, life: Life) -> Breaches:
        for job_id, items in life.asked.of_job.items():
            story = life.ledger.stories.get(job_id)
            for item in items:
                holds = _HOLDS.get(item.verb)
                if holds is None or item.outcome != OK or not item.index:
                    continue
                if story is None or not holds(item, story):
                    message = f"{item.verb} was answered, and is not in the log"
                    shown = None if story is None else story.at(item.index)
                    event = None if shown is None else shown.event
                    yield self.violation(message, item.call, event, job_id=job_id)
        yield from self._claims(life)
        yield from self._purges(life)
        yield from self._queues(life)

    def _claims(self, life: Life) -> Breaches:
        for (job_id, token), call in life.asked.granted.items():
            claim = life.ledger.claims.get(token)
            record = None if claim is None else claim.record
            if not isinstance(record, records.JobsClaimed) or job_id not in record.job_ids:
                message = f"lease {token} was granted, and is not in the log"
                yield self.violation(message, call, claim, job_id=job_id)

    def _purges(self, life: Life) -> Breaches:
        by_index = {event.index: event for event in life.ledger.records}
        for call in life.asked.calls(c.Purge):
            if not isinstance(call.reply, Purged) or not call.reply.count:
                continue
            event = by_index.get(call.reply.index)
            found = 0
            if event is not None and isinstance(event.record, records.JobsDeleted):
                found = len(event.record.job_ids)
            if found != call.reply.count:
                message = f"a purge of {call.reply.count} jobs was answered; the log has {found}"
                yield self.violation(message, call, event)

    def _queues(self, life: Life) -> Breaches:
        changes = _settings_by_queue(life)
        for kind, holds in _QUEUE_HOLDS.items():
            for call in life.asked.calls(kind):
                index = index_of(call)
                if call.reply is None or not index:
                    continue
                settings = _settings_at(changes[call.command.queue], index)  # type: ignore[attr-defined]
                if not holds(call.command, settings):
                    message = f"{kind.__name__} was answered, and is not in the log"
                    yield self.violation(message, call)


class NothingUnasked(Checker):
    """A refused command leaves no record; no record is there without a command that wants it."""

    invariants = ("I1",)
    clauses = (3,)
    promise = "A refused command changes nothing; what clients decide, one has asked, just so."

    def breaches(self, life: Life) -> Breaches:
        unseen = life.final.unseen
        for step in life.ledger.steps:
            command = _COMMANDS.get(step.verb)
            if command is None or command.__name__ in unseen or not _needs_cause(step):
                continue
            items = _causes(life, step)
            possible = [item for item in items if _may_have(life, item, step)]
            if any(is_done_so(item, step) for item in possible):
                continue
            if step.verb == "delete" and _purged(life, step):
                continue
            word = "was refused, and happened" if items else "happened, and nobody asked"
            if possible:
                word = "happened, and nobody asked for it as it is in the log"
            calls = [item.call for item in items]
            yield self.violation(f"{step.verb} {word}", *calls, step.event, job_id=step.job.job_id)
        yield from self._queues(life)

    def _queues(self, life: Life) -> Breaches:
        kinds = (c.ConfigureQueue, c.PauseQueue, c.ResumeQueue)
        asked = {
            call.command.queue  # type: ignore[attr-defined]
            for kind in kinds
            for call in life.asked.calls(kind)
            if not is_refused(call)
        }
        for event in life.ledger.records:
            record = event.record
            if type(record) is records.QueueConfigured and record.queue not in asked:
                yield self.violation(f"queue {record.queue} changed, and nobody asked", event)


# --- answers


def _cancelled(item: Item, story: JobStory) -> bool:
    reply, step = item.call.reply, story.at(item.index)
    if step is None or not isinstance(reply, Changed):
        return False
    if reply.state == LEASED:
        asked = any(
            one.verb == "cancel_requested" and one.named == step.token and one.index <= item.index
            for one in story.steps
        )
        return step.to == LEASED and asked
    # Of what was deleted or pruned the end is remembered.
    return reply.state == CANCELLED == _known_end(story, item.index)


def _known_end(story: JobStory, index: int) -> int:
    """In which final state the job is, or was when it went; ABSENT: in none."""
    for step in reversed(story.steps):
        if step.index <= index:
            if step.to == DELETED and step.was in WAITING:
                return CANCELLED
            if step.to not in (DELETED, PRUNED):
                return step.to if step.to in FINAL else ABSENT
    return ABSENT


def _rescheduled(item: Item, story: JobStory) -> bool:
    """A job that is ready and shall be now leaves no record."""
    reply, command = item.call.reply, item.call.command
    assert isinstance(command, c.Reschedule)
    state = story.state_at(item.index)
    stays = state == READY and not command.delay_ms
    if not isinstance(reply, Changed) or state != reply.state or state not in (SCHEDULED, READY):
        return False
    return stays or any(
        step.verb == "reschedule"
        and step.index <= item.index
        and step.event.at_ns >= item.call.called_ns
        and is_done_so(item, step)
        for step in story.steps
    )


def _reprioritized(item: Item, story: JobStory) -> bool:
    step = story.at(item.index)
    command = item.call.command
    assert isinstance(command, c.ChangePriority)
    return step is not None and step.to in (SCHEDULED, READY) and step.priority == command.priority


def _exactly(verb: str) -> Callable[[Item, JobStory], bool]:
    """A call that always leaves a record: the last one that its answer observed."""

    def holds(item: Item, story: JobStory) -> bool:
        step = story.at(item.index)
        return step is not None and step.index == item.index and step.verb == verb

    return holds


def _ended(*verbs: str) -> Callable[[Item, JobStory], bool]:
    """Just this lease ended so, no later than the answer observed."""

    def holds(item: Item, story: JobStory) -> bool:
        return any(
            step.verb in verbs and step.named == item.token and step.index <= item.index
            for step in story.steps
        )

    return holds


def _nacked(item: Item, story: JobStory) -> bool:
    """Of a job that is not kept any more only state and lease are known: repeats get a yes."""
    step = story.at(item.index)
    if step is not None and step.to in (DELETED, PRUNED) and step.token == item.token:
        # Its id may have lived again since: what counts is how this life of it ended.
        earlier = [one for one in story.steps if one.index < step.index]
        return bool(earlier) and earlier[-1].to != SUCCEEDED
    return _ended("nack")(item, story)


def _extended(item: Item, story: JobStory) -> bool:
    step = story.at(item.index)
    return step is not None and step.to == LEASED and step.token == item.token


_HOLDS: dict[str, Callable[[Item, JobStory], bool]] = {
    "cancel": _cancelled,
    "reschedule": _rescheduled,
    "priority": _reprioritized,
    "revive": _exactly("revive"),
    "delete": _exactly("delete"),
    "ack": _ended("ack"),
    "nack": _nacked,
    "release": _ended("release", "cancel"),
    "extend": _extended,
}


Settings = QueueSettings | None


def _settings_by_queue(life: Life) -> defaultdict[str, list[tuple[int, QueueSettings]]]:
    found: defaultdict[str, list[tuple[int, QueueSettings]]] = defaultdict(list)
    for event in life.ledger.records:
        if type(event.record) is records.QueueConfigured:
            found[event.record.queue].append((event.index, event.record.settings))
    return found


def _settings_at(changes: list[tuple[int, QueueSettings]], index: int) -> Settings:
    place = bisect_right(changes, index, key=lambda change: change[0])
    return changes[place - 1][1] if place else None


_QUEUE_HOLDS: dict[type[c.Command], Callable[[c.Command, Settings], bool]] = {
    c.ConfigureQueue: lambda command, now: now == command.settings,  # type: ignore[attr-defined]
    c.PauseQueue: lambda command, now: now is not None and now.paused,
    c.ResumeQueue: lambda command, now: now is None or not now.paused,
}


# --- causes

_COMMANDS: dict[str, type[c.Command]] = {
    "ack": c.Ack,
    "nack": c.Nack,
    "release": c.Release,
    "cancel": c.Cancel,
    "cancel_requested": c.Cancel,
    "reschedule": c.Reschedule,
    "priority": c.ChangePriority,
    "revive": c.Revive,
    "delete": c.Delete,
}
_REPEATED = frozenset({"ack", "nack", "release", "cancel", "cancel_requested", "priority"})
"""Clients repeat these over a new connection: a refusal may have met the call's own effect."""
BY_START_BY = "start_by"


def _needs_cause(step: Step) -> bool:
    if step.verb == "release":
        # What a session holds and does not know goes back, at once, with its resume or close.
        return not step.session_id or step.started or step.run_at_ms > 0
    if step.verb == "cancel":
        return step.named == 0 and step.reason != BY_START_BY
    return True


def _causes(life: Life, step: Step) -> list[Item]:
    if step.verb in ("ack", "nack", "release"):
        items = life.asked.of_lease.get((step.job.job_id, step.named), [])
        return [item for item in items if item.verb == step.verb]
    verb = "cancel" if step.verb == "cancel_requested" else step.verb
    return life.asked.items(step.job.job_id, verb)


def _may_have(life: Life, item: Item, step: Step) -> bool:
    at_ns, call = step.event.at_ns, item.call
    if at_ns != NEVER and at_ns < call.called_ns:
        return False
    if item.outcome == REFUSED:
        if item.verb not in _REPEATED or isinstance(call.error, Unavailable):
            return False
        return item.index >= step.index and may_have_left_twice(life, call)
    answered = item.outcome == OK and not item.is_early and call.returned_ns != NEVER
    return not (answered and at_ns > call.returned_ns)


def _purged(life: Life, step: Step) -> bool:
    return any(
        call.command.queue == step.spec.queue  # type: ignore[attr-defined]
        and step.was in call.command.states  # type: ignore[attr-defined]
        and not is_refused(call)
        for call in life.asked.calls(c.Purge)
    )
