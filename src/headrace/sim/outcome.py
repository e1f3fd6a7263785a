"""What became of one life, and of many."""

from __future__ import annotations

from collections import Counter

import msgspec


class Outcome(msgspec.Struct, kw_only=True):
    """Of one seed."""

    seed: int
    operations: int
    """Commands that clients and sessions have really asked; not those of workers."""
    violations: list[str] = []
    """`checker: message`, in the order in which they were found."""
    counts: dict[str, int] = {}
    """Calls, records, crashes, faults by name, simulated milliseconds…"""
    fingerprint: str = ""
    """Of everything that happened: equal seeds have equal ones."""


class Sums(msgspec.Struct, kw_only=True):
    """Of a campaign."""

    seeds: int = 0
    operations: int = 0
    failed_seeds: list[int] = []
    counts: dict[str, int] = {}
    seconds: float = 0.0

    def add(self, outcome: Outcome) -> None:
        self.seeds += 1
        self.operations += outcome.operations
        self.counts = dict(Counter(self.counts) + Counter(outcome.counts))
        if outcome.violations:
            self.failed_seeds.append(outcome.seed)
