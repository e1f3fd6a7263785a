"""Times as people read and write them."""

from __future__ import annotations

import pytest

from headrace.cli.exits import UsageFault
from headrace.cli.times import ago, duration_option, instant_option, now_ms, roughly, size_option

HOUR_MS = 3_600_000


@pytest.mark.parametrize(
    ("duration_ms", "expected"),
    [
        (0, "0s"),
        (999, "999ms"),
        (1_999, "1s"),
        (65_432, "1m5s"),
        (HOUR_MS + 65_432, "1h1m"),
        (50 * HOUR_MS + 65_432, "2d2h"),
    ],
)
def test_durations_are_as_exact_as_their_size_asks_for(duration_ms: int, expected: str) -> None:
    assert roughly(duration_ms) == expected


def test_past_and_future_are_told_apart() -> None:
    assert ago(1_000, 6_000) == "5s ago"
    assert ago(6_000, 1_000) == "in 5s"
    assert ago(0, 1_000) == ""


def test_instant_is_a_time_with_offset_or_so_long_ago() -> None:
    assert instant_option("1970-01-01T01:00:01+01:00", "since") == 1_000
    assert instant_option("1970-01-01T00:00:01Z", "since") == 1_000
    assert abs(now_ms() - 600_000 - instant_option("10m", "since")) < 10_000
    assert abs(now_ms() + 600_000 - instant_option("10m", "start-by", ahead=True)) < 10_000
    assert instant_option(None, "since") == 0


@pytest.mark.parametrize("text", ["2026-13-01T00:00:00Z", "2026-01-01T00:00:00", "soon", "5"])
def test_what_is_no_instant_names_its_option(text: str) -> None:
    with pytest.raises(UsageFault, match="--since"):
        instant_option(text, "since")


def test_size_is_bytes_with_or_without_a_unit() -> None:
    assert size_option("100", "payload") == 100
    assert size_option("4KiB", "payload") == 4_096
    with pytest.raises(UsageFault, match="--payload"):
        size_option("4 furlongs", "payload")


def test_duration_needs_a_unit() -> None:
    assert duration_option("1h30m", "delay") == 5_400_000
    with pytest.raises(UsageFault, match="--delay"):
        duration_option("90", "delay")
