"""Commands: what is asked. Also the request bodies of the wire protocol.

Fields are only appended, with defaults. A command that names a lease carries
(job id, token); anything else about it is looked up.
"""

from __future__ import annotations

import msgspec

from headrace.model import limits
from headrace.model.job import JobError, JobExtra, JobSpec
from headrace.model.queue import QueueSettings


class Command(msgspec.Struct, array_like=True, gc=False):
    """Base of all commands."""


# --- producing


class NewJob(msgspec.Struct, array_like=True, gc=False):
    job_id: bytes
    """UUIDv7 made by the client; `` lets the server make one (such a call is not repeatable)."""
    spec: int
    """Position in `Enqueue.specs`."""
    payload: bytes
    priority: int = limits.PRIORITY_DEFAULT
    run_at_ms: int = 0
    """Unix ms, given by the user; at most one of `run_at_ms` and `delay_ms`."""
    delay_ms: int = 0
    """From when the server takes it."""
    extra: JobExtra | None = None


class Enqueue(Command):
    """Durably accept jobs.

    `atomic`: all or none, refused as a whole. Otherwise each job is answered alone.
    """

    specs: list[JobSpec]
    jobs: list[NewJob]
    atomic: bool = False
    resend: bool = False
    """The call may have been made before: known ids are answered, not refused."""


# --- holding leases


class Claim(Command):
    """Ready jobs for a client without a session, each with a lease of its own."""

    queues: tuple[str, ...]
    kinds: tuple[str, ...]
    jobs_max: int = 1
    lease_ms: int = limits.LEASE_MS_DEFAULT
    wait_ms: int = 0
    """Wait so long for a first job."""


class Started(Command):
    """The holder is about to run these: (job id, token) each. Not answered."""

    leases: list[tuple[bytes, int]]


class Ack(Command):
    """(job id, token, result or nil) each; answered one by one."""

    results: list[tuple[bytes, int, bytes | None]]


class Failure(msgspec.Struct, array_like=True, gc=False):
    job_id: bytes
    token: int
    error: JobError
    retryable: bool = True
    delay_ms: int = -1
    """The holder's own delay before the next attempt; -1 leaves it to the policy."""


class Nack(Command):
    """Failures, answered one by one."""

    failures: list[Failure]


class Return(msgspec.Struct, array_like=True, gc=False):
    job_id: bytes
    token: int
    delay_ms: int = 0
    started: bool = False


class Release(Command):
    """Give jobs back uncharged, answered one by one."""

    jobs: list[Return]


class Extend(Command):
    """Move the end of single-job leases to `lease_ms` from now."""

    leases: list[tuple[bytes, int]]
    lease_ms: int = limits.LEASE_MS_DEFAULT


class Progress(Command):
    """Latest wins, at most two a second a job; not answered."""

    job_id: bytes
    token: int
    progress: bytes


class LogLines(Command):
    """Lines for the job's own log; not answered."""

    job_id: bytes
    token: int
    lines: list[str]


# --- changing jobs


class Cancel(Command):
    job_id: bytes
    reason: str = ""


class Reschedule(Command):
    """A waiting job is due at `run_at_ms`, or `delay_ms` from now; both 0: now."""

    job_id: bytes
    run_at_ms: int = 0
    delay_ms: int = 0


class ChangePriority(Command):
    job_id: bytes
    priority: int


class Revive(Command):
    """A dead or cancelled job waits again: same id, attempt 0, errors kept."""

    job_id: bytes
    delay_ms: int = 0


class Delete(Command):
    """Remove one final or waiting job."""

    job_id: bytes


class Purge(Command):
    """Remove the jobs of these states of a queue, up to 1,000 a call; `more` says: again."""

    queue: str
    states: tuple[int, ...]


class ConfigureQueue(Command):
    queue: str
    settings: QueueSettings


class PauseQueue(Command):
    queue: str


class ResumeQueue(Command):
    queue: str


# --- sessions


class OpenSession(Command):
    """One worker process is known from here on; pushes begin when it has credit."""

    session_id: bytes
    """16 random bytes made by the worker."""
    name: str
    host: str
    pid: int
    build: str
    kinds: tuple[str, ...]
    queues: tuple[str, ...]
    credit: int
    """Most leases it wants to hold at a time."""
    strict: bool = False
    lease_ms: int = limits.LEASE_MS_DEFAULT


class SetCredit(Command):
    session_id: bytes
    credit: int


class Heartbeat(Command):
    """Renews all leases of the session. Not logged."""

    session_id: bytes
    held_count: int = -1
    """-1: this heartbeat says nothing of the leases held."""
    held_digest: int = 0
    """XOR of (first 8 bytes of the id, big-endian) XOR token, over the leases held."""
    loop_lag_ms: int = 0
    """How long the worker's loop has not moved; large values are shown as stalled."""
    stuck_slots: int = 0
    """Slots taken by handlers that outlived their timeout."""


class HeldLease(msgspec.Struct, array_like=True, gc=False):
    job_id: bytes
    token: int
    started: bool = False


class ResumeSession(Command):
    """What the worker holds after a reconnect; the answer says keep, drop or cancel of each."""

    session_id: bytes
    held: list[HeldLease]
    credit: int = 0


class CloseSession(Command):
    """Leases not started go back uncharged; started ones end as `worker_lost`."""

    session_id: bytes
    reason: str = ""


# --- reading


class GetJob(Command):
    job_id: bytes
    with_payload: bool = True


class ListJobs(Command):
    """One page, by queue and state in order of number; `cursor` goes on where a page ended."""

    queue: str = ""
    states: tuple[int, ...] = ()
    kind: str = ""
    tag: str = ""
    enqueued_from_ms: int = 0
    enqueued_before_ms: int = 0
    """0: no bound."""
    limit: int = limits.PAGE_ROWS_DEFAULT
    cursor: bytes = b""


class WaitJob(Command):
    """Answered when the job is final, or after `wait_ms` with the state it has then."""

    job_id: bytes
    wait_ms: int


class Watch(Command):
    """From here on this connection is told, once, of the end of each of these, by FINISHED.

    Of those that are final already it is told at once. The reply names unknown ones. The
    watches end with the connection.
    """

    job_ids: list[bytes]


class ExplainJob(Command):
    job_id: bytes


class GetQueue(Command):
    queue: str


class ListQueues(Command):
    limit: int = limits.PAGE_ROWS_MAX
    cursor: bytes = b""


class ListSessions(Command):
    limit: int = limits.PAGE_ROWS_MAX
    cursor: bytes = b""


class GetStats(Command):
    pass


class Flush(Command):
    """Answered when everything accepted before it is durable."""


# --- of the node itself; never on the wire


class EndedLease(msgspec.Struct, array_like=True, gc=False):
    job_id: bytes
    token: int
    started: bool


class Expire(Command):
    """Leases whose time is over; pairs that have moved on are passed over."""

    leases: list[EndedLease]
    reason: str


class MarkStarted(Command):
    leases: list[tuple[bytes, int]]


class Maintain(Command):
    """One bounded step of promotion, start-by, retention, forgetting and key expiry."""
