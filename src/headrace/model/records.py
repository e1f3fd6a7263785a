"""Records: facts that happened, as the log keeps them.

A record holds what was decided (which job, which worker, which `run_at_ms`), never what
is still to be decided, so replay needs no clock, no randomness and no policy.
Each struct is a format: fields are only appended, numbers never reused
(`spec/records.md`; the golden test in `tests/unit/codec`).
"""

from __future__ import annotations

import msgspec

from headrace.model.job import NAMESPACE, JobError, JobExtra, JobSpec
from headrace.model.queue import QueueSettings

MACHINE_VERSION = 1
"""Raised when the engine would replay the same records to another state."""


class Record(msgspec.Struct, array_like=True, gc=False):
    """Base of all records."""


class EpochStarted(Record):
    """A node leads from here on; every lease starts a fresh grace."""

    number: int
    nonce: bytes
    node: str
    machine_version: int = MACHINE_VERSION
    now_ms: int = 0


class TimePassed(Record):
    """Log time is now `now_ms`, and the first `promote` due jobs became ready."""

    now_ms: int
    promote: int = 0


class QueueConfigured(Record):
    queue: str
    settings: QueueSettings
    namespace: str = NAMESPACE


class SessionOpened(Record):
    session_id: bytes
    name: str
    host: str
    pid: int
    build: str
    kinds: tuple[str, ...]
    queues: tuple[str, ...]
    strict: bool
    """Queues are served strictly as listed, not in rotation."""
    lease_ms: int
    namespace: str = NAMESPACE


class SessionClosed(Record):
    """It holds no lease any more."""

    session_id: bytes
    reason: str = ""


class EnqueuedJob(msgspec.Struct, array_like=True, gc=False):
    job_id: bytes
    payload: bytes
    priority: int
    run_at_ms: int = 0
    """0: ready at once."""
    extra: JobExtra | None = None


class JobsEnqueued(Record):
    spec: JobSpec
    jobs: list[EnqueuedJob]


class JobsClaimed(Record):
    """The index of this record is the lease token of each of these jobs."""

    session_id: bytes
    """`` for a client without a session, which holds one lease a job."""
    job_ids: list[bytes]
    lease_ms: int = 0


class JobsStarted(Record):
    """Jobs still running some time after their worker said that they started."""

    leases: list[tuple[bytes, int]]


class JobsSucceeded(Record):
    """(job, token, result or nil) each."""

    results: list[tuple[bytes, int, bytes | None]]


FATE_RETRY = 0
"""Ready again, or scheduled when `run_at_ms` is set."""
FATE_DEAD = 1
FATE_CANCELLED = 2


class JobFailed(Record):
    """The holder reported a failure; this attempt is charged."""

    job_id: bytes
    token: int
    error: JobError
    fate: int
    run_at_ms: int = 0
    reason: str = ""
    """Of a dead job: `attempts`, `gave_up`."""


class JobReleased(msgspec.Struct, array_like=True, gc=False):
    job_id: bytes
    token: int
    run_at_ms: int = 0
    snoozed: bool = False
    """It had started; counted, since a job may not snooze for ever."""


class JobsReleased(Record):
    """Given back by their holder; no attempt is charged."""

    jobs: list[JobReleased]


class ExpiredLease(msgspec.Struct, array_like=True, gc=False):
    job_id: bytes
    token: int
    started: bool
    """Only a job that had started is charged an attempt."""
    fate: int
    run_at_ms: int = 0
    reason: str = ""


class LeasesExpired(Record):
    """The system ended these leases, for `reason`: `worker_lost`, `timeout`, `closed`."""

    reason: str
    leases: list[ExpiredLease]


class JobsCancelled(Record):
    """Final. Token 0: the job was waiting; else its holder confirmed."""

    leases: list[tuple[bytes, int]]
    reason: str


class CancelRequested(Record):
    job_id: bytes
    token: int
    reason: str = ""


class JobRescheduled(Record):
    job_id: bytes
    run_at_ms: int
    """0: ready now."""


class PriorityChanged(Record):
    job_id: bytes
    priority: int


class JobRevived(Record):
    """A final job waits again: same id, attempt 0, errors kept."""

    job_id: bytes
    run_at_ms: int = 0


class JobsDeleted(Record):
    job_ids: list[bytes]


class ProgressReported(Record):
    job_id: bytes
    token: int
    progress: bytes


class JobLogged(Record):
    job_id: bytes
    token: int
    lines: list[str]


RING_SUCCEEDED = 0
"""Succeeded and cancelled jobs."""
RING_DEAD = 1


class FinishedPruned(Record):
    """Retention removed the oldest `count` jobs of one ring."""

    queue: str
    ring: int
    count: int


class IdsForgotten(Record):
    """The oldest `count` remembered ids, whole slices of them, are no longer known."""

    count: int


class KeysExpired(Record):
    """The first `count` idempotency keys in order of expiry are free again."""

    count: int


AnyRecord = (
    EpochStarted
    | TimePassed
    | QueueConfigured
    | SessionOpened
    | SessionClosed
    | JobsEnqueued
    | JobsClaimed
    | JobsStarted
    | JobsSucceeded
    | JobFailed
    | JobsReleased
    | LeasesExpired
    | JobsCancelled
    | CancelRequested
    | JobRescheduled
    | PriorityChanged
    | JobRevived
    | JobsDeleted
    | ProgressReported
    | JobLogged
    | FinishedPruned
    | IdsForgotten
    | KeysExpired
)
