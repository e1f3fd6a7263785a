"""Where, when and under which conditions a job is enqueued: the part beside its payload.

Computed once for a job type or a set of options, and shared by every job enqueued with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TypedDict

import msgspec

from headrace.client.durations import Duration, duration_ms, instant_ms
from headrace.client.errors import BadRegistration
from headrace.client.retry import Retry
from headrace.model import limits
from headrace.model.commands import NewJob
from headrace.model.errors import BadName, BadRequest
from headrace.model.ids import id_from_text, slot_of_queue
from headrace.model.job import JobExtra, JobSpec
from headrace.model.names import check_name


class EnqueueOptions(TypedDict, total=False):
    """What `.options(...)` takes, for one enqueue."""

    delay: Duration
    """From when the server takes it."""
    run_at: datetime
    """Not before this instant; with a time zone. At most one of delay and run_at."""
    priority: int
    """0 to 255, higher runs first inside a queue."""
    queue: str
    retry: Retry
    timeout: Duration | None
    """Longest run of one attempt; None is no limit."""
    key: str
    """Idempotency key: the same key within its window gives the first job again."""
    key_window: Duration
    """From the enqueue, at most seven days; 24 hours when not given."""
    start_by: datetime
    """A job that has not started by then is cancelled; with a time zone."""
    tags: Sequence[str]
    headers: Mapping[str, str]
    job_id: str
    """A UUID of your own; the same id with the same content is the same job."""


class Placement(msgspec.Struct, frozen=True):
    spec: JobSpec
    slot: int
    priority: int = limits.PRIORITY_DEFAULT
    run_at_ms: int = 0
    delay_ms: int = 0
    extra: JobExtra | None = None
    job_id: bytes = b""

    def new_job(self, payload: bytes) -> NewJob:
        """As it is sent; the id, where none was given, is made when it leaves."""
        return NewJob(
            self.job_id, 0, payload, self.priority, self.run_at_ms, self.delay_ms, self.extra
        )

    def with_options(self, options: EnqueueOptions) -> Placement:
        """Raises: `BadRequest` naming the option that is wrong."""
        unknown = set(options) - EnqueueOptions.__annotations__.keys()
        if unknown:
            raise BadRequest(
                f"Unknown option(s): {', '.join(sorted(unknown))}.",
                hint=f"There are: {', '.join(sorted(EnqueueOptions.__annotations__))}.",
            )
        if "delay" in options and "run_at" in options:
            raise BadRequest("Give delay or run_at, not both.")
        spec = self._spec_with(options)
        run_at_ms, delay_ms = self.run_at_ms, self.delay_ms
        if "run_at" in options:
            run_at_ms, delay_ms = instant_ms(options["run_at"], "run_at"), 0
        elif "delay" in options:
            run_at_ms, delay_ms = 0, duration_ms(options["delay"], "delay")
        return Placement(
            spec,
            slot_of_queue(spec.queue),
            checked_priority(options.get("priority", self.priority)),
            run_at_ms,
            delay_ms,
            self._extra_with(options),
            id_from_text(options["job_id"]) if "job_id" in options else self.job_id,
        )

    def _spec_with(self, options: EnqueueOptions) -> JobSpec:
        changes: dict[str, object] = {}
        if "queue" in options:
            changes["queue"] = checked_name(options["queue"], "queue")
        if "retry" in options:
            changes["retry"] = options["retry"].policy()
        if "timeout" in options:
            changes["timeout_ms"] = timeout_ms(options["timeout"])
        # The same object when nothing changes: jobs of one frame share specs by identity.
        return msgspec.structs.replace(self.spec, **changes) if changes else self.spec

    def _extra_with(self, options: EnqueueOptions) -> JobExtra | None:
        changes: dict[str, object] = {}
        if "key" in options:
            changes["key"] = options["key"]
        if "key_window" in options:
            changes["key_window_ms"] = duration_ms(
                options["key_window"], "key_window", limits.KEY_WINDOW_MS_MAX
            )
        if "start_by" in options:
            changes["start_by_ms"] = instant_ms(options["start_by"], "start_by")
        if "tags" in options:
            changes["tags"] = tuple(options["tags"])
        if "headers" in options:
            changes["headers"] = dict(options["headers"])
        if not changes:
            return self.extra
        return msgspec.structs.replace(self.extra or JobExtra(), **changes)


def checked_priority(priority: int) -> int:
    if not 0 <= priority <= limits.PRIORITY_MAX:
        raise BadRequest(f"priority is {priority}; it must be 0 to {limits.PRIORITY_MAX}.")
    return priority


def checked_name(name: str, what: str) -> str:
    """A queue or kind, refused here so that the fault shows where it was written."""
    try:
        check_name(what, name)
    except BadName as error:
        raise BadRegistration(error.message) from error
    return name


def timeout_ms(timeout: Duration | None) -> int:
    """0 for no limit."""
    return 0 if timeout is None else duration_ms(timeout, "timeout", limits.TIMEOUT_MS_MAX)
