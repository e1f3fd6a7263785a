"""Coarse deadlines against a naive list."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from headrace.model.limits import DEADLINE_STEP_MS
from headrace.runtime.wheel import Wheel

STEP_NS = DEADLINE_STEP_MS * 1_000_000


@given(st.lists(st.integers(0, 50 * STEP_NS), max_size=50), st.integers(1, 10))
def test_entries_come_once_not_early_and_at_most_a_step_late(
    deadlines: list[int], hops: int
) -> None:
    wheel: Wheel[int] = Wheel()
    for number, deadline_ns in enumerate(deadlines):
        wheel.add(deadline_ns, number)
    seen: list[int] = []
    for now_ns in range(0, 52 * STEP_NS, hops * STEP_NS // 2 or 1):
        while (number := wheel.pop_due(now_ns)) is not None:
            assert deadlines[number] <= now_ns
            seen.append(number)
        late = [n for n, deadline_ns in enumerate(deadlines) if deadline_ns + STEP_NS <= now_ns]
        assert set(late) <= set(seen)
    while (number := wheel.pop_due(60 * STEP_NS)) is not None:
        seen.append(number)
    assert sorted(seen) == list(range(len(deadlines)))
    assert wheel.next_ns() is None


def test_next_is_the_end_of_the_earliest_step() -> None:
    wheel: Wheel[str] = Wheel()
    wheel.add(5 * STEP_NS + 1, "late")
    wheel.add(2 * STEP_NS - 1, "soon")
    assert wheel.next_ns() == 2 * STEP_NS


def test_entry_added_while_entries_are_taken_is_found() -> None:
    wheel: Wheel[str] = Wheel()
    wheel.add(STEP_NS, "first")
    assert wheel.pop_due(STEP_NS) == "first"
    wheel.add(STEP_NS, "again")
    assert [wheel.pop_due(STEP_NS), wheel.pop_due(STEP_NS)] == ["again", None]
