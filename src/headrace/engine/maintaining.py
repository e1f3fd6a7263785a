"""What becomes due by itself: promotion, start-by, retention, forgetting, key expiry.

Each call is one bounded step; the node repeats it, with the loop between, as long as
`next_due_ms` says that something is due.
"""

from __future__ import annotations

from headrace.engine.finished import live_entries
from headrace.engine.queues import Queue
from headrace.engine.state import EngineState
from headrace.engine.turn import Turn
from headrace.model import limits
from headrace.model.commands import Maintain
from headrace.model.records import (
    RING_DEAD,
    FinishedPruned,
    IdsForgotten,
    JobsCancelled,
    KeysExpired,
    TimePassed,
)
from headrace.model.replies import Done

_GRAIN_MS = 1_000
"""Forgetting, key expiry and retention by age may be this late: fewer, larger records."""


def maintain(turn: Turn, command: Maintain, seed: int) -> Done:
    """One step of everything that is due."""
    _promote(turn)
    cancel_late(turn)
    prune_full_rings(turn)
    _prune_old(turn)
    _forget(turn)
    _expire_keys(turn)
    return Done()


def next_due_ms(state: EngineState) -> int | None:
    """Log time of the next step; None when nothing is on its way."""
    times = [state.scheduled.next_at_ms(), state.start_by.next_at_ms(), state.next_age_ms]
    ended_at_ms = state.remembered.first_due_ms()
    if ended_at_ms is not None:
        times.append(ended_at_ms + limits.REMEMBER_MS)
    key_at_ms = state.keys.next_expiry_ms()
    if key_at_ms is not None:
        times.append(key_at_ms + _GRAIN_MS)
    if state.full_rings:
        times.append(state.now_ms)
    known = [at_ms for at_ms in times if at_ms is not None]
    return min(known) if known else None


def _promote(turn: Turn) -> None:
    due = turn.state.scheduled.due(turn.now_ms, limits.STEP_JOBS_MAX)
    if due:
        turn.emit_time(TimePassed(turn.now_ms, due))


def cancel_late(turn: Turn) -> None:
    """Jobs that should have started by now are cancelled, so that no claim takes them."""
    late = turn.state.start_by.take_late(turn.now_ms, limits.STEP_JOBS_MAX)
    if late:
        turn.emit(JobsCancelled([(job_id, 0) for job_id in late], "start_by"))


def prune_full_rings(turn: Turn) -> bool:
    """Rings over their count or bytes are shortened; True when a ring needs another step."""
    state = turn.state
    if not state.full_rings:
        return False
    for name, ring_no in list(state.full_rings):
        queue = state.queues[name]
        count = _excess(state, queue, ring_no)
        if count:
            turn.emit(FinishedPruned(name, ring_no, count))
        if count < limits.STEP_JOBS_MAX:
            state.full_rings.pop((name, ring_no), None)
    return bool(state.full_rings)


def _excess(state: EngineState, queue: Queue, ring_no: int) -> int:
    """How many of the oldest jobs of a ring are beyond count, bytes or the node's bytes."""
    ring = queue.rings[ring_no]
    settings = queue.settings
    is_dead = ring_no == RING_DEAD
    count_max = settings.dead_count if is_dead else settings.succeeded_count
    bytes_max = settings.dead_bytes if is_dead else settings.succeeded_bytes
    excess = min(max(0, ring.count - count_max), limits.STEP_JOBS_MAX)
    over_bytes = max(
        ring.size_bytes - bytes_max, state.finished_bytes - state.options.finished_bytes
    )
    if over_bytes > 0:
        excess = max(excess, _count_of_bytes(state, queue, ring_no, over_bytes))
    return excess


def _count_of_bytes(state: EngineState, queue: Queue, ring_no: int, size_bytes: int) -> int:
    count = 0
    for entry in live_entries(queue.rings[ring_no], state.ended):
        if size_bytes <= 0 or count == limits.STEP_JOBS_MAX:
            break
        size_bytes -= len(entry.packed)
        count += 1
    return count


def _prune_old(turn: Turn) -> None:
    """Final jobs older than their queue keeps them. Looked at only when one may be."""
    state = turn.state
    if state.next_age_ms is None or state.next_age_ms > turn.now_ms:
        return
    state.next_age_ms = None
    for queue in state.queues.values():
        for ring_no in range(len(queue.rings)):
            count = _count_old(turn, queue, ring_no)
            if count:
                turn.emit(FinishedPruned(queue.name, ring_no, count))
            state.note_age(queue, ring_no)


def _count_old(turn: Turn, queue: Queue, ring_no: int) -> int:
    settings = queue.settings
    age_ms = settings.dead_age_ms if ring_no == RING_DEAD else settings.succeeded_age_ms
    count = 0
    for entry in live_entries(queue.rings[ring_no], turn.state.ended):
        if entry.ended_at_ms + age_ms > turn.now_ms or count == limits.STEP_JOBS_MAX:
            break
        count += 1
    return count


def _forget(turn: Turn) -> None:
    before_ms = turn.now_ms - limits.REMEMBER_MS
    count = turn.state.remembered.ended_by(before_ms, limits.STEP_JOBS_MAX)
    if count:
        turn.emit(IdsForgotten(count))


def _expire_keys(turn: Turn) -> None:
    count = turn.state.keys.expired(turn.now_ms, limits.STEP_JOBS_MAX)
    if count:
        turn.emit(KeysExpired(count))
