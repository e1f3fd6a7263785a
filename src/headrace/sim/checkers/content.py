"""What was asked for and what is in the log, side by side: the same job, delay, result, reason.

Judges pairs only: whether the one may be of the other at all is for its callers to say. It
repeats rules of the engine on purpose, in the fewest words that are exact.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from headrace.model import limits
from headrace.model import records as r
from headrace.model.commands import NewJob
from headrace.model.job import BACKOFF_LIST, JobSpec, RetryPolicy
from headrace.sim.checkers.asked import Item
from headrace.sim.checkers.ledger import NO_EXTRA, Step


def is_enqueued_so(new: NewJob, spec: JobSpec | None, made: Step) -> bool:
    """This job of a call is the one that the log has; ids apart, which callers compare."""
    assert isinstance(made.event.record, r.JobsEnqueued)
    return (
        spec == made.event.record.spec
        and (new.payload, new.priority) == (made.payload, made.priority)
        and (new.extra or NO_EXTRA) == made.extra
        and _due_ms(made.now_ms, new.run_at_ms, new.delay_ms) == made.run_at_ms
    )


def is_done_so(item: Item, step: Step) -> bool:
    """What the log says of this step is what this item of a call asks for."""
    fits = _FITS.get(step.verb)
    return fits is None or fits(item, step)


def _due_ms(now_ms: int, run_at_ms: int, delay_ms: int) -> int:
    """0: at once."""
    if delay_ms:
        return now_ms + delay_ms
    return run_at_ms if run_at_ms > now_ms else 0


def _acked(item: Item, step: Step) -> bool:
    result: bytes | None = _command(item).results[item.position][2]
    return result == step.result


def _nacked(item: Item, step: Step) -> bool:
    """A failure that is final, is so; any other waits for its own delay or for its policy's."""
    failure, record = _command(item).failures[item.position], step.event.record
    assert isinstance(record, r.JobFailed)
    if (record.error.type, record.error.retryable) != (
        failure.error.type[: limits.NAME_BYTES_MAX],
        failure.error.retryable,
    ):
        return False
    if step.fate == r.FATE_CANCELLED:
        return True
    if failure.retryable == (step.reason == GAVE_UP):
        return False
    if step.fate == r.FATE_DEAD:
        return True
    if failure.delay_ms < 0:
        assert step.policy is not None
        waited_ms = step.run_at_ms - step.now_ms if step.run_at_ms else 0
        return 0 <= waited_ms <= _longest_ms(step.policy)
    return _due_ms(step.now_ms, 0, min(failure.delay_ms, limits.DELAY_MS_MAX)) == step.run_at_ms


GAVE_UP = "gave_up"


def _longest_ms(policy: RetryPolicy) -> int:
    return max(policy.delays_ms) if policy.backoff == BACKOFF_LIST else policy.cap_ms


def _released(item: Item, step: Step) -> bool:
    given = _command(item).jobs[item.position]
    due_ms = _due_ms(step.now_ms, 0, given.delay_ms)
    return (given.started, due_ms) == (step.started, step.run_at_ms)


def _cancelled(item: Item, step: Step) -> bool:
    reason: str = _command(item).reason[: limits.NAME_BYTES_MAX] or "cancelled"
    said: str = step.event.record.reason  # type: ignore[attr-defined]
    return reason == said


def _rescheduled(item: Item, step: Step) -> bool:
    command = _command(item)
    return _due_ms(step.now_ms, command.run_at_ms, command.delay_ms) == step.run_at_ms


def _reprioritized(item: Item, step: Step) -> bool:
    return bool(_command(item).priority == step.priority)


def _revived(item: Item, step: Step) -> bool:
    return _due_ms(step.now_ms, 0, _command(item).delay_ms) == step.run_at_ms


def _command(item: Item) -> Any:
    return item.call.command


_FITS: dict[str, Callable[[Item, Step], bool]] = {
    "ack": _acked,
    "nack": _nacked,
    "release": _released,
    "cancel": _cancelled,
    "cancel_requested": _cancelled,
    "reschedule": _rescheduled,
    "priority": _reprioritized,
    "revive": _revived,
}
