"""A scenario: what is measured, under which conditions, and what it must reach."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec

from harness.bench import Bench

Figures = dict[str, float]


class Goal(msgspec.Struct, frozen=True):
    """A bound for one figure; `bound` may depend on the disk measured in the same run."""

    figure: str
    bound: float
    at_least: bool = False
    """False: at most."""
    disk_p50_times: bool = False
    """`bound` counts p50s of the disk's fdatasync."""

    def bound_of(self, figures: Figures) -> float:
        return self.bound * (figures["disk_sync_p50_ms"] if self.disk_p50_times else 1.0)

    def is_reached(self, figures: Figures) -> bool:
        value, bound = figures[self.figure], self.bound_of(figures)
        return value >= bound if self.at_least else value <= bound

    def __str__(self) -> str:
        sign = "≥" if self.at_least else "≤"
        times = " × the disk's p50" if self.disk_p50_times else ""
        return f"{self.figure} {sign} {self.bound:,.10g}{times}"


class Scenario(msgspec.Struct, frozen=True):
    name: str
    title: str
    conditions: dict[str, str | int]
    """Durability, payload, concurrency … as they are shown beside the figures."""
    goals: tuple[Goal, ...]
    measure: Callable[[Bench], Awaitable[Figures]]
    shown: tuple[str, ...] = ()
    """Figures of the table beside those of the goals."""
    is_long: bool = False
    """Takes minutes: only run when it is named."""
