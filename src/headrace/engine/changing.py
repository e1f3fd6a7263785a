"""Deciding about jobs and queues from outside: cancel, move, revive, delete, configure."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import msgspec

from headrace.engine import lifecycle
from headrace.engine.enqueueing import check_room
from headrace.engine.finished import live_entries
from headrace.engine.job import FLAG_CANCEL_REQUESTED, LEASED, READY, Job
from headrace.engine.lifecycle import Verb
from headrace.engine.queues import Queue
from headrace.engine.state import EngineState
from headrace.engine.turn import Turn, unknown_job
from headrace.engine.validate import check_range, check_settings, due_at_ms
from headrace.model import limits
from headrace.model.commands import (
    Cancel,
    ChangePriority,
    ConfigureQueue,
    Delete,
    PauseQueue,
    Purge,
    Reschedule,
    ResumeQueue,
    Revive,
)
from headrace.model.effects import PushCancel
from headrace.model.errors import (
    LimitReached,
    UnknownJob,
    UnknownQueue,
    WrongState,
)
from headrace.model.ids import id_to_text
from headrace.model.job import State
from headrace.model.names import check_name
from headrace.model.queue import QueueSettings
from headrace.model.records import (
    CancelRequested,
    JobRescheduled,
    JobRevived,
    JobsCancelled,
    JobsDeleted,
    PriorityChanged,
    QueueConfigured,
)
from headrace.model.replies import Changed, Done, Purged


def state_of(turn: Turn, job_id: bytes) -> int:
    """The state of a live or final job. Raises: `UnknownJob`."""
    job = turn.live(job_id)
    if job is not None:
        return job.state
    known = turn.remembered(job_id)
    if known is None:
        raise unknown_job(job_id)
    return known.state


def _live(turn: Turn, job_id: bytes, verb: Verb) -> Job:
    """The live job, when the table grants the verb. Raises: `UnknownJob`, `WrongState`."""
    state = state_of(turn, job_id)
    lifecycle.check(job_id, state, verb)
    job = turn.live(job_id)
    if job is None:
        raise lifecycle.refusal(job_id, state, verb, lifecycle.Refused.WRONG)
    return job


def cancel(turn: Turn, command: Cancel, seed: int) -> Changed:
    """A waiting job is cancelled; a leased one is asked to stop; a cancelled one stays so."""
    state = state_of(turn, command.job_id)
    lifecycle.check(command.job_id, state, Verb.CANCEL)
    job = turn.live(command.job_id)
    reason = command.reason[: limits.NAME_BYTES_MAX] or "cancelled"
    if job is None:
        return Changed(state=state)
    if job.state != LEASED:
        turn.emit(JobsCancelled([(job.job_id, 0)], reason))
        return Changed(state=int(State.CANCELLED))
    if not job.flags & FLAG_CANCEL_REQUESTED:
        turn.emit(CancelRequested(job.job_id, job.token, reason))
        session = turn.state.session_of(job)
        if session is not None:
            turn.effects.append(PushCancel(session.session_id, [(job.job_id, job.token)]))
    return Changed(state=LEASED, cancel_requested=True)


def reschedule(turn: Turn, command: Reschedule, seed: int) -> Changed:
    """The job is due then; one that is ready already, and shall be now, keeps its place."""
    job = _live(turn, command.job_id, Verb.RESCHEDULE)
    run_at_ms = due_at_ms(turn.now_ms, command.run_at_ms, command.delay_ms)
    if job.state != READY or run_at_ms:
        turn.emit(JobRescheduled(job.job_id, run_at_ms))
    return Changed(state=state_of(turn, command.job_id))


def change_priority(turn: Turn, command: ChangePriority, seed: int) -> Changed:
    check_range("priority", command.priority, 0, limits.PRIORITY_MAX)
    job = _live(turn, command.job_id, Verb.CHANGE_PRIORITY)
    if job.priority != command.priority:
        turn.emit(PriorityChanged(job.job_id, command.priority))
    return Changed(state=job.state or state_of(turn, command.job_id))


def revive(turn: Turn, command: Revive, seed: int) -> Changed:
    """Raises: `UnknownJob` also when retention has kept nothing but the id."""
    state = state_of(turn, command.job_id)
    lifecycle.check(command.job_id, state, Verb.REVIVE)
    packed = turn.state.ended.get(command.job_id)
    if packed is None:
        raise UnknownJob(
            f"Of job {id_to_text(command.job_id)} only the id is still known.",
            hint="Retention has removed it, or it was deleted; enqueue a new job.",
        )
    check_room(turn.state, 1, len(packed))
    run_at_ms = due_at_ms(turn.now_ms, 0, command.delay_ms)
    turn.emit(JobRevived(command.job_id, run_at_ms))
    return Changed(state=state_of(turn, command.job_id))


def delete(turn: Turn, command: Delete, seed: int) -> Done:
    """The job is gone; its id stays remembered for a while, its key is free."""
    state = state_of(turn, command.job_id)
    lifecycle.check(command.job_id, state, Verb.DELETE)
    if turn.live(command.job_id) is None and turn.state.ended.get(command.job_id) is None:
        raise unknown_job(command.job_id)
    turn.emit(JobsDeleted([command.job_id]))
    return Done()


_SCAN_JOBS = 20_000
"""Scheduled jobs of all queues that one purge looks at: about a millisecond."""

_PURGEABLE = frozenset(state for state in State if state is not State.LEASED)


def purge(turn: Turn, command: Purge, seed: int) -> Purged:
    """Up to `STEP_JOBS_MAX` jobs of these states of the queue are gone; `more`: call again."""
    queue = turn.state.queues.get(command.queue)
    if queue is None:
        raise unknown_queue(command.queue)
    wanted = set(command.states)
    if not wanted or not wanted <= _PURGEABLE:
        raise WrongState(
            "Purge removes final and waiting jobs; leased ones belong to their worker.",
            hint="Name states among scheduled, blocked, ready, succeeded, dead, cancelled.",
        )
    found = _purgeable(turn.state, queue, wanted)
    job_ids = list(islice(found, limits.STEP_JOBS_MAX + 1))
    more = len(job_ids) > limits.STEP_JOBS_MAX
    del job_ids[limits.STEP_JOBS_MAX :]
    if job_ids:
        turn.emit(JobsDeleted(job_ids))
    if State.SCHEDULED in wanted:
        more = more or queue.counts[State.SCHEDULED] > 0
    return Purged(count=len(job_ids), more=more)


def _purgeable(state: EngineState, queue: Queue, wanted: set[int]) -> Iterator[bytes]:
    """Ids of the queue's jobs in these states; ready ones first, final ones oldest first."""
    if State.READY in wanted:
        for lanes in queue.kinds.values():
            for lane in lanes.lanes.values():
                yield from (job.job_id for job in lane.in_order())
    if State.SCHEDULED in wanted and queue.counts[State.SCHEDULED]:
        for job in state.scheduled.scan(_SCAN_JOBS):
            if job.spec.queue == queue.name:
                yield job.job_id
    for ring in queue.rings:
        for entry in live_entries(ring, state.ended):
            if entry.state in wanted:
                yield entry.job_id


def unknown_queue(name: str) -> UnknownQueue:
    return UnknownQueue(
        f"There is no queue {name!r}.",
        hint="Queues appear when they are first used; see `headrace queue list`.",
    )


def configure_queue(turn: Turn, command: ConfigureQueue, seed: int) -> Done:
    check_name("queue", command.queue)
    check_settings(command.settings)
    return _configure(turn, command.queue, command.settings)


def pause_queue(turn: Turn, command: PauseQueue, seed: int) -> Done:
    return _set_paused(turn, command.queue, True)


def resume_queue(turn: Turn, command: ResumeQueue, seed: int) -> Done:
    return _set_paused(turn, command.queue, False)


def _set_paused(turn: Turn, name: str, paused: bool) -> Done:
    queue = turn.state.queues.get(name)
    if queue is None:
        raise unknown_queue(name)
    if queue.paused == paused:
        return Done()
    return _configure(turn, name, msgspec.structs.replace(queue.settings, paused=paused))


def _configure(turn: Turn, name: str, settings: QueueSettings) -> Done:
    queues = turn.state.queues
    if name not in queues and len(queues) >= limits.QUEUES_MAX:
        raise LimitReached(f"There are {limits.QUEUES_MAX} queues already.")
    turn.emit(QueueConfigured(name, settings))
    return Done()
