"""The search itself, against the slowest and plainest way to answer the same question."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.sim.linearizability import FOR_EVER, Operation, linearize

Register = Operation[int]


def write(value: int, called: int, returned: int = FOR_EVER) -> Register:
    return Operation(f"write {value}", called, returned, lambda _: value, f"w{value}")


def read(value: int, called: int, returned: int) -> Register:
    def step(state: int) -> int | None:
        return state if state == value else None

    return Operation(f"read {value}", called, returned, step, f"r{value}", is_read=True)


def by_brute_force(operations: Sequence[Operation[Any]], initial: object) -> bool:
    """Every order of every subset that has all answered operations."""
    numbers = range(len(operations))
    owed = {number for number in numbers if operations[number].returned_ns < FOR_EVER}
    for count in range(len(owed), len(operations) + 1):
        for order in permutations(numbers, count):
            complete = owed <= set(order) and _in_time(operations, order)
            if complete and _runs(operations, order, initial):
                return True
    return not owed


def _in_time(operations: Sequence[Operation[Any]], order: tuple[int, ...]) -> bool:
    """None comes before one that had returned when it was called."""
    return all(
        operations[later].returned_ns >= operations[earlier].called_ns
        for place, earlier in enumerate(order)
        for later in order[place + 1 :]
    )


def _runs(operations: Sequence[Operation[Any]], order: tuple[int, ...], initial: object) -> bool:
    state: object = initial
    for number in order:
        state = operations[number].step(state)
        if state is None:
            return False
    return True


def verdict(*operations: Register) -> bool | None:
    return linearize(operations, 0).verdict


def test_nothing_is_linearizable() -> None:
    assert verdict() is True


def test_a_read_of_the_newest_write_is_right() -> None:
    assert verdict(write(1, 0, 1), read(1, 2, 3)) is True


def test_a_stale_read_is_not() -> None:
    found = linearize([write(1, 0, 1), read(0, 2, 3)], 0)

    assert found.verdict is False
    assert found.stuck_label == "read 0"
    assert found.stuck == "r0"


def test_a_read_beside_a_write_may_see_either_value() -> None:
    assert verdict(write(1, 0, 5), read(0, 2, 3)) is True
    assert verdict(write(1, 0, 5), read(1, 2, 3)) is True


def test_values_may_not_go_back_and_forth() -> None:
    assert verdict(write(1, 0, 9), read(1, 1, 2), read(0, 3, 4)) is False


def test_a_write_without_an_answer_may_happen_late_or_never() -> None:
    assert verdict(write(1, 0), read(0, 1, 2), read(1, 3, 4)) is True
    assert verdict(write(1, 0), read(0, 1, 2)) is True
    assert verdict(write(1, 0)) is True


def test_a_write_without_an_answer_happens_once() -> None:
    late = [write(1, 0), read(1, 1, 2), write(2, 3, 4), read(2, 5, 6), read(1, 7, 8)]

    assert verdict(*late) is False


def test_it_happens_not_before_it_was_called() -> None:
    assert verdict(read(1, 0, 1), write(1, 2)) is False


def test_operations_that_touch_in_time_are_concurrent() -> None:
    assert verdict(write(1, 0, 2), read(0, 2, 3)) is True


def test_a_search_that_is_too_long_is_undecided() -> None:
    beside = [write(number, 0, 100) for number in range(1, 9)]
    found = linearize([*beside, read(99, 101, 102)], 0, configurations_max=50)

    assert found.verdict is None
    assert found.configurations == 50


@st.composite
def histories(draw: st.DrawFn) -> list[Register]:
    operations = []
    for _ in range(draw(st.integers(0, 5))):
        called = draw(st.integers(0, 8))
        returned = called + draw(st.integers(0, 5))
        value = draw(st.integers(0, 2))
        if draw(st.booleans()):
            operations.append(read(value, called, returned))
        else:
            operations.append(write(value, called, draw(st.sampled_from((returned, FOR_EVER)))))
    return operations


@settings(max_examples=300)
@given(histories())
def test_search_and_brute_force_agree(operations: list[Register]) -> None:
    assert linearize(operations, 0).verdict is by_brute_force(operations, 0)
