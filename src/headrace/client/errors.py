"""What goes wrong on the side of an application, and what a handler raises to steer its job.

None of these travels on the wire: a handler's failure is text there, and is never turned
back into an exception of its own type (that would run code that a stranger named).
"""

from __future__ import annotations

from datetime import timedelta

from headrace.model.errors import ClientError, HeadraceError
from headrace.model.job import JobError


class BadRegistration(ClientError):
    """This function cannot be a job as it stands."""

    code = "bad_request"


class BadArguments(ClientError, TypeError):
    """These arguments do not fit the function; nothing was enqueued."""

    code = "bad_request"


class PayloadMismatch(ClientError):
    """A payload does not fit the function of this worker; trying again cannot help."""

    code = "bad_request"


class NotAwaited(ClientError):
    """A handler returned a coroutine that nobody awaited, so its work was not done."""

    code = "bad_request"


class NotFound(ClientError):
    """The application that was named cannot be loaded."""

    code = "bad_request"


class JobTimedOut(HeadraceError):
    """An attempt ran longer than the job's timeout and was stopped."""

    code = "timeout"


class ChildLost(HeadraceError):
    """The process that ran this attempt ended before it answered."""

    code = "worker_lost"


class ChildFailed(HeadraceError):
    """A handler failed in a child process; `job_error` is its failure as text."""

    code = "job_failed"

    def __init__(self, job_error: JobError, *, retryable: bool, delay_ms: int = -1) -> None:
        super().__init__(f"{job_error.type}: {job_error.message}")
        self.job_error = job_error
        self.retryable = retryable
        self.delay_ms = delay_ms


class JobFailed(HeadraceError):
    """The job is dead; the `remote_` fields are its last error, as text."""

    code = "job_failed"

    def __init__(self, job_id: str, kind: str, reason: str, errors: list[JobError]) -> None:
        last = errors[-1] if errors else JobError(type=reason or "dead")
        self.job_id = job_id
        self.kind = kind
        self.reason = reason
        self.errors = errors
        self.remote_type = last.type
        self.remote_message = last.message
        self.remote_traceback = last.traceback
        what = f"{last.type}: {last.message}" if last.message else last.type
        super().__init__(
            f"Job {job_id} ({kind}) is dead at attempt {max(last.attempt, 1)}: {what.rstrip('.')}.",
            hint=f"`headrace job show {job_id}` shows every error; `job retry` runs it again.",
        )


class JobCancelled(HeadraceError):
    """The job was cancelled before it succeeded."""

    code = "job_cancelled"

    def __init__(self, job_id: str, kind: str, reason: str) -> None:
        self.job_id = job_id
        self.kind = kind
        self.reason = reason
        why = f": {reason}" if reason else ""
        super().__init__(f"Job {job_id} ({kind}) was cancelled{why}.")


# --- raised by handlers


class RetryLater(Exception):
    """`raise RetryLater("5m")`: this attempt failed; the next begins after that delay.

    The attempt is charged, as for any failure, so a job cannot do it for ever.
    To wait without being charged, `ctx.release("5m")`.
    """

    def __init__(self, delay: str | float | timedelta, reason: str = "") -> None:
        super().__init__(reason or f"retry after {delay}")
        self.delay = delay


class GiveUp(Exception):
    """`raise GiveUp("reason")`: the job is dead now, however many attempts are left."""


class Snoozed(BaseException):
    """Ends a handler that asked for release; made by `ctx.release`, not by users.

    A `BaseException`, so that `except Exception` in a handler does not swallow it.
    """

    def __init__(self, delay_ms: int) -> None:
        super().__init__(delay_ms)
        self.delay_ms = delay_ms
