"""What a commit owes beside its answers: pushes, news for watchers, the ends of waits.

Theory. What leaves the server over one connection leaves in order, and what a durable record
owes leaves before anything that was asked later. So a call that was made after the record was
durable, and answered over the same connection, is the proof that everything which that record
owes to this connection has arrived before. A new connection voids the proof: then a resume, a
repeated wait or a new watch asks again, and the same holds of that.

This needs no bound on delays, and so holds whatever breaks meanwhile.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator

from headrace.model import commands as c
from headrace.model.records import JobsClaimed, SessionClosed
from headrace.model.replies import Settled
from headrace.sim.checkers.asked import index_of
from headrace.sim.checkers.base import Breaches, Checker, Life
from headrace.sim.checkers.excuses import undone
from headrace.sim.checkers.ledger import FINAL, LIVE, JobStory, Step
from headrace.sim.history import NEVER, Call, Connected, PushedLease, ToldEnd

Owed = tuple[str, bytes, int]
"""Actor, job, and the token of a push or 0."""


class _Connections:
    """Who was connected when, and which answers prove that a connection was alive."""

    def __init__(self, life: Life) -> None:
        self._begun: defaultdict[str, list[int]] = defaultdict(list)
        self._answered: defaultdict[str, list[Call]] = defaultdict(list)
        for event in life.history.events:
            if type(event) is Connected:
                self._begun[event.actor].append(event.at_ns)
        for call in life.history.calls:
            # A worker's heartbeats have a connection of their own.
            told = (
                call.returned_ns != NEVER
                and index_of(call)
                and type(call.command) is not c.Heartbeat
            )
            if told and call.actor in self._begun:
                self._answered[call.actor].append(call)

    def proof(self, actor: str, since_ns: int, owed_ns: int) -> Call | None:
        """The first call made after `owed_ns` that was answered, over the connection that was
        there at `since_ns`; None: nothing proves that what was owed could arrive."""
        calls = self._answered.get(actor, [])
        place = bisect_right(calls, owed_ns, key=_called_ns)
        if place == len(calls):
            return None
        begun = self._begun[actor]
        until_ns = calls[place].returned_ns
        same = bisect_right(begun, since_ns - 1) == bisect_right(begun, until_ns)
        return calls[place] if same else None


def _called_ns(call: Call) -> int:
    return call.called_ns


class EffectsArrive(Checker):
    """Judged for connections of which the history says when they began."""

    invariants = ("I11", "I13")
    clauses = (2,)
    promise = "What a durable commit owes to a connection arrives before any later answer there."

    def breaches(self, life: Life) -> Breaches:
        connections = _Connections(life)
        arrived: dict[Owed, int] = {}
        for event in life.history.events:
            if type(event) is PushedLease:
                arrived.setdefault((event.actor, event.job_id, event.token), event.at_ns)
            elif type(event) is ToldEnd:
                arrived[event.actor, event.job_id, 0] = event.at_ns  # the newest counts
        yield from self._pushes(life, connections, arrived)
        yield from self._news(life, connections, arrived)
        yield from self._waits(life, connections)

    def _pushes(self, life: Life, connections: _Connections, arrived: dict[Owed, int]) -> Breaches:
        speakers = _speakers(life)
        for claim in life.ledger.claims.values():
            record = claim.record
            assert isinstance(record, JobsClaimed)
            spoken = speakers.get(record.session_id, [])
            before = [call for call in spoken if NEVER < call.returned_ns <= claim.at_ns]
            if not before or claim.at_ns == NEVER:
                continue
            call = before[-1]
            proof = connections.proof(call.actor, call.called_ns, claim.at_ns)
            if proof is None or _changed(life, spoken, record.session_id, call, proof):
                continue
            for job_id in record.job_ids:
                at_ns = arrived.get((call.actor, job_id, claim.index))
                if at_ns is None or at_ns > proof.returned_ns:
                    message = f"lease {claim.index} was not pushed to {call.actor} in its turn"
                    yield self.violation(message, claim, proof, job_id=job_id)

    def _news(self, life: Life, connections: _Connections, arrived: dict[Owed, int]) -> Breaches:
        for call in life.asked.calls(c.Watch):
            if not isinstance(call.reply, Settled):
                continue
            for story in _watched(life, call, call.reply):
                at_ns = arrived.get((call.actor, story.job_id, 0))
                if at_ns is not None and at_ns >= call.called_ns:
                    continue
                shown = _told_by(connections, call, ends_for(story, call.reply.index))
                if shown is not None:
                    message = f"{call.actor} watched it, and was not told its end"
                    end, proof = shown
                    yield self.violation(message, call, end.event, proof, job_id=story.job_id)

    def _waits(self, life: Life, connections: _Connections) -> Breaches:
        for call in life.asked.calls(c.WaitJob):
            story = life.ledger.stories.get(call.command.job_id)  # type: ignore[attr-defined]
            end = None if story is None else _end_after(story, call.called_ns)
            if story is None or end is None:
                continue
            proof = connections.proof(call.actor, call.called_ns, end.event.at_ns)
            if proof is None or proof is call or undone(end, proof.returned_ns):
                continue
            if call.returned_ns == NEVER or call.returned_ns > proof.returned_ns:
                message = f"{call.actor} waited for it, and was not told its end"
                yield self.violation(message, call, end.event, proof, job_id=story.job_id)


def _speakers(life: Life) -> dict[bytes, list[Call]]:
    """By session, the calls that made a connection its own, in order."""
    found: defaultdict[bytes, list[Call]] = defaultdict(list)
    for kind in (c.OpenSession, c.ResumeSession):
        for call in life.asked.calls(kind):
            found[call.command.session_id].append(call)  # type: ignore[attr-defined]
    for calls in found.values():
        calls.sort(key=_called_ns)
    return found


def _changed(life: Life, spoken: list[Call], session_id: bytes, call: Call, proof: Call) -> bool:
    """Meanwhile the session was opened or resumed once more, or ended."""
    for other in spoken:
        if other is not call and call.called_ns <= other.called_ns <= proof.returned_ns:
            return True
    return any(
        type(event.record) is SessionClosed
        and event.record.session_id == session_id
        and call.called_ns <= event.at_ns <= proof.returned_ns
        for event in life.ledger.ends_of_sessions
    )


def _watched(life: Life, call: Call, reply: Settled) -> Iterator[JobStory]:
    """The jobs of a watch, but those that were unknown."""
    unknown = {problem.position for problem in reply.problems or ()}
    for position, job_id in enumerate(call.command.job_ids):  # type: ignore[attr-defined]
        story = life.ledger.stories.get(job_id)
        if story is not None and position not in unknown:
            yield story


def ends_for(story: JobStory, index: int) -> list[Step]:
    """The ends that a watch from this index on is told of, the first that stands: the newest so
    far, if the job has ended, and those that follow."""
    step = story.at(index)
    before = [step] if step is not None and step.to not in LIVE else []
    return before + [later for later in story.after(index) if is_end(later)]


def _told_by(connections: _Connections, call: Call, ends: list[Step]) -> tuple[Step, Call] | None:
    """The first end that stands, and the answer before which it had to be told."""
    for end in ends:
        owed_ns = max(end.event.at_ns, call.returned_ns)
        proof = connections.proof(call.actor, call.called_ns, owed_ns)
        if proof is None or end.event.at_ns == NEVER:
            return None
        if not undone(end, proof.returned_ns):
            return end, proof
    return None


def _end_after(story: JobStory, called_ns: int) -> Step | None:
    """The first end that the log shows after this moment."""
    for step in story.steps:
        if is_end(step) and step.event.at_ns > called_ns:
            return step
    return None


def is_end(step: Step) -> bool:
    return (step.to in FINAL and step.was not in FINAL) or step.verb == "delete"
