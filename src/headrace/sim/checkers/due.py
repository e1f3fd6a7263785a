"""Time: nothing before it is due, nothing after it should have started."""

from __future__ import annotations

from headrace.model.records import EpochStarted, TimePassed
from headrace.sim.checkers.answers import BY_START_BY
from headrace.sim.checkers.base import Breaches, Checker, Life


class NeverEarly(Checker):
    """By the time that the log itself keeps."""

    invariants = ("I7",)
    clauses = (4,)
    promise = "A job is neither ready nor claimed before it is due by log time."

    def breaches(self, life: Life) -> Breaches:
        for step in life.ledger.steps:
            if step.verb in ("promote", "claim") and step.run_at_ms > step.now_ms:
                early_ms = step.run_at_ms - step.now_ms
                message = f"{step.verb} {early_ms} ms before it is due"
                yield self.violation(message, step.event, job_id=step.job.job_id)


class NeverAfterStartBy(Checker):
    """`start_by` binds a job until it has started once."""

    invariants = ("I7",)
    clauses = (4,)
    promise = "A job whose start-by has passed is cancelled and never claimed."

    def breaches(self, life: Life) -> Breaches:
        for step in life.ledger.steps:
            late = 0 < step.start_by_ms <= step.now_ms
            if step.verb == "claim" and late:
                message = f"claimed {step.now_ms - step.start_by_ms} ms after its start-by"
                yield self.violation(message, step.event, job_id=step.job.job_id)
            if step.verb == "cancel" and step.reason == BY_START_BY and not late:
                message = "cancelled as too late, and is not"
                yield self.violation(message, step.event, job_id=step.job.job_id)


class LogTimeGrows(Checker):
    """Replay has no other clock than this one."""

    invariants = ("I7",)
    clauses = (4,)
    promise = "Log time never goes back, and no record is of a time after its commit."

    def breaches(self, life: Life) -> Breaches:
        now_ms = 0
        for event in life.ledger.records:
            record = event.record
            if type(record) is not TimePassed and type(record) is not EpochStarted:
                continue
            said_ms = record.now_ms
            if said_ms < now_ms:
                yield self.violation(f"log time fell from {now_ms} to {said_ms}", event)
            if event.now_ms and said_ms > event.now_ms:
                ahead_ms = said_ms - event.now_ms
                yield self.violation(f"a record is {ahead_ms} ms ahead of its commit", event)
            now_ms = max(now_ms, said_ms)
