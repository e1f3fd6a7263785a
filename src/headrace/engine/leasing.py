"""Deciding about leases: claim, started, ack, nack, release, extend, expire.

Everything a holder says names (job id, token); what names no live lease is refused as
stale and changes nothing, except that the answer of a lease that won is given again.
"""

from __future__ import annotations

from headrace.engine import lifecycle
from headrace.engine.backoff import backoff_ms
from headrace.engine.finished import unpack
from headrace.engine.job import (
    FLAG_CANCEL_REQUESTED,
    SUCCEEDED,
    Job,
    cold_of,
    decode_cold,
)
from headrace.engine.splitmix import SplitMix
from headrace.engine.state import EVENT_FAILED, EVENT_LEASED
from headrace.engine.turn import Turn, stale_lease, unknown_job
from headrace.engine.validate import check_delay, check_range, shortened_error
from headrace.model import limits
from headrace.model.commands import (
    Ack,
    EndedLease,
    Expire,
    Extend,
    Failure,
    LogLines,
    MarkStarted,
    Nack,
    Progress,
    Release,
    Return,
)
from headrace.model.errors import ClientError, LimitReached, PayloadTooLarge
from headrace.model.ids import id_to_text
from headrace.model.job import RetryPolicy
from headrace.model.records import (
    FATE_CANCELLED,
    FATE_DEAD,
    FATE_RETRY,
    ExpiredLease,
    JobFailed,
    JobLogged,
    JobReleased,
    JobsCancelled,
    JobsReleased,
    JobsStarted,
    JobsSucceeded,
    LeasesExpired,
    ProgressReported,
)
from headrace.model.replies import Done, Problem, Settled
from headrace.model.rows import Finished

EXPIRED_WORKER_LOST = "worker_lost"
EXPIRED_TIMEOUT = "timeout"


def ack(turn: Turn, command: Ack, seed: int) -> Settled:
    """Jobs whose lease is live succeed; the others are named in the reply."""
    check_range("jobs of an ack", len(command.results), 0, limits.JOBS_PER_CALL_MAX)
    jobs = turn.state.jobs
    granted: list[tuple[bytes, int, bytes | None]] = []
    problems: list[Problem] = []
    seen: dict[bytes, int] = {}
    for position, (job_id, token, result) in enumerate(command.results):
        job = jobs.get(job_id) if job_id else None
        if job is None or job.token != token or job_id in seen:
            _add_problem(problems, position, _ack_refusal(turn, job_id, token, seen))
        elif not lifecycle.ACK.moves[job.state]:
            _add_problem(problems, position, stale_lease(job_id, token))
        elif result is not None and len(result) > limits.RESULT_BYTES_MAX:
            _add_problem(problems, position, _result_too_large(job_id, result))
        else:
            seen[job_id] = token
            granted.append((job_id, token, result))
    if granted:
        turn.emit(JobsSucceeded(granted))
    return Settled(problems=problems or None)


def _ack_refusal(
    turn: Turn, job_id: bytes, token: int, seen: dict[bytes, int]
) -> ClientError | None:
    """None when this very lease has won before: repeating its ack gets the first answer."""
    if seen.get(job_id) == token:
        return None
    if turn.live(job_id) is not None:
        return stale_lease(job_id, token)
    return None if _acked(turn, job_id, token) else _gone(turn, job_id, token)


def _acked(turn: Turn, job_id: bytes, token: int) -> bool:
    """This lease ended the job with success, as far as it is still known."""
    known = turn.remembered(job_id)
    return known is not None and known.token == token and known.state == SUCCEEDED


def _gone(turn: Turn, job_id: bytes, token: int) -> ClientError:
    """Why no live lease is named: it has ended, or nothing at all is known of the job."""
    known = turn.live(job_id) is not None or turn.remembered(job_id) is not None
    return stale_lease(job_id, token) if known else unknown_job(job_id)


def _add_problem(problems: list[Problem], position: int, error: ClientError | None) -> None:
    if error is not None:
        problems.append(Problem(position, error.code, error.message, error.hint))


def _result_too_large(job_id: bytes, result: bytes) -> ClientError:
    return PayloadTooLarge(
        f"The result of job {id_to_text(job_id)} has {len(result)} bytes; "
        f"{limits.RESULT_BYTES_MAX} are allowed.",
        hint="Store big results elsewhere and return a reference.",
    )


def nack(turn: Turn, command: Nack, seed: int) -> Settled:
    """Jobs whose lease is live wait for their next attempt, or are dead or cancelled."""
    check_range("jobs of a nack", len(command.failures), 0, limits.JOBS_PER_CALL_MAX)
    problems: list[Problem] = []
    draw = SplitMix(seed)
    for position, failure in enumerate(command.failures):
        job = turn.held(failure.job_id, failure.token)
        if job is None:
            _add_problem(problems, position, _nack_refusal(turn, failure))
            continue
        turn.emit(_failed(turn, job, failure, draw.next_u64()))
    return Settled(problems=problems or None)


def _nack_refusal(turn: Turn, failure: Failure) -> ClientError | None:
    """None when this very nack was taken before: its attempt is charged and noted."""
    job_id, token = failure.job_id, failure.token
    job = turn.live(job_id)
    if job is not None:
        taken = job.token == token and _ended_by_nack(job)
        return None if taken else stale_lease(job_id, token)
    known = turn.remembered(job_id)
    if known is None:
        return _gone(turn, job_id, token)
    packed = turn.state.ended.get(job_id)
    taken = known.state != SUCCEEDED if packed is None else _ended_by_nack(unpack(packed))
    return None if taken and known.token == token else stale_lease(job_id, token)


def _ended_by_nack(job: Job | Finished) -> bool:
    """The newest lease ended by its holder's nack, not by ack, expiry or release.

    Not every lease leaves a line in the history: the last line must be of this one.
    """
    lines = decode_cold(job.cold).history[-2:]
    begun = (EVENT_LEASED, job.leased_at_ms, job.attempt)
    return len(lines) == 2 and lines[0] == begun and lines[1][::2] == (EVENT_FAILED, job.attempt)


def _failed(turn: Turn, job: Job, failure: Failure, seed: int) -> JobFailed:
    attempt = job.attempt + 1
    session = turn.state.session_of(job)
    error = shortened_error(
        failure.error, turn.now_ms, attempt, session.name if session is not None else ""
    )
    error_fate = _fate_of_failure(turn, job, failure, attempt)
    if error_fate[0] != FATE_RETRY:
        return JobFailed(job.job_id, job.token, error, error_fate[0], 0, error_fate[1])
    delay_ms = min(failure.delay_ms, limits.DELAY_MS_MAX)
    if failure.delay_ms < 0:
        delay_ms = backoff_ms(retry_policy(turn, job), attempt, seed)
    run_at_ms = turn.now_ms + delay_ms if delay_ms else 0
    return JobFailed(job.job_id, job.token, error, FATE_RETRY, run_at_ms)


def _fate_of_failure(turn: Turn, job: Job, failure: Failure, attempt: int) -> tuple[int, str]:
    if job.flags & FLAG_CANCEL_REQUESTED:
        return FATE_CANCELLED, cold_of(job).cancel_reason or "cancelled"
    if not failure.retryable:
        return FATE_DEAD, "gave_up"
    if attempt >= retry_policy(turn, job).attempt_max:
        return FATE_DEAD, "attempts"
    return FATE_RETRY, ""


def retry_policy(turn: Turn, job: Job) -> RetryPolicy:
    """The job's own, or its queue's."""
    return job.spec.wire.retry or turn.state.queues[job.spec.queue].settings.retry


def release(turn: Turn, command: Release, seed: int) -> Settled:
    """Jobs whose lease is live wait again, uncharged; one asked to stop is cancelled."""
    check_range("jobs of a release", len(command.jobs), 0, limits.JOBS_PER_CALL_MAX)
    problems: list[Problem] = []
    released: dict[bytes, JobReleased] = {}
    for position, given_back in enumerate(command.jobs):
        job = turn.held(given_back.job_id, given_back.token)
        try:
            if job is None or job.job_id in released:
                raise _gone(turn, given_back.job_id, given_back.token)
            check_delay(given_back.delay_ms)
            if job.flags & FLAG_CANCEL_REQUESTED:
                confirm_cancel(turn, job)
            else:
                released[job.job_id] = _released(turn, job, given_back)
        except ClientError as error:
            _add_problem(problems, position, error)
    if released:
        turn.emit(JobsReleased(list(released.values())))
    return Settled(problems=problems or None)


def _released(turn: Turn, job: Job, given_back: Return) -> JobReleased:
    """Raises: `LimitReached` for a job that has snoozed too often."""
    if given_back.started and cold_of(job).snooze_count >= limits.SNOOZES_MAX:
        raise LimitReached(
            f"Job {id_to_text(job.job_id)} has snoozed {limits.SNOOZES_MAX} times.",
            hint="Nack it, so that somebody sees that it never gets done.",
        )
    run_at_ms = turn.now_ms + given_back.delay_ms if given_back.delay_ms else 0
    return JobReleased(job.job_id, job.token, run_at_ms, given_back.started)


def confirm_cancel(turn: Turn, job: Job) -> None:
    """The holder has stopped: the job that was asked to end is cancelled."""
    reason = cold_of(job).cancel_reason or "cancelled"
    turn.emit(JobsCancelled([(job.job_id, job.token)], reason))


def extend(turn: Turn, command: Extend, seed: int) -> Settled:
    """The named single-job leases are live; the runtime moves their end. Not logged."""
    problems: list[Problem] = []
    check_range("lease_ms", command.lease_ms, limits.LEASE_MS_MIN, limits.LEASE_MS_MAX)
    for position, (job_id, token) in enumerate(command.leases):
        if turn.held(job_id, token) is None:
            _add_problem(problems, position, _gone(turn, job_id, token))
    return Settled(problems=problems or None)


def mark_started(turn: Turn, command: MarkStarted, seed: int) -> Done:
    live = [lease for lease in command.leases if turn.held(*lease) is not None]
    if live:
        turn.emit(JobsStarted(live))
    return Done()


def progress(turn: Turn, command: Progress, seed: int) -> Done:
    """The newest progress is kept; that of a lease that ended is dropped silently."""
    job = turn.held(command.job_id, command.token)
    if job is not None and len(command.progress) <= limits.PROGRESS_BYTES_MAX:
        turn.emit(ProgressReported(job.job_id, job.token, command.progress))
    return Done()


def log_lines(turn: Turn, command: LogLines, seed: int) -> Done:
    """The newest lines are kept, each cut to its limit."""
    job = turn.held(command.job_id, command.token)
    lines = [
        line.encode("utf-8", "replace")[: limits.JOB_LOG_LINE_BYTES_MAX].decode("utf-8", "ignore")
        for line in command.lines[-limits.JOB_LOG_LINES_MAX :]
    ]
    if job is not None and lines:
        turn.emit(JobLogged(job.job_id, job.token, lines))
    return Done()


def expire(turn: Turn, command: Expire, seed: int) -> Done:
    """Leases that are still live end; pairs that have moved on are passed over."""
    draw = SplitMix(seed)
    ended: dict[bytes, ExpiredLease] = {}
    for lease in command.leases:
        job = turn.held(lease.job_id, lease.token)
        if job is not None and job.job_id not in ended:
            ended[job.job_id] = _expired(turn, job, lease, command.reason, draw.next_u64())
    if ended:
        turn.emit(LeasesExpired(command.reason, list(ended.values())))
    return Done()


def _expired(turn: Turn, job: Job, lease: EndedLease, reason: str, seed: int) -> ExpiredLease:
    """Only a job that had started is charged; one that kills its workers dies alone."""
    fate, why, run_at_ms = FATE_RETRY, "", 0
    policy = retry_policy(turn, job)
    cold = cold_of(job)
    attempt = job.attempt + 1
    if job.flags & FLAG_CANCEL_REQUESTED:
        fate, why = FATE_CANCELLED, cold.cancel_reason or "cancelled"
    elif not lease.started:
        if cold.return_count + 1 >= limits.RESERVED_RETURNS_MAX:
            fate, why = FATE_DEAD, "never_started"
    elif reason == EXPIRED_WORKER_LOST and cold.crash_count + 1 >= policy.crash_max:
        fate, why = FATE_DEAD, "crashed"
    elif attempt >= policy.attempt_max:
        fate, why = FATE_DEAD, "attempts"
    elif reason == EXPIRED_TIMEOUT:
        delay_ms = backoff_ms(policy, attempt, seed)
        run_at_ms = turn.now_ms + delay_ms if delay_ms else 0
    return ExpiredLease(lease.job_id, lease.token, lease.started, fate, run_at_ms, why)
