"""Records to transitions: the only caller of what changes state.

Replay calls `evolve` for each record of the log; the live path calls it for each record
that a command emits. Both therefore reach the same state by the same steps.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from headrace.engine import lifecycle
from headrace.engine.job import (
    CANCELLED,
    DEAD,
    FLAG_CANCEL_REQUESTED,
    FLAG_STARTED,
    LEASED,
    SUCCEEDED,
    Job,
    cold_of,
)
from headrace.engine.lifecycle import Rule
from headrace.engine.queues import TOTAL_FAILED
from headrace.engine.state import EVENT_LEASED, EngineState
from headrace.model import limits, records
from headrace.model.errors import FormatNewer, InvariantViolated
from headrace.model.job import JobError
from headrace.model.rows import Cold, SessionRow


def evolve(state: EngineState, index: int, record: records.Record) -> None:
    """`record`, with this index, has happened.

    Raises: `InvariantViolated` when it could not have happened to this state.
    """
    state.index = index
    _TRANSITIONS[type(record)](state, record)


def _epoch_started(state: EngineState, record: records.EpochStarted) -> None:
    if record.machine_version != records.MACHINE_VERSION:
        raise machine_version_differs("log", record.machine_version)
    state.epoch_number = record.number
    state.now_ms = max(state.now_ms, record.now_ms)
    state.epoch_started_ms = state.now_ms


def machine_version_differs(what: str, version: int) -> FormatNewer:
    """No bug, and no damage: the wrong program was started."""
    return FormatNewer(
        f"The {what} was written by machine version {version}; "
        f"this headrace replays version {records.MACHINE_VERSION}.",
        hint="Use the version that wrote it, or a newer one.",
    )


def _time_passed(state: EngineState, record: records.TimePassed) -> None:
    state.now_ms = max(state.now_ms, record.now_ms)
    for _ in range(record.promote):
        state.promote()


def _queue_configured(state: EngineState, record: records.QueueConfigured) -> None:
    queue = state.configure(record.queue, record.settings)
    state.full_rings[queue.name, records.RING_SUCCEEDED] = None
    state.full_rings[queue.name, records.RING_DEAD] = None
    state.next_age_ms = state.now_ms
    for lanes in queue.kinds.values():
        if lanes.bitmap and lanes.interested and not lanes.fed:
            lanes.fed = True
            state.fed.append(lanes)


def _session_opened(state: EngineState, record: records.SessionOpened) -> None:
    number = state.next_session_no
    state.next_session_no += 1
    state.open_session(
        SessionRow(
            number,
            record.session_id,
            record.name,
            record.host,
            record.pid,
            record.build,
            record.kinds,
            record.queues,
            record.strict,
            record.lease_ms,
            state.now_ms,
        )
    )


def _session_closed(state: EngineState, record: records.SessionClosed) -> None:
    state.close_session(record.session_id)


def _jobs_enqueued(state: EngineState, record: records.JobsEnqueued) -> None:
    state.add_jobs(state.spec(record.spec), record.jobs)


def _jobs_claimed(state: EngineState, record: records.JobsClaimed) -> None:
    session = state.sessions[record.session_id] if record.session_id else None
    token = state.index
    for job_id in record.job_ids:
        state.lease(state.job(job_id), token, session, record.lease_ms)


def _held(state: EngineState, job_id: bytes, token: int) -> Job:
    """The job under exactly this lease. Raises: `InvariantViolated`."""
    job = state.job(job_id)
    if job.state != LEASED or job.token != token:
        raise InvariantViolated(
            f"record names lease {token} of job {job_id.hex()}, which has lease {job.token}"
        )
    return job


def _jobs_started(state: EngineState, record: records.JobsStarted) -> None:
    for job_id, token in record.leases:
        _held(state, job_id, token).flags |= FLAG_STARTED


def _jobs_succeeded(state: EngineState, record: records.JobsSucceeded) -> None:
    for job_id, token, result in record.results:
        job = _held(state, job_id, token)
        job.attempt += 1
        state.finish(job, lifecycle.ACK, SUCCEEDED, result)


def _job_failed(state: EngineState, record: records.JobFailed) -> None:
    job = _held(state, record.job_id, record.token)
    job.attempt += 1
    state.queues[job.spec.queue].totals[TOTAL_FAILED] += 1
    cold = cold_of(job)
    _add_error(cold, record.error)
    _note_attempt(state, job, cold, "failed")
    _end_attempt(state, job, lifecycle.NACK, record.fate, record.run_at_ms, record.reason)


def _add_error(cold: Cold, error: JobError) -> None:
    """The first and the last errors are kept; those between are counted."""
    errors = [*cold.errors, error]
    if len(errors) > limits.ERRORS_FIRST_KEPT + limits.ERRORS_LAST_KEPT:
        del errors[limits.ERRORS_FIRST_KEPT]
        cold.errors_dropped += 1
    while len(errors) > 2 and _size_bytes(errors) > limits.ERRORS_BYTES_MAX:
        del errors[len(errors) // 2]
        cold.errors_dropped += 1
    cold.errors = errors


def _size_bytes(errors: list[JobError]) -> int:
    return sum(len(error.message.encode()) + len(error.traceback.encode()) + 64 for error in errors)


def _note_attempt(state: EngineState, job: Job, cold: Cold, word: str) -> None:
    """When this attempt was leased and how it ended, for the history."""
    begun = (EVENT_LEASED, job.leased_at_ms, job.attempt)
    cold.history = [*cold.history, begun][-limits.HISTORY_ENTRIES_MAX :]
    state.note(job, word, cold)


def _end_attempt(
    state: EngineState, job: Job, rule: Rule, fate: int, run_at_ms: int, reason: str
) -> None:
    if fate == records.FATE_DEAD:
        state.finish(job, rule, DEAD, reason=reason)
    elif fate == records.FATE_CANCELLED:
        state.finish(job, rule, CANCELLED, reason=reason)
    else:
        state.wait_again(job, rule, run_at_ms, keeps_place=False)


def _jobs_released(state: EngineState, record: records.JobsReleased) -> None:
    for released in record.jobs:
        job = _held(state, released.job_id, released.token)
        if released.snoozed:
            cold = cold_of(job)
            cold.snooze_count += 1
            _note_attempt(state, job, cold, "snoozed")
        state.wait_again(
            job, lifecycle.RELEASE, released.run_at_ms, keeps_place=not released.snoozed
        )


def _leases_expired(state: EngineState, record: records.LeasesExpired) -> None:
    for lease in record.leases:
        job = _held(state, lease.job_id, lease.token)
        cold = cold_of(job)
        if lease.started:
            job.attempt += 1
            state.queues[job.spec.queue].totals[TOTAL_FAILED] += 1
            cold.crash_count += record.reason == "worker_lost"
            _add_error(cold, _expiry_error(state, job, record.reason))
            _note_attempt(state, job, cold, record.reason)
        else:
            cold.return_count += 1
            state.set_cold(job, cold)
        if lease.fate == records.FATE_RETRY and not lease.started:
            state.wait_again(job, lifecycle.EXPIRE, lease.run_at_ms, keeps_place=True)
        else:
            _end_attempt(state, job, lifecycle.EXPIRE, lease.fate, lease.run_at_ms, lease.reason)


def _expiry_error(state: EngineState, job: Job, reason: str) -> JobError:
    message = (
        f"It ran longer than its timeout of {job.spec.timeout_ms} ms."
        if reason == "timeout"
        else "Its worker gave no sign of life while it ran."
    )
    session = state.session_of(job)
    worker = session.name if session is not None else ""
    return JobError(reason, message, "", state.now_ms, job.attempt, worker, True)


def _jobs_cancelled(state: EngineState, record: records.JobsCancelled) -> None:
    for job_id, token in record.leases:
        job = state.job(job_id) if token == 0 else _held(state, job_id, token)
        state.finish(job, lifecycle.CANCEL, CANCELLED, reason=record.reason)


def _cancel_requested(state: EngineState, record: records.CancelRequested) -> None:
    job = _held(state, record.job_id, record.token)
    job.flags |= FLAG_CANCEL_REQUESTED
    cold = cold_of(job)
    cold.cancel_reason = record.reason
    state.note(job, "cancel_requested", cold)


def _job_rescheduled(state: EngineState, record: records.JobRescheduled) -> None:
    state.reschedule(state.job(record.job_id), lifecycle.RESCHEDULE, record.run_at_ms)


def _priority_changed(state: EngineState, record: records.PriorityChanged) -> None:
    state.change_priority(state.job(record.job_id), record.priority)


def _job_revived(state: EngineState, record: records.JobRevived) -> None:
    state.revive(record.job_id, record.run_at_ms)


def _jobs_deleted(state: EngineState, record: records.JobsDeleted) -> None:
    for job_id in record.job_ids:
        if state.jobs.get(job_id) is None:
            state.delete_ended(job_id)
        else:
            state.remove_waiting(state.job(job_id))


def _progress_reported(state: EngineState, record: records.ProgressReported) -> None:
    job = _held(state, record.job_id, record.token)
    cold = cold_of(job)
    cold.progress = record.progress
    state.set_cold(job, cold)


def _job_logged(state: EngineState, record: records.JobLogged) -> None:
    job = _held(state, record.job_id, record.token)
    cold = cold_of(job)
    cold.log_lines = [*cold.log_lines, *record.lines][-limits.JOB_LOG_LINES_MAX :]
    state.set_cold(job, cold)


def _finished_pruned(state: EngineState, record: records.FinishedPruned) -> None:
    state.prune(state.queues[record.queue], record.ring, record.count)


def _ids_forgotten(state: EngineState, record: records.IdsForgotten) -> None:
    state.remembered.forget(record.count)


def _keys_expired(state: EngineState, record: records.KeysExpired) -> None:
    state.keys.expire(record.count)


_TRANSITIONS: dict[type[records.Record], Callable[[EngineState, Any], None]] = {
    records.EpochStarted: _epoch_started,
    records.TimePassed: _time_passed,
    records.QueueConfigured: _queue_configured,
    records.SessionOpened: _session_opened,
    records.SessionClosed: _session_closed,
    records.JobsEnqueued: _jobs_enqueued,
    records.JobsClaimed: _jobs_claimed,
    records.JobsStarted: _jobs_started,
    records.JobsSucceeded: _jobs_succeeded,
    records.JobFailed: _job_failed,
    records.JobsReleased: _jobs_released,
    records.LeasesExpired: _leases_expired,
    records.JobsCancelled: _jobs_cancelled,
    records.CancelRequested: _cancel_requested,
    records.JobRescheduled: _job_rescheduled,
    records.PriorityChanged: _priority_changed,
    records.JobRevived: _job_revived,
    records.JobsDeleted: _jobs_deleted,
    records.ProgressReported: _progress_reported,
    records.JobLogged: _job_logged,
    records.FinishedPruned: _finished_pruned,
    records.IdsForgotten: _ids_forgotten,
    records.KeysExpired: _keys_expired,
}
