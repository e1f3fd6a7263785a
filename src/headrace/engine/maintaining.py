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
    times = [state.scheduled.next_at_ms(), state.start_by.next_at_ms()]
    if state.next_age_ms is not None:
        times.append(state.next_age_ms + _GRAIN_MS)
    ended_at_ms = state.remembered.first_due_ms()
    if ended_at_ms is not None:
        times.append(max(ended_at_ms, state.epoch_started_ms) + limits.REMEMBER_MS)
    key_at_ms = state.keys.next_expiry_ms()
    if key_at_ms is not None:
        times.append(key_at_ms + _GRAIN_MS)
    if state.full_rings or _is_node_full(state):
        times.append(state.now_ms)
    known = [at_ms for at_ms in times if at_ms is not None]
    return min(known) if known else None


def _promote(turn: Turn) -> None:
    due = turn.state.scheduled.due(turn.now_ms, limits.STEP_JOBS_MAX)
    if due:
        turn.emit_time(TimePassed(turn.now_ms, due))


def cancel_late(turn: Turn) -> bool:
    """Up to a step of the jobs that should have started by now are cancelled; True: there
    may be more, and nothing is to be claimed before they are."""
    late = turn.state.start_by.take_late(turn.now_ms, limits.STEP_JOBS_MAX)
    if late:
        turn.emit(JobsCancelled([(job_id, 0) for job_id in late], "start_by"))
    return len(late) == limits.STEP_JOBS_MAX


def prune_full_rings(turn: Turn) -> bool:
    """Rings over their count or bytes are shortened; True when a ring needs another step.

    One step drops at most `STEP_JOBS_MAX` jobs, of all rings together.
    """
    state = turn.state
    left = limits.STEP_JOBS_MAX
    while state.full_rings and left:
        name, ring_no = next(iter(state.full_rings))
        queue = state.queues[name]
        count = _excess(state, queue, ring_no, left)
        _prune(turn, queue, ring_no, count)
        if count < left:
            del state.full_rings[name, ring_no]
        left -= count
    while _is_node_full(state) and left:
        left -= _prune_largest(turn, left)
    return bool(state.full_rings) or _is_node_full(state)


def _is_node_full(state: EngineState) -> bool:
    return state.finished_bytes > state.options.finished_bytes


def _prune(turn: Turn, queue: Queue, ring_no: int, count: int) -> None:
    if count:
        turn.emit(FinishedPruned(queue.name, ring_no, count))


def _prune_largest(turn: Turn, count_max: int) -> int:
    """The largest ring pays for the node: a queue with few results keeps them.

    It pays a sixteenth more than is owed, so that all rings are looked at rarely.
    """
    state = turn.state
    rings = ((queue, ring_no) for queue in state.queues.values() for ring_no in (0, 1))
    queue, ring_no = max(rings, key=lambda ring: ring[0].rings[ring[1]].size_bytes)
    bytes_max = state.options.finished_bytes
    owed_bytes = state.finished_bytes - bytes_max + bytes_max // 16
    count = _count_of_bytes(state, queue, ring_no, owed_bytes, count_max)
    _prune(turn, queue, ring_no, count)
    return count


def _excess(state: EngineState, queue: Queue, ring_no: int, count_max: int) -> int:
    """How many of the oldest jobs of a ring are beyond its count or bytes, up to `count_max`."""
    ring = queue.rings[ring_no]
    settings = queue.settings
    is_dead = ring_no == RING_DEAD
    kept_max = settings.dead_count if is_dead else settings.succeeded_count
    bytes_max = settings.dead_bytes if is_dead else settings.succeeded_bytes
    excess = min(max(0, ring.count - kept_max), count_max)
    if ring.size_bytes > bytes_max:
        over_bytes = ring.size_bytes - bytes_max
        excess = max(excess, _count_of_bytes(state, queue, ring_no, over_bytes, count_max))
    return excess


def _count_of_bytes(
    state: EngineState, queue: Queue, ring_no: int, size_bytes: int, count_max: int
) -> int:
    """How many of the oldest jobs have so many bytes together, up to `count_max`."""
    count = 0
    for entry in live_entries(queue.rings[ring_no], state.ended):
        if size_bytes <= 0 or count == count_max:
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
    left = limits.STEP_JOBS_MAX
    for queue in state.queues.values():
        for ring_no in range(len(queue.rings)):
            count = _count_old(turn, queue, ring_no, left)
            _prune(turn, queue, ring_no, count)
            left -= count
            state.note_age(queue, ring_no)


def _count_old(turn: Turn, queue: Queue, ring_no: int, count_max: int) -> int:
    settings = queue.settings
    age_ms = settings.dead_age_ms if ring_no == RING_DEAD else settings.succeeded_age_ms
    count = 0
    for entry in live_entries(queue.rings[ring_no], turn.state.ended):
        if entry.ended_at_ms + age_ms > turn.now_ms or count == count_max:
            break
        count += 1
    return count


def _forget(turn: Turn) -> None:
    """Not soon after a start: the wall clock, and log time with it, may have jumped over the
    stop, while clients still repeat the calls that it cut short."""
    before_ms = turn.now_ms - limits.REMEMBER_MS
    if before_ms < turn.state.epoch_started_ms:
        return
    count = turn.state.remembered.ended_by(before_ms, limits.STEP_JOBS_MAX)
    if count:
        turn.emit(IdsForgotten(count))


def _expire_keys(turn: Turn) -> None:
    count = turn.state.keys.expired(turn.now_ms, limits.STEP_JOBS_MAX)
    if count:
        turn.emit(KeysExpired(count))
