"""Bounds: what the engine counts is what there is, and a recovery reads no more than it must."""

from __future__ import annotations

from collections import Counter

import msgspec

from headrace.model.records import JobFailed, JobLogged, ProgressReported
from headrace.sim.checkers.base import Breaches, Checker, Life
from headrace.sim.checkers.ledger import (
    CANCELLED,
    DEAD,
    FINAL,
    LEASED,
    LIVE,
    READY,
    SCHEDULED,
    SUCCEEDED,
    JobStory,
    Step,
)
from headrace.sim.checkers.liveness import LATE_MS, is_healed
from headrace.sim.history import Happened


class MemoryIsCounted(Checker):
    """Gauges against a count of everything in the ledger; each queue within its retention."""

    invariants = ("I14",)
    clauses = ()
    promise = "Counts of jobs, bytes and sessions are right, and within their bounds."

    def breaches(self, life: Life) -> Breaches:
        gauges = life.final.gauges
        if not gauges:
            return
        for name, right in _counted(life).items():
            if name in gauges and gauges[name] != right:
                yield self.violation(f"{name} is {gauges[name]:g}, and {right} by the log")
        yield from self._bytes(life, "headrace_payload_bytes", LIVE)
        yield from self._bytes(life, "headrace_finished_bytes", FINAL)
        if not is_healed(life):
            return  # what is beyond a bound goes in steps, between turns
        kept, kept_max = gauges.get("headrace_finished_bytes", 0), life.final.options.finished_bytes
        if kept > kept_max:
            yield self.violation(f"{kept:g} bytes of final jobs are kept; {kept_max} are allowed")
        yield from self._retention(life)

    def _bytes(self, life: Life, name: str, states: frozenset[int]) -> Breaches:
        """Beside its payload a job holds no more than the log has said of it."""
        stories = [story for story in life.ledger.stories.values() if story.state in states]
        least = sum(len(story.payload) for story in stories)
        most = least + sum(map(_said_bytes, stories)) + _told_bytes(life)
        held = life.final.gauges.get(name, least)
        if held < least:
            yield self.violation(f"{held:g} bytes are counted for payloads of {least}")
        if held > most:
            yield self.violation(f"{name} is {held:g}; all that the log has said is {most}")

    def _retention(self, life: Life) -> Breaches:
        kept: Counter[tuple[str, bool]] = Counter()
        for story in life.ledger.stories.values():
            if story.state in (SUCCEEDED, CANCELLED, DEAD):
                kept[story.spec.queue, story.state == DEAD] += 1
                yield from self._age(life, story)
        for (queue, is_dead), count in kept.items():
            settings = life.ledger.settings_of(queue)
            bound = settings.dead_count if is_dead else settings.succeeded_count
            if count > bound:
                word = "dead" if is_dead else "succeeded"
                yield self.violation(f"{queue} keeps {count} {word} jobs; {bound} are allowed")

    def _age(self, life: Life, story: JobStory) -> Breaches:
        settings = life.ledger.settings_of(story.spec.queue)
        is_dead = story.state == DEAD
        age_ms = settings.dead_age_ms if is_dead else settings.succeeded_age_ms
        over_ms = life.final.log_now_ms - story.ended_at_ms - age_ms
        if over_ms > AGE_LATE_MS:
            message = f"kept for {over_ms} ms longer than the {age_ms} ms that are allowed"
            yield self.violation(message, story.steps[-1].event, job_id=story.job_id)


AGE_LATE_MS = 1_000 + LATE_MS
"""Retention by age is looked at every second, when something else does not hold it up."""
_JOB_BYTES = 256
"""What a job holds beside its payload and its extra: its spec above all."""
_STEP_BYTES = 160
"""What it holds of one step: lines of its history, reasons, the words for a lost worker."""


def _said_bytes(story: JobStory) -> int:
    """Of everything but its payload, at most."""
    return (
        _JOB_BYTES
        + len(msgspec.msgpack.encode(story.extra))
        + sum(_STEP_BYTES + _part_bytes(step) for step in story.steps)
    )


def _part_bytes(step: Step) -> int:
    record = step.event.record
    if isinstance(record, JobFailed):
        return len(msgspec.msgpack.encode(record.error))
    return len(step.result or b"")


def _told_bytes(life: Life) -> int:
    """Progress and log lines, which are no steps."""
    said = (event.record for event in life.ledger.records)
    told = (record for record in said if isinstance(record, ProgressReported | JobLogged))
    return sum(len(msgspec.msgpack.encode(record)) for record in told)


def _counted(life: Life) -> dict[str, int]:
    states = Counter(story.state for story in life.ledger.stories.values())
    opened = life.ledger.sessions.keys() - life.ledger.ended_sessions
    return {
        "headrace_jobs": sum(states[state] for state in LIVE),
        "headrace_jobs_scheduled": states[SCHEDULED],
        "headrace_jobs_ready": states[READY],
        "headrace_jobs_leased": states[LEASED],
        "headrace_jobs_kept_succeeded": states[SUCCEEDED] + states[CANCELLED],
        "headrace_jobs_kept_dead": states[DEAD],
        "headrace_sessions": len(opened),
    }


class RecoveryIsBounded(Checker):
    """A start loads the newest sound snapshot and replays what lies behind it, once."""

    invariants = ("I14",)
    clauses = ()
    promise = "A recovery replays just the records behind the newest snapshot that is sound."
    needs_log = False

    def breaches(self, life: Life) -> Breaches:
        for recovery in life.final.recoveries:
            owed = recovery.last_index - recovery.snapshot_index
            if recovery.record_count != owed:
                message = f"{recovery.record_count} records were replayed; {owed} lie there"
                yield self.violation(message, at_ns=recovery.at_ns)
            newest = _newest_sound(life, recovery.at_ns)
            if recovery.snapshot_index < newest:
                message = f"began at index {recovery.snapshot_index}; a snapshot had {newest}"
                yield self.violation(message, at_ns=recovery.at_ns)


def _newest_sound(life: Life, at_ns: int) -> int:
    """Index of the newest snapshot published by then; 0 when a bit has rotted since.

    Hides a start that passes over a sound snapshot because another one is damaged.
    """
    newest = 0
    for event in life.history.events:
        if type(event) is not Happened or event.at_ns >= at_ns:
            continue
        if event.what == "snapshot_published":
            newest = event.fields["index"]
        elif event.what == "rot_a_bit":
            newest = 0
    return newest
