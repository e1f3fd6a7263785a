"""Durations and sizes at the edges: exact, bounded, and refused with a sentence."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.model.durations import (
    SIZE_BYTES_MAX,
    UNIT_BYTES,
    UNIT_MS,
    format_duration,
    format_size,
    parse_duration_ms,
    parse_size_bytes,
)
from headrace.model.errors import BadRequest
from headrace.model.limits import DELAY_MS_MAX


@pytest.mark.parametrize(
    ("value", "expected_ms"),
    [
        ("0s", 0),
        ("500ms", 500),
        ("1s", 1_000),
        ("1.5s", 1_500),
        (" 10 m ", 600_000),
        ("1h30m", 5_400_000),
        ("2d 3h", 183_600_000),
        ("1w", 604_800_000),
        (250, 250),
        (0, 0),
        (timedelta(minutes=2), 120_000),
        (timedelta(milliseconds=7), 7),
    ],
)
def test_duration_is_read_exactly(value: str | int | timedelta, expected_ms: int) -> None:
    assert parse_duration_ms(value) == expected_ms


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("", "no duration"),
        ("10", "no duration"),
        ("m", "no duration"),
        ("-5s", "no duration"),
        ("1e3s", "no duration"),
        ("10 minutes", "no duration"),
        ("٣s", "no duration"),
        ("1s" * 40, "no duration"),
        ("30m1h", "larger first"),
        ("1m1m", "each unit once"),
        ("0.0001s", "finer than a millisecond"),
        (timedelta(microseconds=1), "finer than a millisecond"),
        (timedelta(seconds=-1), "must be from 0s"),
        (-1, "must be from 0s"),
        ("1000000d", "must be from"),
        (True, "not bool"),
        (1.5, "not float"),
        (None, "not NoneType"),
    ],
)
def test_what_is_no_duration_is_refused_with_its_name(value: object, says: str) -> None:
    with pytest.raises(BadRequest) as refused:
        parse_duration_ms(value, name="timeout")  # type: ignore[arg-type]
    assert says in refused.value.message
    assert refused.value.message.startswith("timeout")


def test_bounds_of_a_duration_are_named() -> None:
    assert parse_duration_ms("1s", min_ms=1_000, max_ms=1_000) == 1_000
    with pytest.raises(BadRequest, match="lease must be from 1s to 1d, not '10ms'"):
        parse_duration_ms("10ms", name="lease", min_ms=1_000, max_ms=86_400_000)


@given(st.integers(0, DELAY_MS_MAX))
def test_formatted_duration_is_read_back(duration_ms: int) -> None:
    assert parse_duration_ms(format_duration(duration_ms)) == duration_ms


@given(st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=300)))
def test_timedelta_and_its_milliseconds_agree(delta: timedelta) -> None:
    whole = timedelta(milliseconds=delta // timedelta(milliseconds=1))
    assert parse_duration_ms(whole) == parse_duration_ms(format_duration(parse_duration_ms(whole)))
    assert timedelta(milliseconds=parse_duration_ms(whole)) == whole


@given(st.text(max_size=80))
def test_any_text_is_a_bounded_duration_or_refused(text: str) -> None:
    try:
        duration_ms = parse_duration_ms(text)
    except BadRequest as refused:
        assert len(refused.message) < 200
    else:
        assert 0 <= duration_ms <= DELAY_MS_MAX


@given(
    st.lists(
        st.tuples(st.integers(0, 50), st.sampled_from(list(UNIT_MS))),
        min_size=1,
        unique_by=lambda part: part[1],
    )
)
def test_parts_of_a_duration_add_up(parts: list[tuple[int, str]]) -> None:
    parts.sort(key=lambda part: -UNIT_MS[part[1]])
    text = "".join(f"{count}{unit}" for count, unit in parts)

    assert parse_duration_ms(text) == sum(count * UNIT_MS[unit] for count, unit in parts)


@pytest.mark.parametrize(
    ("value", "expected_bytes"),
    [
        ("0B", 0),
        ("16MiB", 16 << 20),
        ("16 mib", 16 << 20),
        ("1.5KiB", 1_536),
        ("2MB", 2_000_000),
        ("1tib", 1 << 40),
        (4096, 4096),
    ],
)
def test_size_is_read_exactly(value: str | int, expected_bytes: int) -> None:
    assert parse_size_bytes(value) == expected_bytes


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("", "no size"),
        ("16", "no size"),
        ("16M", "no size"),
        ("-1B", "no size"),
        ("1" * 70 + "B", "no size"),
        ("0.5B", "whole number of bytes"),
        (-1, "must be from 0B"),
        ("9999TiB", "must be from"),
        (False, "not bool"),
        (1.0, "not float"),
    ],
)
def test_what_is_no_size_is_refused_with_its_name(value: object, says: str) -> None:
    with pytest.raises(BadRequest) as refused:
        parse_size_bytes(value, name="segment_bytes")  # type: ignore[arg-type]
    assert says in refused.value.message
    assert refused.value.message.startswith("segment_bytes")


@given(st.integers(0, SIZE_BYTES_MAX))
def test_formatted_size_is_read_back(size_bytes: int) -> None:
    assert parse_size_bytes(format_size(size_bytes)) == size_bytes


@given(st.integers(0, 1_000), st.sampled_from(list(UNIT_BYTES)))
def test_size_unit_multiplies(count: int, unit: str) -> None:
    assert parse_size_bytes(f"{count}{unit}") == count * UNIT_BYTES[unit]
