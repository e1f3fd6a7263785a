"""The job and its parts, as engine, log and wire share them.

Structs with `array_like=True` are formats: their fields are only ever appended, with
defaults, and never reordered (`spec/wire-protocol.md`, `spec/records.md`).
"""

from __future__ import annotations

import enum

import msgspec

from headrace.model import limits


class State(enum.IntEnum):
    """Where a job stands; the last three are final. Numbers are part of the formats."""

    SCHEDULED = 1
    BLOCKED = 2
    READY = 3
    LEASED = 4
    SUCCEEDED = 5
    DEAD = 6
    CANCELLED = 7

    @property
    def word(self) -> str:
        return self.name.lower()

    @classmethod
    def of_word(cls, word: str) -> State:
        return cls[word.upper()]


FINAL_STATES = frozenset({State.SUCCEEDED, State.DEAD, State.CANCELLED})
WAITING_STATES = frozenset({State.SCHEDULED, State.BLOCKED, State.READY})

NAMESPACE = "default"
"""The only namespace so far; records and wire carry it for those to come."""

BACKOFF_FIXED = 0
BACKOFF_LINEAR = 1
BACKOFF_EXPONENTIAL = 2
BACKOFF_LIST = 3

BACKOFF_WORDS = ("fixed", "linear", "exponential", "list")


class RetryPolicy(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """How often a job is tried, and how long it waits between attempts."""

    attempt_max: int = limits.ATTEMPT_MAX_DEFAULT
    backoff: int = BACKOFF_EXPONENTIAL
    base_ms: int = limits.BACKOFF_BASE_MS_DEFAULT
    factor_percent: int = 200
    """Of `exponential`: each delay is this much of the one before."""
    cap_ms: int = limits.BACKOFF_CAP_MS_DEFAULT
    jitter: bool = True
    """Full jitter: the delay is drawn evenly from 0 to what the policy says."""
    delays_ms: tuple[int, ...] = ()
    """Of `list`: one an attempt, the last one repeated."""
    crash_max: int = limits.CRASH_MAX
    """Attempts that may end with a lost worker; then the job is dead as `crashed`."""


class JobSpec(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What many jobs share; kept once however many jobs have it."""

    queue: str
    kind: str
    media_type: str = "application/json"
    retry: RetryPolicy | None = None
    """None: the policy of the queue."""
    timeout_ms: int = 0
    """Longest run of one attempt; 0 is no limit. Unrelated to the lease."""
    namespace: str = NAMESPACE
    """Of queue, kind and key; so far there is one."""


class JobExtra(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What few jobs have; absent as a whole for the others."""

    key: str = ""
    """Idempotency key; `` is none."""
    key_window_ms: int = limits.KEY_WINDOW_MS_DEFAULT
    start_by_ms: int = 0
    """Unix ms; a job that has not started by then is cancelled. 0 is never."""
    tags: tuple[str, ...] = ()
    headers: dict[str, str] | None = None


class JobError(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What one attempt ended with. Text only; never turned back into an exception."""

    type: str
    message: str = ""
    traceback: str = ""
    at_ms: int = 0
    attempt: int = 0
    worker: str = ""
    retryable: bool = True


class JobHistoryEntry(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One step of a job's life, as the reader of a job sees it."""

    event: str
    at_ms: int
    attempt: int = 0
