"""Log time: never back, never still, never led astray by a wall clock that jumps."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.model import limits
from headrace.model.errors import ClockPast
from headrace.runtime.clock import LogClock
from headrace.testing.sim_loop import SimLoopClock

HOUR_MS = 3_600_000


class Hands:
    """The clocks of a machine, moved by the test."""

    def __init__(self) -> None:
        self._now_s = 1_000.0
        self.clock = SimLoopClock(lambda: self._now_s)
        self.events: list[tuple[str, dict[str, Any]]] = []

    def start(self, floor_ms: int = 0) -> LogClock:
        return LogClock(self.clock, floor_ms, lambda event, **facts: self._note(event, facts))

    def _note(self, event: str, facts: dict[str, Any]) -> None:
        self.events.append((event, facts))

    def pass_ms(self, duration_ms: float, log: LogClock | None = None) -> None:
        """Time passes; a log clock that is given is read once a second, as a busy node does."""
        while log is not None and duration_ms > 1_000:
            self._now_s += 1
            log.now_ms()
            duration_ms -= 1_000
        self._now_s += duration_ms / 1000


def test_log_time_is_wall_time_when_nothing_is_wrong() -> None:
    hands = Hands()
    log = hands.start()
    hands.pass_ms(HOUR_MS, log)
    assert abs(log.now_ms() - hands.clock.wall_ms()) <= 2


def test_log_time_begins_where_the_log_ended() -> None:
    hands = Hands()
    floor_ms = hands.clock.wall_ms() + 600_000
    log = hands.start(floor_ms)
    assert log.now_ms() == floor_ms


def test_log_that_is_ahead_runs_slower_until_the_wall_clock_has_caught_up() -> None:
    hands = Hands()
    log = hands.start(hands.clock.wall_ms() + 6_000)
    before_ms = log.now_ms()
    hands.pass_ms(1_000)
    assert log.now_ms() - before_ms == pytest.approx(900, abs=2)
    hands.pass_ms(120_000, log)
    assert abs(log.ahead_of_wall_ms()) <= 2


def test_wall_clock_over_a_day_behind_the_log_is_refused() -> None:
    hands = Hands()
    wall_ms = hands.clock.wall_ms()
    hands.start(wall_ms + limits.CLOCK_BACKWARD_MS_MAX)
    with pytest.raises(ClockPast):
        hands.start(wall_ms + limits.CLOCK_BACKWARD_MS_MAX + 1)


@pytest.mark.parametrize("jump_ms", [-10 * HOUR_MS, -61_000, 61_000, 10 * HOUR_MS])
def test_wall_jump_is_followed_for_a_minute_at_most_and_reported_once(jump_ms: int) -> None:
    hands = Hands()
    log = hands.start()
    true_ms = hands.clock.wall_ms()
    hands.clock.wall_shift_ms += jump_ms
    hands.pass_ms(HOUR_MS, log)
    followed_ms = log.now_ms() - true_ms - HOUR_MS
    assert abs(followed_ms) == pytest.approx(limits.WALL_SLEW_MS_MAX, abs=2)
    assert (followed_ms > 0) == (jump_ms > 0)
    assert [event for event, _ in hands.events] == ["wall_clock_jumped"]


def test_small_correction_is_followed_whole_and_silently() -> None:
    hands = Hands()
    log = hands.start()
    hands.clock.wall_shift_ms += 5_000
    hands.pass_ms(HOUR_MS, log)
    assert abs(log.ahead_of_wall_ms()) <= 2
    assert hands.events == []


def test_suspend_counts_as_time_that_passed() -> None:
    hands = Hands()
    log = hands.start()
    before_ms = log.now_ms()
    hands.clock.suspended_ms += 8 * HOUR_MS
    assert log.now_ms() - before_ms == 8 * HOUR_MS
    assert hands.events == []


_MOVES = st.lists(
    st.tuples(
        st.integers(0, 5_000),
        st.sampled_from([0, 0, 0, -90_000, -100, 100, 90_000]),
        st.sampled_from([0, 0, 0, 3_000]),
    ),
    max_size=60,
)


@given(_MOVES, st.integers(-HOUR_MS, HOUR_MS))
def test_log_time_never_goes_back_and_never_stands_still(
    moves: list[tuple[int, int, int]], floor_offset_ms: int
) -> None:
    hands = Hands()
    log = hands.start(hands.clock.wall_ms() + floor_offset_ms)
    last_ms = log.now_ms()
    for passed_ms, wall_jump_ms, suspended_ms in moves:
        hands.pass_ms(passed_ms)
        hands.clock.wall_shift_ms += wall_jump_ms
        hands.clock.suspended_ms += suspended_ms
        now_ms = log.now_ms()
        advanced_ms, elapsed_ms = now_ms - last_ms, passed_ms + suspended_ms
        assert 0.9 * elapsed_ms - 2 <= advanced_ms <= 1.1 * elapsed_ms + 2
        last_ms = now_ms
