"""Times as people read and write them: how long ago, and when."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from headrace.cli.exits import UsageFault
from headrace.model.durations import format_duration, parse_duration_ms, parse_size_bytes
from headrace.model.errors import BadRequest

_DIGITS_MAX = 32
"""More are no size, and Python refuses to read very many."""


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def ago(at_ms: int, now: int) -> str:
    """`3m12s ago`, `in 5s`; `` for a time that is not there."""
    if not at_ms:
        return ""
    distance_ms = now - at_ms
    shown = roughly(abs(distance_ms))
    return f"in {shown}" if distance_ms < 0 else f"{shown} ago"


def roughly(duration_ms: int) -> str:
    """To the second above a second, to the minute above an hour, to the hour above two days."""
    for above_ms, unit_ms in ((172_800_000, 3_600_000), (3_600_000, 60_000), (1_000, 1_000)):
        if duration_ms >= above_ms:
            return format_duration(duration_ms // unit_ms * unit_ms)
    return format_duration(duration_ms)


def stamp(at_ms: int) -> str:
    """In the time zone of this machine, to the millisecond; `` for a time that is not there."""
    if not at_ms:
        return ""
    try:
        moment = datetime.fromtimestamp(at_ms / 1_000, UTC).astimezone()
    except (ValueError, OverflowError, OSError):
        return f"{at_ms} ms"  # of no year that a calendar has
    return moment.isoformat(sep=" ", timespec="milliseconds")


def duration_option(text: str | None, name: str) -> int:
    """Milliseconds; 0 when not given. Raises: `UsageFault`."""
    if text is None:
        return 0
    try:
        return parse_duration_ms(text, name=f"--{name}")
    except BadRequest as error:
        raise UsageFault(error.message) from error


def size_option(text: str, name: str) -> int:
    """Bytes. A bare number is bytes, too. Raises: `UsageFault`."""
    try:
        is_number = text.isdecimal() and len(text) <= _DIGITS_MAX
        return parse_size_bytes(int(text) if is_number else text, name=f"--{name}")
    except BadRequest as error:
        raise UsageFault(error.message) from error


def instant_option(text: str | None, name: str, *, ahead: bool = False) -> int:
    """Unix ms of `2026-01-31T12:00:00+01:00`, or of `10m`: so long ago, or `ahead` from now;
    0 when not given."""
    if text is None:
        return 0
    if text[:4].isdigit() and "-" in text:
        try:
            moment = datetime.fromisoformat(text)
        except ValueError as error:
            raise UsageFault(f"--{name} {text!r} is no time: {error}.") from error
        if moment.tzinfo is None:
            raise UsageFault(
                f"--{name} {text!r} has no time zone.", hint="Add an offset, such as +01:00 or Z."
            )
        return round(moment.timestamp() * 1_000)
    try:
        duration_ms = parse_duration_ms(text, name=name)
    except BadRequest as error:
        raise UsageFault(
            f"--{name} {text!r} is neither a time, as 2026-01-31T12:00:00Z, nor a duration, as 10m."
        ) from error
    return now_ms() + (duration_ms if ahead else -duration_ms)
