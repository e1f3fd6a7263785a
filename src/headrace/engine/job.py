"""The job in memory: small, flat, and without references that could form a cycle.

`gc=False` keeps a million of them out of the collector's sight, which is sound because a
job refers to its spec and to bytes only; queues, lanes and sessions refer to jobs.
"""

from __future__ import annotations

import msgspec

from headrace.model.job import JobExtra, JobSpec, RetryPolicy, State
from headrace.model.rows import Cold, JobRow

SCHEDULED = int(State.SCHEDULED)
BLOCKED = int(State.BLOCKED)
READY = int(State.READY)
LEASED = int(State.LEASED)
SUCCEEDED = int(State.SUCCEEDED)
DEAD = int(State.DEAD)
CANCELLED = int(State.CANCELLED)

GONE = 0
"""Not a state: an object that a lane or timer still holds, but that is no job any more."""

FLAG_STARTED = 1
"""The log knows that the holder started it."""
FLAG_CANCEL_REQUESTED = 2


class Spec(msgspec.Struct, gc=False):
    """What many jobs share, once: interned by the engine, counted by its jobs."""

    wire: JobSpec
    queue: str
    kind: str
    timeout_ms: int
    lanes_no: int
    """Where the engine keeps the lanes of its (queue, kind)."""
    job_count: int = 0


class Job(msgspec.Struct, gc=False):
    """A job that is not final."""

    job_id: bytes
    spec: Spec
    payload: bytes
    state: int
    priority: int
    number: int
    """Order of becoming ready, or of being scheduled; unique in the engine's life."""
    enqueued_at_ms: int
    run_at_ms: int = 0
    attempt: int = 0
    """Claims charged so far; while it runs, the one under way is `attempt + 1`."""
    token: int = 0
    leased_at_ms: int = 0
    session_no: int = 0
    """Holder; 0 is a client without a session."""
    lease_ms: int = 0
    """Of a single-job lease; 0 when the session's heartbeat renews it."""
    flags: int = 0
    cold: bytes | None = None

    def row(self) -> JobRow:
        return JobRow(
            self.job_id,
            self.spec.wire,
            self.payload,
            self.state,
            self.priority,
            self.attempt,
            self.token,
            self.number,
            self.run_at_ms,
            self.enqueued_at_ms,
            self.leased_at_ms,
            self.session_no,
            self.lease_ms,
            self.flags,
            self.cold,
        )

    def successor(self) -> Job:
        """A copy that takes this one's place; this one is gone for whoever still holds it.

        Leaving a deque or a heap from the middle costs no search this way.
        """
        copy = Job(
            self.job_id,
            self.spec,
            self.payload,
            self.state,
            self.priority,
            self.number,
            self.enqueued_at_ms,
            self.run_at_ms,
            self.attempt,
            self.token,
            self.leased_at_ms,
            self.session_no,
            self.lease_ms,
            self.flags,
            self.cold,
        )
        self.state = GONE
        return copy


_COLD_ENCODER = msgspec.msgpack.Encoder()
_COLD_DECODER = msgspec.msgpack.Decoder(Cold)
_NO_EXTRA = JobExtra()


def cold_of(job: Job) -> Cold:
    """Its rare fields, decoded: to read, or to change and hand to the state's `set_cold`."""
    return decode_cold(job.cold)


def decode_cold(packed: bytes | None) -> Cold:
    return Cold() if packed is None else _COLD_DECODER.decode(packed)


def encode_cold(cold: Cold) -> bytes:
    return _COLD_ENCODER.encode(cold)


def held_bytes(job: Job) -> int:
    """What it costs in memory beside its struct: payload and rare fields."""
    return len(job.payload) + (0 if job.cold is None else len(job.cold))


def extra_of(job: Job) -> JobExtra:
    return _NO_EXTRA if job.cold is None else cold_of(job).extra or _NO_EXTRA


def policy_of(job: Job, default: RetryPolicy) -> RetryPolicy:
    return job.spec.wire.retry or default
