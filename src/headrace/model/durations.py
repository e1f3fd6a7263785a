"""Durations and sizes as people write them: `"10m"` and `"16MiB"`, at the edges only.

Inside, and on wire and disk, a duration is an int of milliseconds and a size an int of
bytes. Arithmetic is exact: a text that is no whole number of them is refused rather than
rounded, and a bare number in a text is refused because its unit would be a guess.
"""

from __future__ import annotations

import re
from datetime import timedelta
from decimal import Context, Decimal, localcontext

from headrace.model.errors import BadRequest
from headrace.model.limits import DELAY_MS_MAX

UNIT_MS = {
    "w": 7 * 24 * 3600 * 1000,
    "d": 24 * 3600 * 1000,
    "h": 3600 * 1000,
    "m": 60 * 1000,
    "s": 1000,
    "ms": 1,
}
UNIT_BYTES = {
    "B": 1,
    "KiB": 1 << 10,
    "MiB": 1 << 20,
    "GiB": 1 << 30,
    "TiB": 1 << 40,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
}
SIZE_BYTES_MAX = 1 << 50
_TEXT_CHARACTERS_MAX = 64
_EXACT = Context(prec=2 * _TEXT_CHARACTERS_MAX)
"""Holds every digit of the longest text times the largest unit."""
_INT_BITS_SHOWN_MAX = 128
"""Python refuses to write out an int of many thousand digits."""
_PART = r"(\d+(?:\.\d+)?)\s*(ms|w|d|h|m|s)"
_DURATION = re.compile(rf"(?:{_PART}\s*)+", re.ASCII)
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]i?B|B)", re.ASCII | re.IGNORECASE)
_SIZE_UNITS = {unit.lower(): factor for unit, factor in UNIT_BYTES.items()}


def parse_duration_ms(
    value: str | int | timedelta,
    *,
    name: str = "duration",
    min_ms: int = 0,
    max_ms: int = DELAY_MS_MAX,
) -> int:
    """Milliseconds: of a text such as `"1h30m"`, of a timedelta, or as given in an int.

    Units are w, d, h, m, s, ms, each at most once and the larger first. `name` is the
    argument as the user knows it. Raises: `BadRequest`.
    """
    if isinstance(value, timedelta):
        whole_ms, rest = divmod(value, timedelta(milliseconds=1))
        if rest:
            raise BadRequest(f"{name} {value!r} is finer than a millisecond.")
    elif isinstance(value, int) and not isinstance(value, bool):
        whole_ms = value
    elif isinstance(value, str):
        whole_ms = _duration_text_ms(value, name)
    else:
        raise BadRequest(
            f"{name} must be a text, whole milliseconds or a timedelta, not {type(value).__name__}."
        )
    if not min_ms <= whole_ms <= max_ms:
        raise BadRequest(
            f"{name} must be from {format_duration(min_ms)} to {format_duration(max_ms)},"
            f" not {_shown(value)}."
        )
    return whole_ms


def _duration_text_ms(text: str, name: str) -> int:
    stripped = text.strip()
    if len(stripped) > _TEXT_CHARACTERS_MAX or not _DURATION.fullmatch(stripped):
        raise BadRequest(f'{name} {_shown(text)} is no duration; write it as "10m" or "1h30m".')
    parts = re.findall(_PART, stripped, re.ASCII)
    sizes = [UNIT_MS[unit] for _, unit in parts]
    if sizes != sorted(set(sizes), reverse=True):
        raise BadRequest(f"{name} {_shown(text)}: each unit once, the larger first.")
    with localcontext(_EXACT):
        exact_ms = sum(Decimal(number) * UNIT_MS[unit] for number, unit in parts)
    if exact_ms != int(exact_ms):
        raise BadRequest(f"{name} {_shown(text)} is finer than a millisecond.")
    return int(exact_ms)


def format_duration(duration_ms: int) -> str:
    """The shortest text that `parse_duration_ms` reads back; weeks are shown as days."""
    if duration_ms < 0:
        return f"-{format_duration(-duration_ms)}"
    parts = []
    for unit in ("d", "h", "m", "s", "ms"):
        count, duration_ms = divmod(duration_ms, UNIT_MS[unit])
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


def parse_size_bytes(
    value: str | int, *, name: str = "size", min_bytes: int = 0, max_bytes: int = SIZE_BYTES_MAX
) -> int:
    """Bytes: of a text such as `"16MiB"` (1024s) or `"16MB"` (1000s), or as given in an int.

    Raises: `BadRequest`.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        size_bytes = value
    elif isinstance(value, str):
        size_bytes = _size_text_bytes(value, name)
    else:
        raise BadRequest(f"{name} must be a text or whole bytes, not {type(value).__name__}.")
    if not min_bytes <= size_bytes <= max_bytes:
        raise BadRequest(
            f"{name} must be from {format_size(min_bytes)} to {format_size(max_bytes)},"
            f" not {_shown(value)}."
        )
    return size_bytes


def _size_text_bytes(text: str, name: str) -> int:
    stripped = text.strip()
    match = _SIZE.fullmatch(stripped) if len(stripped) <= _TEXT_CHARACTERS_MAX else None
    if match is None:
        raise BadRequest(f'{name} {_shown(text)} is no size; write it as "16MiB" or "500KB".')
    with localcontext(_EXACT):
        exact_bytes = Decimal(match[1]) * _SIZE_UNITS[match[2].lower()]
    if exact_bytes != int(exact_bytes):
        raise BadRequest(f"{name} {_shown(text)} is no whole number of bytes.")
    return int(exact_bytes)


def format_size(size_bytes: int) -> str:
    """The text in the largest unit of 1024s that needs no fraction."""
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        if size_bytes and size_bytes % UNIT_BYTES[unit] == 0:
            return f"{size_bytes // UNIT_BYTES[unit]}{unit}"
    return f"{size_bytes}B"


def _shown(value: object) -> str:
    if isinstance(value, int) and value.bit_length() > _INT_BITS_SHOWN_MAX:
        return f"a number of {value.bit_length()} bits"
    text = repr(value)
    return text if len(text) <= _TEXT_CHARACTERS_MAX else f"{text[:_TEXT_CHARACTERS_MAX]}…"
