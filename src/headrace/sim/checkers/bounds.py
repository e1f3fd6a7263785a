"""Bounds: what the engine counts is what there is, and a recovery reads no more than it must."""

from __future__ import annotations

from collections import Counter

from headrace.sim.checkers.base import Breaches, Checker, Life
from headrace.sim.checkers.ledger import CANCELLED, DEAD, LEASED, LIVE, READY, SCHEDULED, SUCCEEDED
from headrace.sim.checkers.liveness import is_healed
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
        payloads = sum(
            len(story.payload) for story in life.ledger.stories.values() if story.state in LIVE
        )
        held = gauges.get("headrace_payload_bytes", payloads)
        if held < payloads:
            yield self.violation(f"{held:g} bytes are counted for payloads of {payloads}")
        if not is_healed(life):
            return  # what is beyond a bound goes in steps, between turns
        kept, kept_max = gauges.get("headrace_finished_bytes", 0), life.final.options.finished_bytes
        if kept > kept_max:
            yield self.violation(f"{kept:g} bytes of final jobs are kept; {kept_max} are allowed")
        yield from self._retention(life)

    def _retention(self, life: Life) -> Breaches:
        kept: Counter[tuple[str, bool]] = Counter()
        for story in life.ledger.stories.values():
            if story.state in (SUCCEEDED, CANCELLED, DEAD):
                kept[story.spec.queue, story.state == DEAD] += 1
        for (queue, is_dead), count in kept.items():
            settings = life.ledger.settings.get(queue, life.final.options.default_queue)
            bound = settings.dead_count if is_dead else settings.succeeded_count
            if count > bound:
                word = "dead" if is_dead else "succeeded"
                yield self.violation(f"{queue} keeps {count} {word} jobs; {bound} are allowed")


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
