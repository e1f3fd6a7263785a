"""JobContext: what a handler can know and say of the job it runs.

A parameter annotated `JobContext` gets it. All of it may be used from the handler's own
thread; nothing of it waits for the server.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, NoReturn, Protocol

import msgspec

from headrace.client.durations import Duration, duration_ms
from headrace.client.errors import Snoozed
from headrace.model import limits
from headrace.model.errors import PayloadTooLarge
from headrace.model.ids import id_to_text

_NO_HEADERS: Mapping[str, str] = MappingProxyType({})


class JobFacts(msgspec.Struct, gc=False):
    """What the server told of a job; also what a child process is told."""

    job_id: bytes
    token: int
    kind: str
    queue: str
    attempt: int
    attempt_max: int
    timeout_ms: int = 0
    priority: int = limits.PRIORITY_DEFAULT
    tags: tuple[str, ...] = ()
    headers: dict[str, str] | None = None
    snooze_count: int = 0


class Reporter(Protocol):
    """Where a running job's words go. Callable from any thread; never waits."""

    def wall_ms(self) -> int: ...

    def progress(self, facts: JobFacts, progress: bytes) -> None: ...

    def log_line(self, facts: JobFacts, line: str) -> None: ...


class JobContext:
    """One attempt of one job, for as long as it runs."""

    __slots__ = ("_cancelled", "_facts", "_reporter", "_started_at_ms")

    def __init__(self, facts: JobFacts, reporter: Reporter) -> None:
        self._facts = facts
        self._reporter = reporter
        self._started_at_ms = reporter.wall_ms()
        self._cancelled = False

    @property
    def id(self) -> str:
        """The job's id, the same in every attempt: use it to make side effects repeatable."""
        return id_to_text(self._facts.job_id)

    @property
    def token(self) -> int:
        """Grows with every claim of this job: a fence for writes to other systems."""
        return self._facts.token

    @property
    def kind(self) -> str:
        return self._facts.kind

    @property
    def queue(self) -> str:
        return self._facts.queue

    @property
    def attempt(self) -> int:
        """1 for the first."""
        return self._facts.attempt

    @property
    def attempt_max(self) -> int:
        return self._facts.attempt_max

    @property
    def priority(self) -> int:
        return self._facts.priority

    @property
    def tags(self) -> tuple[str, ...]:
        return self._facts.tags

    @property
    def headers(self) -> Mapping[str, str]:
        return self._facts.headers or _NO_HEADERS

    @property
    def snooze_count(self) -> int:
        """How often a running attempt of this job was released."""
        return self._facts.snooze_count

    @property
    def deadline(self) -> datetime | None:
        """When this attempt is stopped; None without a timeout."""
        if not self._facts.timeout_ms:
            return None
        return datetime.fromtimestamp((self._started_at_ms + self._facts.timeout_ms) / 1_000, UTC)

    @property
    def cancelled(self) -> bool:
        """True once the job was cancelled or timed out, or the worker must stop.

        An async handler gets `CancelledError` as well; a handler in a thread cannot be
        stopped, so a long one should look here and return.
        """
        return self._cancelled

    def progress(self, value: Any) -> None:
        """The newest value is shown with the job, at most two a second; anything JSON.

        Raises: `PayloadTooLarge` over 4 KiB.
        """
        encoded = msgspec.json.encode(value)
        if len(encoded) > limits.PROGRESS_BYTES_MAX:
            raise PayloadTooLarge(
                f"Progress of job {self.id} has {len(encoded)} bytes; "
                f"at most {limits.PROGRESS_BYTES_MAX} are kept."
            )
        self._reporter.progress(self._facts, encoded)

    def log(self, line: str) -> None:
        """Adds a line to the job's own log: the last 200 are kept, each cut at 1 KiB."""
        cut = str(line).encode("utf-8", "replace")[: limits.JOB_LOG_LINE_BYTES_MAX]
        self._reporter.log_line(self._facts, cut.decode("utf-8", "ignore"))

    def release(self, delay: Duration = 0) -> NoReturn:
        """Ends the handler here; the job runs again after `delay`, and no attempt is charged.

        At most 1,000 times a job. Raises: always.
        """
        raise Snoozed(duration_ms(delay, "delay"))

    def mark_cancelled(self) -> None:
        """Of the worker: `cancelled` is true from now on."""
        self._cancelled = True
