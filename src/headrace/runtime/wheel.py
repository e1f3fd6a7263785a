"""Coarse deadlines: many of them for the price of a few.

Deadlines are rounded up to DEADLINE_STEP_MS and share a bucket, so adding one is an
append, and a thousand sessions that beat alike cost one timer. Nothing is ever taken
out: whoever is told of a deadline looks whether it still holds, and adds a new one.
"""

from __future__ import annotations

import heapq
from collections import deque
from typing import Generic, TypeVar

from headrace.model.limits import DEADLINE_STEP_MS

_STEP_NS = DEADLINE_STEP_MS * 1_000_000

T = TypeVar("T")


class Wheel(Generic[T]):
    """Invariant: `_steps` holds the key of each bucket once, as a heap."""

    def __init__(self) -> None:
        self._buckets: dict[int, deque[T]] = {}
        self._steps: list[int] = []

    def add(self, deadline_ns: int, entry: T) -> None:
        """`entry` is due at `deadline_ns`, or up to one step later."""
        step = -(-deadline_ns // _STEP_NS)
        bucket = self._buckets.get(step)
        if bucket is None:
            bucket = self._buckets[step] = deque()
            heapq.heappush(self._steps, step)
        bucket.append(entry)

    def next_ns(self) -> int | None:
        """When the earliest entry is due; None when there is none."""
        return self._steps[0] * _STEP_NS if self._steps else None

    def pop_due(self, now_ns: int) -> T | None:
        """An entry whose time has come, the earliest bucket first; None when none is due."""
        if not self._steps or self._steps[0] * _STEP_NS > now_ns:
            return None
        bucket = self._buckets[self._steps[0]]
        entry = bucket.popleft()
        if not bucket:
            del self._buckets[heapq.heappop(self._steps)]
        return entry
