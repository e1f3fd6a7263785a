"""What was promised to happen later: cancels hold, and waits are answered."""

from __future__ import annotations

from headrace.model.commands import WaitJob, Watch
from headrace.model.replies import Changed, JobReply, Settled
from headrace.sim.checkers.asked import Item, index_of
from headrace.sim.checkers.base import Breaches, Checker, Life
from headrace.sim.checkers.excuses import lives_twice, may_have_been_silent, undone
from headrace.sim.checkers.ledger import (
    CANCELLED,
    DELETED,
    FINAL,
    Step,
    word_of,
)
from headrace.sim.checkers.liveness import DYING_MS, LATE_MS, calm_until_ns
from headrace.sim.checkers.owed import ends_for, is_end
from headrace.sim.history import NEVER, Call, HandlerBegan, ToldEnd

NS_PER_MS = 1_000_000
_AT_ONCE = ("cancel", CANCELLED)


class CancelHolds(Checker):
    """Of a waiting job at once; of a leased one from the end of its lease on."""

    invariants = ("I3",)
    clauses = (8,)
    promise = "A job whose cancel was acknowledged is not started later."
    needs_log = False

    def breaches(self, life: Life) -> Breaches:
        cancelled: dict[bytes, Item] = {}
        for job_id, items in life.asked.of_job.items():
            if lives_twice(life, job_id):
                continue
            for item in items:
                reply = item.call.reply
                if isinstance(reply, Changed) and (item.verb, reply.state) == _AT_ONCE:
                    cancelled.setdefault(job_id, item)
        for event in life.history.events:
            if type(event) is HandlerBegan and event.job_id in cancelled:
                call = cancelled[event.job_id].call
                late = event.at_ns > call.returned_ns != NEVER
                if late and not _holds_unknowing(life, event, index_of(call)):
                    message = "started after its cancel was acknowledged"
                    yield self.violation(message, call, event, job_id=event.job_id)
        if life.ledger.whole:
            yield from self._asked_to_stop(life)

    def _asked_to_stop(self, life: Life) -> Breaches:
        """Once the log has the request, the lease under way is the last one."""
        for story in life.ledger.stories.values():
            asked: Step | None = None
            for step in story.steps:
                if step.verb == "cancel_requested":
                    asked = step
                elif step.verb in ("revive", "enqueue"):
                    asked = None
                elif step.verb == "claim" and asked is not None:
                    message = f"leased again after it was asked to stop under lease {asked.named}"
                    yield self.violation(message, asked.event, step.event, job_id=story.job_id)


def _holds_unknowing(life: Life, event: HandlerBegan, index: int) -> bool:
    """Its lease is an older one, and has ended without its knowledge."""
    claim = life.ledger.claims.get(event.token)
    since_ns = claim.at_ns if claim is not None else 0
    return event.token <= index and may_have_been_silent(life, event.actor, since_ns, event.at_ns)


class WaitsAreAnswered(Checker):
    """A wait ends with the job, or when its time is over: never earlier, never with less."""

    invariants = ("I11",)
    clauses = (2,)
    promise = "Who waits for a job is told its end, also when the wait is asked again."
    needs_log = False

    def breaches(self, life: Life) -> Breaches:
        for call in life.asked.calls(WaitJob):
            command, reply = call.command, call.reply
            assert isinstance(command, WaitJob)
            if not isinstance(reply, JobReply) or reply.job is None or command.wait_ms <= 0:
                continue
            waited_ns = call.returned_ns - call.called_ns
            if reply.job.state not in FINAL and waited_ns < command.wait_ms * NS_PER_MS:
                message = f"a wait of {command.wait_ms} ms ended early, before the job"
                yield self.violation(message, call, job_id=command.job_id)
        if life.ledger.whole:
            yield from self._overslept(life)
            yield from self._told_late(life)

    def _told_late(self, life: Life) -> Breaches:
        """While nothing is broken, the end of the job is the end of the wait."""
        calm_ns = calm_until_ns(life)
        for call in life.asked.calls(WaitJob):
            story = life.ledger.stories.get(call.command.job_id)  # type: ignore[attr-defined]
            if story is None or call.returned_ns >= calm_ns:
                continue
            for step in story.steps:
                at_ns = step.event.at_ns
                late = call.called_ns < at_ns < call.returned_ns - LATE_MS * NS_PER_MS
                if late and is_end(step) and not undone(step, call.returned_ns):
                    message = "a wait went on after the end of its job"
                    yield self.violation(message, step.event, call, job_id=story.job_id)
                    break

    def _overslept(self, life: Life) -> Breaches:
        """The job ended while the wait was under way, and the answer shows an older state."""
        for call in life.asked.calls(WaitJob):
            command, reply = call.command, call.reply
            assert isinstance(command, WaitJob)
            story = life.ledger.stories.get(command.job_id)
            if not isinstance(reply, JobReply) or reply.job is None or story is None:
                continue
            if reply.job.state in FINAL or not reply.index:
                continue
            step = story.at(reply.index)
            if step is not None and step.to in FINAL:
                message = "a wait was answered with a job that had ended as one that had not"
                yield self.violation(message, call, step.event, job_id=command.job_id)


class WatchersAreTold(Checker):
    """What is told is true; while nothing is broken, it is told to all who watch, and soon."""

    invariants = ("I11", "I13")
    clauses = (2,)
    promise = "Who watches a job is told its end, and only what is durable."

    def breaches(self, life: Life) -> Breaches:
        told: dict[tuple[str, bytes], list[int]] = {}
        for event in life.history.events:
            if type(event) is ToldEnd:
                told.setdefault((event.actor, event.job_id), []).append(event.at_ns)
                yield from self._true(life, event)
        calm_ns = calm_until_ns(life)
        for call in life.asked.calls(Watch):
            if isinstance(call.reply, Settled) and call.returned_ns < calm_ns:
                until_ns = calm_ns
                if call.actor in life.final.gone_actors:
                    until_ns -= DYING_MS * NS_PER_MS
                yield from self._owed(life, call, call.reply, told, until_ns)

    def _true(self, life: Life, event: ToldEnd) -> Breaches:
        story = life.ledger.stories.get(event.job_id)
        steps = story.steps if story is not None else []
        # A deleted job that had waited is remembered as cancelled.
        ended = any(
            (step.to == event.state or (step.to == DELETED and event.state == CANCELLED))
            and step.event.at_ns <= event.at_ns
            for step in steps
        )
        if event.state not in FINAL or not ended:
            message = f"told as {word_of(event.state)}, which it had not become"
            yield self.violation(message, event, job_id=event.job_id)

    def _owed(
        self,
        life: Life,
        call: Call,
        reply: Settled,
        told: dict[tuple[str, bytes], list[int]],
        until_ns: int,
    ) -> Breaches:
        unknown = {problem.position for problem in reply.problems or ()}
        for position, job_id in enumerate(call.command.job_ids):  # type: ignore[attr-defined]
            story = life.ledger.stories.get(job_id)
            if position in unknown or story is None:
                continue
            times = told.get((call.actor, job_id), ())
            for end in ends_for(story, reply.index):
                due_ns = max(end.event.at_ns, call.returned_ns) + LATE_MS * NS_PER_MS
                if undone(end, due_ns):
                    continue
                if due_ns < until_ns and not any(call.called_ns <= at <= due_ns for at in times):
                    message = f"{call.actor} watched it, and was not told its end"
                    yield self.violation(message, call, end.event, job_id=job_id, at_ns=due_ns)
                break
