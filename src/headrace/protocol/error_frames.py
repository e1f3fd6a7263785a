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
    frame = ErrorFrame(
        code=error.code,
        message=error.message,
        hint=error.hint,
        outcome=error.outcome,
        retry_after_ms=error.retry_after_ms,
        details=error.details or None,
        index=error.index,
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
    found = _CLASSES.get(frame.code) or _family_of(frame)
    error = found(frame.message, hint=frame.hint, retry_after_ms=frame.retry_after_ms)
    error.details.update(frame.details or {})
    if frame.code not in _CLASSES:
        error.details["code"] = frame.code
    error.index = frame.index
    return error


def _family_of(frame: ErrorFrame) -> type[HeadraceError]:
    if frame.outcome != "refused":
        return OutcomeUnknown
    return Unavailable if frame.retry_after_ms else ClientError
