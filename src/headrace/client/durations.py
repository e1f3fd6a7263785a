"""Durations and times as an application writes them, to int milliseconds.

Numbers are seconds here, as everywhere in Python (`asyncio.timeout`, `time.sleep`); below
this edge there are only milliseconds.
"""

from __future__ import annotations

import math
from datetime import datetime, timedelta

from headrace.model.durations import parse_duration_ms
from headrace.model.errors import BadRequest
from headrace.model.limits import DELAY_MS_MAX

Duration = str | float | timedelta
"""Text with units such as `"10m"`, seconds as a number, or a timedelta."""


def duration_ms(duration: Duration, name: str, max_ms: int = DELAY_MS_MAX) -> int:
    """Milliseconds, 0 or more. Raises: `BadRequest` naming `name`."""
    whole: str | int | timedelta
    if isinstance(duration, float):
        if not math.isfinite(duration * 1_000):
            raise BadRequest(f"{name} is {duration} s, which is no duration.")
        whole = round(duration * 1_000)
    elif isinstance(duration, int) and not isinstance(duration, bool):
        whole = duration * 1_000
    else:
        whole = duration
    return parse_duration_ms(whole, name=name, max_ms=max_ms)


def instant_ms(instant: datetime, name: str) -> int:
    """Unix milliseconds. Raises: `BadRequest` for a time without a zone."""
    if instant.tzinfo is None:
        raise BadRequest(
            f"{name} {instant.isoformat()} has no time zone.",
            hint="Use datetime.now(UTC) or datetime(..., tzinfo=...).",
        )
    return round(instant.timestamp() * 1_000)
