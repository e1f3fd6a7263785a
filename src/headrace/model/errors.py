"""Every refusal and failure that headrace names, with its wire code.

Three families (`spec/errors.md`): `ClientError` (the request is at fault; never repeat
it unchanged), `Unavailable` (try again later; carries `retry_after_ms`), and
`LogCorrupt` and its relatives, the stop codes (an operator must look).
`UnsupportedVersion` and `FormatNewer` are no corruption.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar


class HeadraceError(Exception):
    """Base of all. `code` is the word on the wire; never removed, never reused."""

    code: ClassVar[str] = "internal"
    outcome: ClassVar[str] = "refused"
    """`refused`: certainly nothing changed. `unknown`: it may or may not have happened."""

    def __init__(
        self, message: str = "", *, hint: str = "", retry_after_ms: int = 0, **details: Any
    ) -> None:
        super().__init__(message or (type(self).__doc__ or "").strip().splitlines()[0])
        self.message = str(self.args[0])
        self.hint = hint
        self.retry_after_ms = retry_after_ms
        self.details = details
        self.index = 0
        """Last index of the log that this refusal observed; set by the node."""

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()


# --- the request is at fault


class ClientError(HeadraceError):
    """The request cannot be granted; repeating it unchanged will not help."""

    code = "bad_request"


class BadRequest(ClientError):
    """The request is not well formed."""

    code = "bad_request"


class BadName(ClientError):
    """A queue or kind needs 1-128 bytes of UTF-8, no control characters, no leading `$`."""

    code = "bad_name"


class IdConflict(ClientError):
    """This job id already names a job with other content."""

    code = "id_conflict"


class KeyConflict(ClientError):
    """This idempotency key was used with another payload within its window."""

    code = "key_conflict"


class UnknownJob(ClientError):
    """No job has this id, or retention has forgotten it."""

    code = "unknown_job"


class UnknownQueue(ClientError):
    """No queue has this name; queues appear when they are first used."""

    code = "unknown_queue"


class UnknownSession(ClientError):
    """No session has this id; open one first."""

    code = "unknown_session"


class WrongState(ClientError):
    """The job's state does not allow this."""

    code = "wrong_state"


class StaleLease(ClientError):
    """The lease that this call names has ended; the job belongs to somebody else now."""

    code = "stale_lease"


class PayloadTooLarge(ClientError):
    """A payload, result or field of a job exceeds its limit."""

    code = "payload_too_large"


class BatchTooLarge(ClientError):
    """A call exceeds 10,000 jobs or 8 MiB."""

    code = "batch_too_large"


class FrameTooLarge(ClientError):
    """A frame exceeds the limit announced in WELCOME."""

    code = "frame_too_large"


class LimitReached(ClientError):
    """A bound on the number of queues, keys, sessions, watches or snoozes is reached."""

    code = "limit_reached"


class UnsupportedVersion(ClientError):
    """The peers have no protocol version in common."""

    code = "unsupported_version"


class Unsupported(ClientError):
    """This server does not offer that."""

    code = "unsupported"


class Unauthenticated(ClientError):
    """The server wants a token and got none, or a wrong one."""

    code = "unauthenticated"


class Forbidden(ClientError):
    """The token does not allow this."""

    code = "forbidden"


# --- try again


class Unavailable(HeadraceError):
    """The server cannot do this now; try again after `retry_after_ms`."""

    code = "overloaded"


class Overloaded(Unavailable):
    """More is waiting for the disk than the limit allows."""

    code = "overloaded"


class DiskFull(Unavailable):
    """The disk is nearly full: new jobs are refused, acks are still taken."""

    code = "disk_full"


class MemoryFull(Unavailable):
    """Waiting jobs fill the memory they may use."""

    code = "memory_full"


class Draining(Unavailable):
    """The server is stopping; it takes no new work."""

    code = "draining"


class NotLeader(Unavailable):
    """Another node leads; `details["addresses"]` names it."""

    code = "not_leader"


class OwnerUnresponsive(Unavailable):
    """The process that owns the data directory lives but does not answer."""

    code = "owner_unresponsive"


class CannotConnect(Unavailable):
    """No server answers at this address."""

    code = "cannot_connect"


# --- nobody knows


class OutcomeUnknown(HeadraceError):
    """The connection or the log was lost before the answer came: it may have happened."""

    code = "outcome_unknown"
    outcome = "unknown"


class Internal(HeadraceError):
    """A bug in headrace; please report it."""

    code = "internal"
    outcome = "unknown"


# --- an operator must look (stop codes; never on the wire)


class StopError(HeadraceError):
    """The server must not run on this data. `stop_code` is what operators search for."""

    code = "internal"
    stop_code: ClassVar[str] = "E-IO"
    exit_code: ClassVar[int] = 78

    def __str__(self) -> str:
        return f"{self.stop_code}: {super().__str__()}"


class LogCorrupt(StopError):
    """A damaged place lies before later, durable data."""

    stop_code = "E-WAL-CORRUPT"


class LogGap(StopError):
    """A segment is missing, or does not follow its predecessor."""

    stop_code = "E-WAL-GAP"


class LogTailLost(StopError):
    """The log ends before a commit that was known to be durable."""

    stop_code = "E-WAL-TAIL"


class NoSnapshot(StopError):
    """No snapshot is usable and the log does not reach back to the beginning."""

    stop_code = "E-SNAP-NONE"


class ReplayDiverged(StopError):
    """Replaying the log does not give the state that it describes."""

    stop_code = "E-REPLAY-DIVERGED"


class FormatNewer(StopError):
    """The data was written by a newer headrace."""

    stop_code = "E-FORMAT-NEWER"


class Locked(StopError):
    """Another process uses this data directory."""

    stop_code = "E-LOCKED"
    exit_code = 75


class IdMismatch(StopError):
    """Files of another node or cluster lie in this data directory."""

    stop_code = "E-ID-MISMATCH"


class SyncFailed(StopError):
    """The disk could not make a commit durable."""

    stop_code = "E-FSYNC"
    exit_code = 74


class DiskFailed(StopError):
    """The disk returned an I/O error."""

    stop_code = "E-IO"
    exit_code = 74


class ClockPast(StopError):
    """The wall clock is far behind the time in the log."""

    stop_code = "E-CLOCK-PAST"


class UnsafeDirectory(StopError):
    """The data directory may not be used as it is: its owner, mode or file system."""

    stop_code = "E-DIRECTORY"


class CurrentDamaged(StopError):
    """`meta/CURRENT` cannot be read; `headrace repair` can rebuild it."""

    stop_code = "E-CURRENT"


# --- the configuration is at fault (never on the wire)


class BadSettings(HeadraceError):
    """The configuration cannot be used; `faults` names all that is wrong, a sentence each."""

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = tuple(faults)


# --- bugs


class InvariantViolated(HeadraceError):
    """Something that must always hold does not: the node stops rather than go on."""


def invariant(condition: object, sentence: str, **facts: object) -> None:
    """Nothing when `condition` holds; else `InvariantViolated` with the facts. Never disabled."""
    if not condition:
        shown = ", ".join(f"{name}={value!r}" for name, value in facts.items())
        raise InvariantViolated(f"violated: {sentence} ({shown})")


def codes() -> dict[str, type[HeadraceError]]:
    """Wire code → the class that stands for it in this process; one class a code."""
    found: dict[str, type[HeadraceError]] = {}
    waiting: list[type[HeadraceError]] = [ClientError, Unavailable, OutcomeUnknown, Internal]
    while waiting:
        error = waiting.pop(0)
        if "code" in error.__dict__ and error not in (ClientError, Unavailable):
            found.setdefault(error.code, error)
        waiting.extend(error.__subclasses__())
    return found
