"""What was promised to happen later: cancels hold, and waits are answered."""

from __future__ import annotations

from headrace.model.commands import WaitJob
from headrace.model.replies import Changed, JobReply
from headrace.sim.checkers.asked import Item
from headrace.sim.checkers.base import Breaches, Checker, Life
from headrace.sim.checkers.ends import lives_twice
from headrace.sim.checkers.ledger import CANCELLED, FINAL, Step
from headrace.sim.history import NEVER, HandlerBegan

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
                if event.at_ns > call.returned_ns != NEVER:
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


class WaitsAreAnswered(Checker):
    """A wait ends with the job, or when its time is over: never earlier, never with less."""

    invariants = ("I11",)
    clauses = (2,)
    promise = "Who waits for a job is told its end, also when the wait is asked again."
    needs_log = False

    def breaches(self, life: Life) -> Breaches:
        for call in life.asked.of_type[WaitJob]:
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

    def _overslept(self, life: Life) -> Breaches:
        """The job ended while the wait was under way, and the answer shows an older state."""
        for call in life.asked.of_type[WaitJob]:
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
