"""Samples to figures."""

from __future__ import annotations

import statistics
from collections.abc import Sequence


def percentile(ordered: Sequence[float], share: float) -> float:
    """The smallest sample that at least `share` of all do not exceed; 0.0 of none."""
    if not ordered:
        return 0.0
    return ordered[min(len(ordered) - 1, max(0, -int(-share * len(ordered) // 1) - 1))]


def spread(name: str, samples_s: Sequence[float]) -> dict[str, float]:
    """`<name>_p50_ms` and its like, of samples in seconds."""
    ordered = sorted(samples_s)
    return {
        f"{name}_p50_ms": percentile(ordered, 0.50) * 1e3,
        f"{name}_p90_ms": percentile(ordered, 0.90) * 1e3,
        f"{name}_p99_ms": percentile(ordered, 0.99) * 1e3,
        f"{name}_max_ms": (ordered[-1] if ordered else 0.0) * 1e3,
    }


def median_and_range(values: Sequence[float]) -> tuple[float, float, float]:
    return statistics.median(values), min(values), max(values)
