"""Retry policies and durations as an application writes them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from headrace.client.durations import duration_ms, instant_ms
from headrace.client.retry import Retry
from headrace.model.errors import BadRequest
from headrace.model.job import RetryPolicy


def test_defaults_are_those_of_the_engine() -> None:
    assert Retry().policy() == RetryPolicy()


def test_fields_become_milliseconds_and_percent() -> None:
    retry = Retry(attempts=3, backoff="linear", base="1s", factor=1.5, cap="10m", jitter=False)

    assert retry.policy() == RetryPolicy(3, 1, 1_000, 150, 600_000, False)


def test_list_of_delays_replaces_the_backoff() -> None:
    policy = Retry(delays=["1m", 30, timedelta(hours=1)]).policy()

    assert (policy.backoff, policy.delays_ms) == (3, (60_000, 30_000, 3_600_000))


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"attempts": 0}, "attempts"),
        ({"attempts": 1_001}, "attempts"),
        ({"backoff": "random"}, "backoff"),
        ({"factor": 0.5}, "factor"),
        ({"base": "soon"}, "base"),
        ({"cap": -1}, "cap"),
        ({"delays": ["1s"] * 65}, "delays"),
    ],
)
def test_wrong_field_is_named(fields: dict[str, Any], named: str) -> None:
    with pytest.raises(BadRequest, match=named):
        Retry(**fields).policy()


@pytest.mark.parametrize(
    ("retry", "error", "retryable"),
    [
        (Retry(), ValueError(), True),
        (Retry(give_up_on=(ValueError,)), ValueError(), False),
        (Retry(give_up_on=(ValueError,)), UnicodeError(), False),
        (Retry(retry_on=(OSError,)), ConnectionError(), True),
        (Retry(retry_on=(OSError,)), ValueError(), False),
        (Retry(retry_on=(OSError,), give_up_on=(BrokenPipeError,)), BrokenPipeError(), False),
    ],
)
def test_exceptions_decide_whether_another_attempt_can_help(
    retry: Retry, error: Exception, retryable: bool
) -> None:
    assert retry.is_retryable(error) is retryable


@pytest.mark.parametrize(
    ("duration", "ms"),
    [("1h30m", 5_400_000), (2, 2_000), (0.25, 250), (timedelta(days=1), 86_400_000)],
)
def test_numbers_are_seconds_and_texts_have_units(duration: Any, ms: int) -> None:
    assert duration_ms(duration, "delay") == ms


@pytest.mark.parametrize("duration", ["10", "", "soon", -1, True, None, [1]])
def test_what_is_no_duration_is_refused_by_name(duration: Any) -> None:
    with pytest.raises(BadRequest, match="delay"):
        duration_ms(duration, "delay")


def test_instant_needs_a_time_zone() -> None:
    assert instant_ms(datetime(1970, 1, 2, tzinfo=UTC), "run_at") == 86_400_000
    with pytest.raises(BadRequest, match="run_at"):
        instant_ms(datetime(2026, 1, 1), "run_at")
