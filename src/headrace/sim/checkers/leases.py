"""Leases: at most one of a job at a time, each with a token that never comes again."""

from __future__ import annotations

from headrace.model.records import JobsClaimed
from headrace.sim.checkers.base import Breaches, Checker, Life
from headrace.sim.checkers.ledger import LEASED, JobStory, Step
from headrace.sim.history import NEVER, HandlerBegan, PushedLease, Recorded


class LeasesAreDisjoint(Checker):
    """In the order of the log, a lease begins after the one before it has ended."""

    invariants = ("I4",)
    clauses = (3,)
    promise = "No two current leases of one job; tokens only grow and never repeat."

    def breaches(self, life: Life) -> Breaches:
        for story in life.ledger.stories.values():
            last = 0
            for step in story.steps:
                if step.verb != "claim":
                    continue
                job_id = story.job_id
                if step.was == LEASED:
                    message = f"lease {step.named} was granted while lease {step.was_token} lived"
                    yield self.violation(
                        message, life.ledger.claims.get(step.was_token), step.event, job_id=job_id
                    )
                if step.named <= last:
                    message = f"lease {step.named} was granted after lease {last}"
                    yield self.violation(message, step.event, job_id=job_id)
                last = step.named
        for event in life.ledger.claims.values():
            record = event.record
            if isinstance(record, JobsClaimed) and len(set(record.job_ids)) < len(record.job_ids):
                yield self.violation("one claim names a job twice", event)


class HandedOutOnce(Checker):
    """What reaches a worker is a lease that the log had granted, once, to its session."""

    invariants = ("I4",)
    clauses = (3, 4)
    promise = "Workers get and start only what the log has leased to them, once a lease."

    def breaches(self, life: Life) -> Breaches:
        pushed: dict[tuple[bytes, int], PushedLease] = {}
        began: dict[tuple[bytes, int], HandlerBegan] = {}
        for event in life.history.events:
            kind = type(event)
            if kind is PushedLease:
                yield from self._look(life, event, "pushed", pushed)  # type: ignore[arg-type]
            elif kind is HandlerBegan:
                yield from self._look(life, event, "started", began)  # type: ignore[arg-type]

    def _look(
        self,
        life: Life,
        event: PushedLease | HandlerBegan,
        word: str,
        seen: dict[tuple[bytes, int], PushedLease | HandlerBegan],
    ) -> Breaches:
        job_id, token = event.job_id, event.token
        first = seen.setdefault((job_id, token), event)
        if first is not event:
            yield self.violation(f"{word} twice under lease {token}", first, event, job_id=job_id)
        claim = life.ledger.claims.get(token)
        record = None if claim is None else claim.record
        if claim is None or not isinstance(record, JobsClaimed) or job_id not in record.job_ids:
            message = f"{word} under lease {token}, which the log does not know"
            yield self.violation(message, event, job_id=job_id)
            return
        if claim.at_ns != NEVER and event.at_ns < claim.at_ns:
            message = f"{word} under lease {token} before that was durable"
            yield self.violation(message, event, claim, job_id=job_id)
        if type(event) is PushedLease:
            yield from self._push(life, event, claim)

    def _push(self, life: Life, event: PushedLease, claim: Recorded) -> Breaches:
        story = life.ledger.stories[event.job_id]
        end = _end_of(story, event.token)
        if not claim.record.session_id:  # type: ignore[attr-defined]
            message = f"lease {event.token} belongs to no session, and was pushed to one"
            yield self.violation(message, claim, event, job_id=event.job_id)
        elif end is not None and claim.at_ns != NEVER and end.event.at_ns == claim.at_ns:
            # Pushes leave when their commit is durable: this one was over by then.
            message = f"lease {event.token} had ended in its own commit, and was pushed"
            yield self.violation(message, claim, end.event, event, job_id=event.job_id)


def _end_of(story: JobStory, token: int) -> Step | None:
    """The step that ended this lease."""
    for step in story.after(token):
        if step.was == LEASED and step.to != LEASED:
            return step
    return None
