"""Back-pressure: what may still come in while the disk is behind.

New work (enqueue, claim) is refused with `overloaded` once the answers and bytes that wait
for the disk reach their bounds. What ends work (acks, nacks, releases, heartbeats …) has
room of its own beyond that: refusing it would keep jobs leased, and the load up.

Disk room is apart: too little of it refuses new jobs with `disk_full`, nothing else,
since acks are what makes room again. `memory_full` is the engine's.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import cast

from headrace.model.commands import Ack, Enqueue, NewJob
from headrace.model.errors import DiskFull, Overloaded, Unavailable
from headrace.model.limits import (
    DISK_CHECK_MS,
    PENDING_BYTES_MAX,
    PENDING_COMMANDS_MAX,
    PENDING_RESERVE_PERCENT,
)

Refusal = Callable[[], Unavailable]
"""Makes a fresh error: an exception that is raised twice keeps growing."""

_RESERVED = 100 + PENDING_RESERVE_PERCENT
_RETRY_MS_MIN = 20
_RETRY_MS_MAX = 1_000
_JOB_BYTES = 64
"""What a job takes in a commit beside its payload."""


class Budget:
    """Counts nothing by itself: it is asked with what waits now."""

    def __init__(self) -> None:
        self.room_bytes = 1
        """Of the log; at most 0: no new jobs."""
        self.commit_ms = 0.0
        """How long commits take, smoothed: what a refused client is told to wait."""

    def note_commit(self, total_ms: float) -> None:
        self.commit_ms += (total_ms - self.commit_ms) / 8

    def new_refusal(self, waiting: int, waiting_bytes: int) -> Refusal | None:
        """How new work is refused; None: it may come in."""
        if waiting >= PENDING_COMMANDS_MAX or waiting_bytes >= PENDING_BYTES_MAX:
            return partial(self._overloaded, waiting, waiting_bytes)
        return None

    def ending_refusal(self, waiting: int, waiting_bytes: int) -> Refusal | None:
        """How ends of work are refused, once even their own room is used up."""
        if (
            waiting * 100 >= PENDING_COMMANDS_MAX * _RESERVED
            or waiting_bytes * 100 >= PENDING_BYTES_MAX * _RESERVED
        ):
            return partial(self._overloaded, waiting, waiting_bytes)
        return None

    def _overloaded(self, waiting: int, waiting_bytes: int) -> Overloaded:
        retry_ms = max(_RETRY_MS_MIN, min(_RETRY_MS_MAX, int(2 * self.commit_ms)))
        return Overloaded(
            f"{waiting} answers and {waiting_bytes} bytes wait for the disk.",
            hint="Try again after retry_after_ms, with fewer calls at a time.",
            retry_after_ms=retry_ms,
        )


def disk_full() -> DiskFull:
    return DiskFull(
        "The disk is nearly full: no new jobs until there is room.",
        hint="Free space on the file system of the data directory. Acks are still taken.",
        retry_after_ms=DISK_CHECK_MS,
    )


def size_of(command: Enqueue | Ack) -> int:
    """About the bytes that the command brings into the log."""
    if type(command) is Enqueue:
        jobs = command.jobs
        return _size_of_job(jobs[0]) if len(jobs) == 1 else sum(map(_size_of_job, jobs))
    return _size_of_ack(cast(Ack, command))


def _size_of_job(job: NewJob) -> int:
    size_bytes = len(job.payload) + _JOB_BYTES
    extra = job.extra
    if extra is not None:
        size_bytes += _JOB_BYTES + len(extra.key) + sum(map(len, extra.tags))
        if extra.headers:
            size_bytes += sum(len(name) + len(value) for name, value in extra.headers.items())
    return size_bytes


def _size_of_ack(command: Ack) -> int:
    return sum(len(result) for _, _, result in command.results if result is not None)
