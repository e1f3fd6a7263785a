"""Who is served first: highest priority, then first in; and only what the holder asked for."""

from __future__ import annotations

from bisect import bisect_left, insort
from itertools import groupby
from operator import attrgetter

from headrace.model.commands import Claim
from headrace.model.records import JobsClaimed
from headrace.sim.checkers.base import Breaches, Checker, Life
from headrace.sim.checkers.ledger import READY, Step
from headrace.sim.history import Recorded

Place = tuple[int, bytes]
"""Number and id of a ready job."""
Lanes = dict[int, list[Place]]
"""By priority, in order of number."""


class FirstInFirstOut(Checker):
    """Checked at every claim, against all ready jobs of the kinds that its holder serves.

    Numbers are given by the ledger: a job gets a new one when it becomes ready, unless it was
    given back unstarted; so only retries, delays, releases and priorities reorder.
    """

    invariants = ("I6",)
    clauses = (5,)
    promise = "Within queue and priority, claims are served in order of number."

    def breaches(self, life: Life) -> Breaches:
        self._lanes: dict[tuple[str, str], Lanes] = {}
        self._places: dict[bytes, tuple[list[Place], Place]] = {}
        for event, steps in groupby(life.ledger.steps, key=attrgetter("event")):
            if type(event.record) is JobsClaimed:
                yield from self._claimed(life, event, list(steps))
            else:
                for step in steps:
                    self._leave(step)
                    if step.to == READY:
                        self._stand(step)

    def _stand(self, step: Step) -> None:
        job_id, spec = step.job.job_id, step.spec
        lanes = self._lanes.setdefault((spec.queue, spec.kind), {})
        lane = lanes.setdefault(step.priority, [])
        place = (step.number, job_id)
        insort(lane, place)
        self._places[job_id] = lane, place

    def _leave(self, step: Step) -> None:
        known = self._places.pop(step.job.job_id, None)
        if known is not None:
            lane, place = known
            del lane[bisect_left(lane, place)]

    def _claimed(self, life: Life, event: Recorded, steps: list[Step]) -> Breaches:
        for step in steps:
            self._leave(step)
        last: dict[str, tuple[int, int]] = {}
        kinds = kinds_of_claim(life, event, steps)
        for step in steps:
            queue, place = step.spec.queue, (-step.priority, step.number)
            if place < last.get(queue, place):
                message = "claimed behind one that comes after it"
                yield self.violation(message, event, job_id=step.job.job_id)
            last[queue] = max(place, last.get(queue, place))
        for queue, place in last.items():
            first = self._first(queue, kinds)
            if first is not None and first[:2] < place:
                message = f"passed over in queue {queue} by a claim of later ones"
                yield self.violation(message, event, job_id=first[2])

    def _first(self, queue: str, kinds: tuple[str, ...]) -> tuple[int, int, bytes] | None:
        """(-priority, number, id) of the job that comes first among those still ready."""
        heads = [
            (-priority, *lane[0])
            for kind in kinds
            for priority, lane in self._lanes.get((queue, kind), {}).items()
            if lane
        ]
        return min(heads, default=None)


class ClaimsFit(Checker):
    """A claim takes no more, and nothing else, than its holder serves and its queue gives."""

    invariants = ("I6",)
    clauses = (5,)
    promise = "Claims hold only kinds and queues that were asked for; paused queues rest."

    def breaches(self, life: Life) -> Breaches:
        for step in life.ledger.steps:
            if step.verb != "claim":
                continue
            spec, job_id = step.spec, step.job.job_id
            if step.paused:
                message = f"claimed while queue {spec.queue} was paused"
                yield self.violation(message, step.event, job_id=job_id)
            session = step.holder
            if step.session_id and session is None:
                message = f"claimed for session {step.session_id.hex()}, which never opened"
                yield self.violation(message, step.event, job_id=job_id)
            elif session is not None and not (
                spec.kind in session.kinds and spec.queue in session.queues
            ):
                message = f"claimed for {session.name}, which does not serve it"
                yield self.violation(message, step.event, job_id=job_id)
        yield from self._answered(life)

    def _answered(self, life: Life) -> Breaches:
        for call in life.asked.calls(Claim):
            command, groups = call.command, getattr(call.reply, "groups", [])
            assert isinstance(command, Claim)
            if sum(len(group.jobs) for group in groups) > command.jobs_max:
                yield self.violation(f"more than {command.jobs_max} jobs were claimed", call)
            for group in groups:
                if group.kind not in command.kinds or group.queue not in command.queues:
                    message = f"{group.kind} of {group.queue} was claimed, and not asked for"
                    yield self.violation(message, call, job_id=group.jobs[0].job_id)


def kinds_of_claim(life: Life, event: Recorded, steps: list[Step]) -> tuple[str, ...]:
    """The kinds that the holder would have taken: known of sessions and of answered claims."""
    session = steps[0].holder
    if session is not None:
        return session.kinds
    call = life.asked.granted.get((steps[0].job.job_id, event.index))
    if call is not None and isinstance(call.command, Claim):
        return call.command.kinds
    return tuple({step.spec.kind for step in steps})
