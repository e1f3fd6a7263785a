"""A failing life made short: as few of its steps as still fail.

Delta debugging (Zeller and Hildebrandt, "Simplifying and isolating failure-inducing input",
IEEE TSE 28(2), 2002): leave out ever smaller pieces, and keep what still fails. Sound here
because the steps of a plan draw independently of one another.
"""

from __future__ import annotations

from collections.abc import Callable

from headrace.sim.plan import Plan, Step

TRIES_MAX = 400


def shrunk(plan: Plan, fails: Callable[[Plan], bool], tries_max: int = TRIES_MAX) -> Plan:
    """A plan of some of the steps that fails as `plan` does, found in at most `tries_max` runs."""
    steps, piece_count, tries = plan.steps, 2, 0
    while len(steps) > 1 and piece_count <= len(steps) and tries < tries_max:
        for piece_no in range(piece_count):
            rest = _without(steps, piece_no, piece_count)
            tries += 1
            if fails(Plan(plan.conditions, rest)):
                steps, piece_count = rest, max(2, piece_count - 1)
                break
            if tries >= tries_max:
                break
        else:
            if piece_count == len(steps):
                break
            piece_count = min(len(steps), piece_count * 2)
    return Plan(plan.conditions, steps)


def _without(steps: tuple[Step, ...], piece_no: int, piece_count: int) -> tuple[Step, ...]:
    begin = len(steps) * piece_no // piece_count
    end = len(steps) * (piece_no + 1) // piece_count
    return steps[:begin] + steps[end:]


def as_ranges(numbers: list[int]) -> str:
    """`3-5,9` of 3, 4, 5, 9."""
    parts: list[list[int]] = []
    for number in sorted(numbers):
        if parts and parts[-1][1] == number - 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ",".join(f"{low}-{high}" if high > low else str(low) for low, high in parts)


def from_ranges(text: str) -> set[int]:
    """3, 4, 5, 9 of `3-5,9`. Raises: `ValueError`."""
    found: set[int] = set()
    for part in text.split(","):
        low, _, high = part.partition("-")
        found |= set(range(int(low), int(high or low) + 1))
    return found
