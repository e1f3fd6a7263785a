"""Errors to ErrorFrames and back.

Must never turn a code into anything but the one class that stands for it: what a peer
sends names no module and no attribute.
"""

from __future__ import annotations

from headrace.codec.messages import encode_body
from headrace.model.errors import (
    ClientError,
    HeadraceError,
    OutcomeUnknown,
    Unavailable,
    codes,
)
from headrace.model.handshake import ErrorFrame

_CLASSES = codes()


def to_frame(error: HeadraceError) -> ErrorFrame:
    """What the peer is told. Details that cannot travel are left out."""
    details = {name: value for name, value in error.details.items() if name != "index"}
    frame = ErrorFrame(
        code=error.code,
        message=error.message,
        hint=error.hint,
        outcome=error.outcome,
        retry_after_ms=error.retry_after_ms,
        details=details or None,
        index=error.details.get("index", 0),
    )
    try:
        encode_body(frame)
    except (TypeError, ValueError, OverflowError, RecursionError):
        frame.details = None
    return frame


def from_frame(frame: ErrorFrame) -> HeadraceError:
    """The error as this process knows it.

    A code of a later version becomes its family: an unknown outcome stays unknown,
    `retry_after_ms` says that repeating may help, anything else is the caller's to change.
    """
    details = {str(name): value for name, value in (frame.details or {}).items()}
    for name in ("message", "hint", "retry_after_ms"):
        details.pop(name, None)
    found = _CLASSES.get(frame.code)
    if found is None:
        details["code"] = frame.code
        found = _family_of(frame)
    error = found(frame.message, hint=frame.hint, retry_after_ms=frame.retry_after_ms, **details)
    if frame.index:
        error.details["index"] = frame.index
    return error


def _family_of(frame: ErrorFrame) -> type[HeadraceError]:
    if frame.outcome != "refused":
        return OutcomeUnknown
    return Unavailable if frame.retry_after_ms else ClientError
