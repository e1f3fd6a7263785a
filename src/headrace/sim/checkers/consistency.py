"""One state: live, replayed, loaded from snapshots, and as every reader was told it."""

from __future__ import annotations

import msgspec

from headrace.model.replies import JobView
from headrace.sim.checkers.base import Breaches, Checker, Life
from headrace.sim.checkers.ledger import FINAL, KEPT, LEASED, JobStory, word_of


class OneState(Checker):
    """Replay of the whole log and of each snapshot's rest give the live state."""

    invariants = ("I12", "I11")
    clauses = (5,)
    promise = "Live state = replayed state = snapshot and what follows; its indexes are sound."

    def breaches(self, life: Life) -> Breaches:
        final, replayed = life.final, life.replayed
        if final.live_fault:
            yield self.violation(f"the live state is not sound: {final.live_fault}")
        if replayed.fault:
            yield self.violation(f"replay fails {replayed.fault}")
            return
        digest = replayed.engine.digest()
        if final.live_digest and final.live_digest != digest:
            yield self.violation("the live state is not what replay gives")
        for facts in final.snapshots:
            there = replayed.digests.get(facts.index)
            if there is None:
                yield self.violation(f"a snapshot of index {facts.index}, which is not in the log")
            elif facts.digest != there:
                yield self.violation(f"the snapshot of index {facts.index} differs from replay")
            if facts.digest_at_end and facts.digest_at_end != digest:
                message = f"the snapshot of index {facts.index} and what follows differ from replay"
                yield self.violation(message)


class ReadersSeeTheLog(Checker):
    """An answer names the index that it observed; replay up to there shows what it had to say."""

    invariants = ("I12", "I13")
    clauses = (5,)
    promise = "Every view and every page is that of one index of the log."

    def breaches(self, life: Life) -> Breaches:
        for seen in life.replayed.seen:
            if seen.told == seen.replayed:
                continue
            job_id = getattr(seen.call.command, "job_id", b"")
            message = f"a reader was told otherwise: {_difference(seen.told, seen.replayed)}"
            yield self.violation(message, seen.call, job_id=job_id)


def _difference(told: object, right: object) -> str:
    """Where two answers part, as deep as there are fields and rows."""
    if isinstance(told, msgspec.Struct) and type(told) is type(right):
        for field in msgspec.structs.fields(told):
            said, owed = getattr(told, field.name), getattr(right, field.name)
            if said != owed:
                return f"{field.name} {_difference(said, owed)}"
    if isinstance(told, list) and isinstance(right, list) and len(told) == len(right):
        return next(_difference(a, b) for a, b in zip(told, right, strict=True) if a != b)
    return f"is {told!r}, and should be {right!r}"


class ViewsFitTheLedger(Checker):
    """At the end the engine's account of each job is the one that the plain ledger keeps."""

    invariants = ("I3", "I12")
    clauses = (2, 5)
    promise = "What the server says of a job at the end is what its log says."

    def breaches(self, life: Life) -> Breaches:
        if life.final.jobs is None:
            return
        for job_id, view in life.final.jobs.items():
            story = life.ledger.stories.get(job_id)
            if story is None or story.state not in KEPT:
                state = "unknown" if story is None else word_of(story.state)
                yield self.violation(f"{state} by the log, and there at the end", job_id=job_id)
                continue
            for what, said, right in _compared(view, story):
                if said != right:
                    message = f"{what} is {said!r} at the end, and {right!r} by the log"
                    yield self.violation(message, story.steps[-1].event, job_id=job_id)


def _compared(view: JobView, story: JobStory) -> list[tuple[str, object, object]]:
    attempt = story.attempt + (story.state == LEASED)
    found: list[tuple[str, object, object]] = [
        ("its state", word_of(view.state), word_of(story.state)),
        ("its queue", view.queue, story.spec.queue),
        ("its kind", view.kind, story.spec.kind),
        ("its token", view.token, story.token),
        ("its attempt", view.attempt, attempt),
        ("its priority", view.priority, story.priority),
    ]
    if story.state not in FINAL:
        found.append(("its due time", view.run_at_ms, story.run_at_ms))
    if view.payload is not None:
        found.append(("its payload", view.payload, story.payload))
    return found
