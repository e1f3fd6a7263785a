"""Figures for people: a line a goal, and what else belongs beside it."""

from __future__ import annotations

from typing import Any

import msgspec

from harness.figures import median_and_range
from harness.scenario import Goal, Scenario

DISK_SLOW_MS = 0.3
"""Above it the figures say more about the disk than about headrace: look at the ratios."""


class Outcome(msgspec.Struct, frozen=True):
    scenario: Scenario
    runs: list[dict[str, float]]

    def median(self, figure: str) -> float:
        return median_and_range([run[figure] for run in self.runs])[0]

    def shown(self, figure: str) -> str:
        """Median and, of several runs, range."""
        middle, low, high = median_and_range([run[figure] for run in self.runs])
        if len(self.runs) == 1:
            return number(middle)
        return f"{number(middle)} ({number(low)}–{number(high)})"

    def reached(self, goal: Goal) -> bool:
        medians = {name: self.median(name) for name in self.runs[0]}
        return goal.is_reached(medians)

    def as_json(self) -> dict[str, Any]:
        scenario = self.scenario
        return {
            "name": scenario.name,
            "title": scenario.title,
            "conditions": scenario.conditions,
            "goals": {str(goal): self.reached(goal) for goal in scenario.goals},
            "median": {name: self.median(name) for name in self.runs[0]},
            "runs": self.runs,
        }


def number(value: float) -> str:
    """As many digits as say something."""
    if abs(value) >= 1_000:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 100 else f"{value:.3g}"


def print_outcome(outcome: Outcome) -> None:
    """All of one scenario, as soon as it is measured."""
    scenario = outcome.scenario
    conditions = ", ".join(f"{name} {value}" for name, value in scenario.conditions.items())
    print(f"{scenario.name}: {scenario.title} ({conditions})")
    for goal in scenario.goals:
        mark = "reached" if outcome.reached(goal) else "MISSED"
        print(f"  {mark:8} {goal}: {outcome.shown(goal.figure)}")
    beside = ("disk_sync_p50_ms", "disk_sync_p99_ms", "echo_p50_ms", "others_cpu_percent")
    for figure in (*scenario.shown, *beside):
        print(f"           {figure}: {outcome.shown(figure)}")
    if outcome.median("disk_sync_p50_ms") > DISK_SLOW_MS:
        print(f"           the disk's p50 is above {DISK_SLOW_MS} ms: compare ratios")
    print(flush=True)


def print_table(outcomes: list[Outcome]) -> None:
    """One Markdown row a goal."""
    print("| scenario | goal | measured: median (range) | reached | disk p50 / p99 ms | echo p50 |")
    print("|---|---|---|---|---|---|")
    for outcome in outcomes:
        for goal in outcome.scenario.goals:
            cells = (
                outcome.scenario.title,
                str(goal),
                outcome.shown(goal.figure),
                "yes" if outcome.reached(goal) else "no",
                f"{number(outcome.median('disk_sync_p50_ms'))} / "
                f"{number(outcome.median('disk_sync_p99_ms'))}",
                f"{number(outcome.median('echo_p50_ms'))} ms",
            )
            print("| " + " | ".join(cells) + " |")
