"""Snapshot rows: the whole state as plain data, one row for each thing with an id.

Fields are only appended, tags never reused (`spec/snapshot-format.md`, section Rows).
"""

from __future__ import annotations

import msgspec

from headrace.model.job import NAMESPACE, JobError, JobExtra, JobSpec
from headrace.model.queue import QueueSettings


class Row(msgspec.Struct, array_like=True, gc=False):
    """Base of all rows; each is encoded as an array that begins with its tag."""


class MetaRow(Row, tag=1):
    """Exactly one, the first."""

    index: int
    now_ms: int
    next_number: int
    next_ended_no: int
    next_key_no: int
    next_session_no: int
    epoch_number: int
    machine_version: int


class QueueRow(Row, tag=2):
    queue: str
    settings: QueueSettings | None
    """None: nobody has configured it."""
    totals: tuple[int, ...]
    """Jobs ever: enqueued, succeeded, failed attempts, dead, cancelled."""
    namespace: str = NAMESPACE


class SessionRow(Row, tag=3):
    number: int
    session_id: bytes
    name: str
    host: str
    pid: int
    build: str
    kinds: tuple[str, ...]
    queues: tuple[str, ...]
    strict: bool
    lease_ms: int
    opened_at_ms: int
    namespace: str = NAMESPACE


class JobRow(Row, tag=4):
    """A job that is not final."""

    job_id: bytes
    spec: JobSpec
    payload: bytes
    state: int
    priority: int
    attempt: int
    token: int
    number: int
    run_at_ms: int
    enqueued_at_ms: int
    leased_at_ms: int
    session_no: int
    lease_ms: int
    flags: int
    cold: bytes | None


class EndedRow(Row, tag=5):
    """A final job that its queue keeps."""

    packed: bytes
    """The encoded `Finished`."""


class RememberedRow(Row, tag=6):
    """Ids of ends that followed one another; rows in order of their ends."""

    last_at_ms: int
    """Log time of the last of these ends."""
    ids: bytes
    """Sorted, 16 bytes each."""
    values: bytes
    """Token × 8 + state of each, 8 bytes big-endian."""
    open_since_ms: int = 0
    """Of the newest row: log time of its first end, when more ends will join it; else 0."""


class KeyRow(Row, tag=7):
    scope: bytes
    number: int
    job_id: bytes
    digest: bytes
    expires_at_ms: int


AnyRow = MetaRow | QueueRow | SessionRow | JobRow | EndedRow | RememberedRow | KeyRow


class Cold(msgspec.Struct, array_like=True, gc=False):
    """What most jobs never have; kept encoded beside the job, or not at all."""

    extra: JobExtra | None = None
    errors: list[JobError] = []
    errors_dropped: int = 0
    progress: bytes | None = None
    log_lines: list[str] = []
    snooze_count: int = 0
    return_count: int = 0
    """Leases that ended before the job started."""
    crash_count: int = 0
    history: list[tuple[int, int, int]] = []
    """(event number, log time, attempt), the newest `HISTORY_ENTRIES_MAX`."""
    cancel_reason: str = ""


class Finished(msgspec.Struct, array_like=True, gc=False):
    """A final job, as its queue's ring keeps it."""

    job_id: bytes
    spec: JobSpec
    payload: bytes
    state: int
    priority: int
    attempt: int
    token: int
    enqueued_at_ms: int
    leased_at_ms: int
    ended_at_ms: int
    ended_no: int
    result: bytes | None = None
    reason: str = ""
    cold: bytes | None = None
