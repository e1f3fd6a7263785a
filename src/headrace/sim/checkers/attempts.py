"""Attempts: charged to what had started, and to nothing else; never more than the policy has."""

from __future__ import annotations

from headrace.model.commands import ResumeSession, Started
from headrace.model.limits import RESERVED_RETURNS_MAX
from headrace.model.records import FATE_CANCELLED, FATE_DEAD, FATE_RETRY, LeasesExpired
from headrace.sim.checkers.base import Breaches, Checker, Life
from headrace.sim.checkers.content import GAVE_UP
from headrace.sim.checkers.ledger import Step
from headrace.sim.history import HandlerBegan


class AttemptsFit(Checker):
    """What becomes of a failed attempt follows from the policy in force and the count so far."""

    invariants = ("I5",)
    clauses = (2,)
    promise = "A job is charged at most as many attempts as its policy allows."

    def breaches(self, life: Life) -> Breaches:
        for step in life.ledger.steps:
            if step.verb == "nack" or step.verb == "expire":
                wrong = _wrong_fate(step)
                if wrong:
                    yield self.violation(wrong, step.event, job_id=step.job.job_id)


def _wrong_fate(step: Step) -> str:
    """Why this failure or expiry should have ended otherwise; `` when it should not."""
    if (step.fate == FATE_CANCELLED) != step.cancel_requested:
        return (
            "its cancel was asked for, and ignored"
            if step.cancel_requested
            else ("cancelled at the end of a lease, and nobody had asked")
        )
    if step.fate == FATE_DEAD:
        return _wrong_death(step)
    if step.fate == FATE_RETRY:
        return _wrong_retry(step)
    return ""


def _wrong_death(step: Step) -> str:
    policy, reason = step.policy, step.reason
    if reason not in _DEATHS[step.verb]:
        return f"dead of {reason!r}, which is no reason"
    if reason == "attempts" and policy is not None and step.attempt < policy.attempt_max:
        return f"dead after {step.attempt} of {policy.attempt_max} attempts"
    if reason == "never_started" and _returns(step) < RESERVED_RETURNS_MAX:
        return f"dead as never started after {_returns(step)} leases"
    if reason == "crashed" and policy is not None and _crashes(step) < policy.crash_max:
        return f"dead after {_crashes(step)} of {policy.crash_max} crashes"
    return ""


_DEATHS = {"nack": ("attempts", GAVE_UP), "expire": ("attempts", "never_started", "crashed")}
"""Who gave up, `NothingUnasked` compares with what was asked."""


def _wrong_retry(step: Step) -> str:
    policy = step.policy
    if policy is None:  # not charged
        if _returns(step) >= RESERVED_RETURNS_MAX:
            return f"waits again after {_returns(step)} leases that never started"
        return ""
    if step.attempt >= policy.attempt_max:
        return f"tried again after {step.attempt} of {policy.attempt_max} attempts"
    if _is_crash(step) and _crashes(step) >= policy.crash_max:
        return f"tried again after {_crashes(step)} of {policy.crash_max} crashes"
    return ""


def _life_of(step: Step) -> list[Step]:
    """The job's steps up to this one, since it was enqueued or revived."""
    steps = step.job.steps
    place = steps.index(step)
    begin = place
    while begin and steps[begin].verb not in ("enqueue", "revive"):
        begin -= 1
    return steps[begin : place + 1]


def _returns(step: Step) -> int:
    return sum(one.verb == "expire" and not one.started for one in _life_of(step))


def _crashes(step: Step) -> int:
    return sum(map(_is_crash, _life_of(step)))


def _is_crash(step: Step) -> bool:
    record = step.event.record
    lost = isinstance(record, LeasesExpired) and record.reason == "worker_lost"
    return lost and step.verb == "expire" and step.started


class OnlyStartsAreCharged(Checker):
    """A reserved job costs nothing; the attempt that a worker is told of is the next one."""

    invariants = ("I5",)
    clauses = (2,)
    promise = "An attempt is charged only for a lease whose holder had started the job."

    def breaches(self, life: Life) -> Breaches:
        started = _started_leases(life)
        shown = life.asked.calls(Started)
        sees_starts = bool(shown) or "Started" not in life.final.unseen
        for step in life.ledger.steps:
            if not step.session_id:
                continue  # such a client may run what it has claimed from that moment on
            charged = step.verb == "start" or (step.verb == "expire" and step.started)
            lease = (step.job.job_id, step.named)
            if charged and sees_starts and lease not in started:
                message = f"lease {step.named} counts as started, and nobody had started it"
                yield self.violation(message, step.event, job_id=step.job.job_id)
        yield from self._attempts_told(life)

    def _attempts_told(self, life: Life) -> Breaches:
        for event in life.history.events:
            if type(event) is not HandlerBegan:
                continue
            story = life.ledger.stories.get(event.job_id)
            claim = None if story is None else story.at(event.token)
            if claim is not None and claim.verb == "claim" and event.attempt != claim.attempt + 1:
                message = f"runs as attempt {event.attempt} with {claim.attempt} charged"
                yield self.violation(message, claim.event, event, job_id=event.job_id)


def _started_leases(life: Life) -> set[tuple[bytes, int]]:
    """Leases of which anybody has said, or shown, that they run."""
    found = {
        (event.job_id, event.token) for event in life.history.events if type(event) is HandlerBegan
    }
    for call in life.asked.calls(Started):
        assert isinstance(call.command, Started)
        found.update(call.command.leases)
    for call in life.asked.calls(ResumeSession):
        assert isinstance(call.command, ResumeSession)
        found.update((held.job_id, held.token) for held in call.command.held if held.started)
    return found
