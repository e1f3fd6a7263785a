"""Counters and histograms of the node, under the names that Prometheus will have.

Must stay cheap: the hot path adds to plain attributes, and histograms are fed once a
commit or a turn, never once a job.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

from headrace.engine.engine import Engine

_STEPS = (1.0, 1.6, 2.5, 4.0, 6.3)
SECONDS_BOUNDS = tuple(scale * step for scale in (1e-4, 1e-3, 1e-2, 1e-1, 1.0) for step in _STEPS)
"""100 µs to 6.3 s, each bound at most 1.6 times the one before."""
BYTES_BOUNDS = tuple(float(1 << power) for power in range(8, 26))
COUNT_BOUNDS = tuple(float(1 << power) for power in range(13))


class Histogram:
    """How often a measure fell between fixed bounds."""

    __slots__ = ("bounds", "count", "highest", "total", "_counts")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.count = 0
        self.total = 0.0
        self.highest = 0.0
        self._counts = [0] * (len(bounds) + 1)

    def observe(self, value: float) -> None:
        self._counts[bisect_left(self.bounds, value)] += 1
        self.count += 1
        self.total += value
        if value > self.highest:
            self.highest = value

    def quantile(self, share: float) -> float:
        """The bound under which `share` of all values lie; the highest value beyond the last.

        0.0 when nothing was observed.
        """
        wanted = share * self.count
        seen = 0
        for position, count in enumerate(self._counts):
            seen += count
            if count and seen >= wanted:
                beyond = position == len(self.bounds)
                return self.highest if beyond else min(self.bounds[position], self.highest)
        return 0.0

    def view(self) -> dict[str, float]:
        """`count`, `sum`, `max`, `p50`, `p99`, and cumulative counts as `le=<bound>`."""
        found = {
            "count": float(self.count),
            "sum": self.total,
            "max": self.highest,
            "p50": self.quantile(0.50),
            "p99": self.quantile(0.99),
        }
        seen = 0
        for bound, count in zip(self.bounds, self._counts, strict=False):
            seen += count
            found[f"le={bound:g}"] = float(seen)
        return found


class Stats:
    """What the node counts itself; the engine's own counters are added when they are shown."""

    def __init__(self) -> None:
        self.commands = 0
        self.turns = 0
        self.commits = 0
        self.commit_bytes = 0
        self.early_replies = 0
        self.refused: dict[str, int] = {}
        """By wire code."""
        self.appends_refused = 0
        self.snapshots = 0
        self.snapshots_failed = 0
        self.commit_seconds = Histogram(SECONDS_BOUNDS)
        """From the end of a command's turn to durable."""
        self.sync_seconds = Histogram(SECONDS_BOUNDS)
        """In the log alone: write and sync."""
        self.turn_seconds = Histogram(SECONDS_BOUNDS)
        self.commit_size_bytes = Histogram(BYTES_BOUNDS)
        self.commit_commands = Histogram(COUNT_BOUNDS)

    def note_commit(self, size_bytes: int, commands: int, total_s: float, append_s: float) -> None:
        self.commits += 1
        self.commit_bytes += size_bytes
        self.commit_seconds.observe(total_s)
        self.sync_seconds.observe(append_s)
        self.commit_size_bytes.observe(size_bytes)
        self.commit_commands.observe(commands)

    def note_refusal(self, code: str) -> None:
        self.refused[code] = self.refused.get(code, 0) + 1

    def counters(self) -> dict[str, int]:
        found = {
            "headrace_commands_total": self.commands,
            "headrace_turns_total": self.turns,
            "headrace_commits_total": self.commits,
            "headrace_commit_bytes_total": self.commit_bytes,
            "headrace_early_replies_total": self.early_replies,
            "headrace_appends_refused_total": self.appends_refused,
            "headrace_snapshots_total": self.snapshots,
            "headrace_snapshots_failed_total": self.snapshots_failed,
        }
        for code, count in self.refused.items():
            found[f'headrace_refusals_total{{code="{code}"}}'] = count
        return found

    def histograms(self) -> dict[str, dict[str, float]]:
        return {
            "headrace_commit_seconds": self.commit_seconds.view(),
            "headrace_sync_seconds": self.sync_seconds.view(),
            "headrace_turn_seconds": self.turn_seconds.view(),
            "headrace_commit_size_bytes": self.commit_size_bytes.view(),
            "headrace_commit_commands": self.commit_commands.view(),
        }


_TOTALS = ("enqueued", "succeeded", "failed", "dead", "cancelled")
"""In the order of `Queue.totals`; `failed` counts attempts."""


def job_totals(engine: Engine) -> dict[str, int]:
    """Over all queues and all time: these survive restarts."""
    columns = zip(*(queue.totals for queue in engine.state.queues.values()), strict=True)
    sums = [sum(column) for column in columns] or [0] * len(_TOTALS)
    return {
        f"headrace_jobs_{word}_total": total for word, total in zip(_TOTALS, sums, strict=False)
    }
