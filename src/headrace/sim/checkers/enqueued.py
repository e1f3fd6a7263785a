"""Jobs come from calls, and stay: nothing acknowledged is lost, nothing is made up."""

from __future__ import annotations

from collections.abc import Iterator

from headrace.model.commands import Enqueue, NewJob, Purge
from headrace.model.job import JobSpec
from headrace.model.replies import Enqueued
from headrace.sim.checkers.asked import OK, Asked, Item
from headrace.sim.checkers.base import Breaches, Checker, Life
from headrace.sim.checkers.content import is_enqueued_so
from headrace.sim.checkers.excuses import may_create
from headrace.sim.checkers.ledger import KEPT, JobStory, Step, word_of
from headrace.sim.history import Call, HandlerBegan, PushedLease


class NothingLost(Checker):
    """An acknowledged job is there, until the log itself says why it is not."""

    invariants = ("I1",)
    clauses = (1, 2)
    promise = "An acknowledged job is never lost; a refused one is never there."
    needs_log = False

    def breaches(self, life: Life) -> Breaches:
        for job_id, items in life.asked.of_job.items():
            enqueues = [item for item in items if item.verb == "enqueue"]
            if not enqueues:
                continue
            if life.ledger.whole:
                yield from self._in_the_log(life, job_id, enqueues)
            elif life.final.jobs is not None:
                yield from self._in_the_views(life, job_id, enqueues)
        yield from self._still_there(life)

    def _in_the_log(self, life: Life, job_id: bytes, enqueues: list[Item]) -> Breaches:
        story = life.ledger.stories.get(job_id)
        made = [] if story is None else [step for step in story.steps if step.verb == "enqueue"]
        for item in enqueues:
            if item.outcome != OK or any(_before(item, step) for step in made):
                continue
            yield self.violation("acknowledged, and not in the log", item.call, job_id=job_id)
        if made and not any(may_create(life, item) for item in enqueues):
            calls = [item.call for item in enqueues]
            yield self.violation(
                "refused, and yet in the log", *calls, made[0].event, job_id=job_id
            )

    def _in_the_views(self, life: Life, job_id: bytes, enqueues: list[Item]) -> Breaches:
        """Without the log, whoever deletes or purges explains what is missing."""
        assert life.final.jobs is not None
        there = job_id in life.final.jobs
        taken = [item for item in enqueues if item.outcome == OK]
        removed = life.asked.items(job_id, "delete") or life.asked.calls(Purge)
        if taken and not there and not removed:
            yield self.violation("acknowledged, and unknown", taken[0].call, job_id=job_id)
        if there and not any(may_create(life, item) for item in enqueues):
            yield self.violation("refused, and yet there", enqueues[0].call, job_id=job_id)

    def _still_there(self, life: Life) -> Breaches:
        """What the log says is kept can be read at the end."""
        if life.final.jobs is None or not life.ledger.whole:
            return
        for job_id, story in life.ledger.stories.items():
            if story.state not in KEPT or job_id in life.final.jobs:
                continue
            if life.asked.enqueues(job_id):  # nobody can ask for an id that nobody knows
                yield self.violation(
                    f"{word_of(story.state)} by the log, and unknown at the end",
                    story.steps[-1].event,
                    job_id=job_id,
                )


class NothingInvented(Checker):
    """Every job was asked for, with just this content; nothing else is ever handed out."""

    invariants = ("I2",)
    clauses = (2,)
    promise = "Every job that is there, is pushed or runs, was enqueued by somebody."
    needs_log = False

    def breaches(self, life: Life) -> Breaches:
        if life.final.all_ids_asked:
            yield from self._asked_for(life)
        if life.ledger.whole:
            yield from self._handed_out(life)

    def _asked_for(self, life: Life) -> Breaches:
        asked = life.asked
        nameless = [one for call in asked.nameless for one in _nameless_jobs(call)]
        for step in life.ledger.steps:
            if step.verb == "enqueue" and not _was_asked(asked, step, nameless):
                message = "in the log, and nobody asked for it as it is there"
                yield self.violation(message, step.event, job_id=step.job.job_id)
        if not life.ledger.whole and life.final.jobs is not None:
            for job_id in life.final.jobs:
                if not asked.enqueues(job_id) and not nameless:
                    yield self.violation("there, and never asked for", job_id=job_id)

    def _handed_out(self, life: Life) -> Breaches:
        stories = life.ledger.stories
        for event in life.history.events:
            kind = type(event)
            if kind is PushedLease or kind is HandlerBegan:
                story = stories.get(event.job_id)  # type: ignore[union-attr]
                if story is None:
                    word = "pushed" if kind is PushedLease else "run"
                    message = f"{word}, and not in the log"
                    yield self.violation(message, event, job_id=event.job_id)  # type: ignore[union-attr]


class CallsAreWhole(Checker):
    """An atomic call is in the log as a whole or not at all; each item has one answer."""

    invariants = ("I1",)
    clauses = (1,)
    promise = "An atomic call happens as a whole; any other is answered item by item."

    def breaches(self, life: Life) -> Breaches:
        for call in life.asked.calls(Enqueue):
            command = call.command
            assert isinstance(command, Enqueue)
            if isinstance(call.reply, Enqueued):
                yield from self._answered(call, call.reply, command)
            if command.atomic:
                yield from self._all_or_none(life, call, command)

    def _answered(self, call: Call, reply: Enqueued, command: Enqueue) -> Breaches:
        named = [one.position for one in (*(reply.existing or ()), *(reply.problems or ()))]
        if len(set(named)) != len(named):
            yield self.violation("one item has two answers", call)
        if any(not 0 <= position < len(command.jobs) for position in named):
            yield self.violation("an answer for an item that was not asked", call)
        if reply.made_ids is not None and len(reply.made_ids) != len(command.jobs):
            yield self.violation("not every item has got an id", call)
        if command.atomic and reply.problems:
            yield self.violation("an atomic call was taken with problems", call)

    def _all_or_none(self, life: Life, call: Call, command: Enqueue) -> Breaches:
        """Looked at are jobs that only this call may have made, and that no key stands for."""
        steps: list[Step] = []
        missing = 0
        for job in command.jobs:
            mine = job.job_id and not (job.extra and job.extra.key)
            if not mine or len(life.asked.enqueues(job.job_id)) != 1:
                continue
            story = life.ledger.stories.get(job.job_id)
            made = None if story is None else _first_enqueue(story)
            if made is None:
                missing += 1
            else:
                steps.append(made)
        if steps and missing:
            message = f"{len(steps)} jobs of an atomic call are in the log, {missing} are not"
            yield self.violation(message, call, steps[0].event)
        if len({step.event.at_ns for step in steps}) > 1:
            yield self.violation(
                "an atomic call is in two commits", call, *(step.event for step in steps)
            )


def _first_enqueue(story: JobStory) -> Step | None:
    return next((step for step in story.steps if step.verb == "enqueue"), None)


def _before(item: Item, step: Step) -> bool:
    return not item.index or step.index <= item.index


def _was_asked(asked: Asked, made: Step, nameless: list[tuple[NewJob, JobSpec]]) -> bool:
    named = ((item.new_job, item.spec) for item in asked.enqueues(made.job.job_id))
    return any(is_enqueued_so(new, spec, made) for new, spec in (*named, *nameless))


def _nameless_jobs(call: Call) -> Iterator[tuple[NewJob, JobSpec]]:
    command = call.command
    assert isinstance(command, Enqueue)
    for job in command.jobs:
        if not job.job_id and 0 <= job.spec < len(command.specs):
            yield job, command.specs[job.spec]
