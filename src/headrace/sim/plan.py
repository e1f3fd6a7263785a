"""A life as a list of steps, drawn before it begins.

Each step has a seed of its own, so that leaving one out moves nothing that the others
draw: a failing life is shrunk by leaving out steps, and still fails for the same reason.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping

import msgspec

from headrace.sim.conditions import Conditions, conditions_of
from headrace.sim.seeds import derived

FAULT_PERCENT = 4
"""Steps that break something, of a life in which something may break."""
_PAUSES_MS = ((0, 60), (1, 20), (7, 10), (60, 6), (700, 3), (5_000, 1))


class Step(msgspec.Struct, frozen=True):
    number: int
    pause_ms: int
    """Before it."""
    verb: str
    seed: int


class Plan(msgspec.Struct, frozen=True):
    conditions: Conditions
    steps: tuple[Step, ...]

    def only(self, numbers: Collection[int]) -> Plan:
        kept = tuple(step for step in self.steps if step.number in numbers)
        return Plan(self.conditions, kept)


def plan_of(
    seed: int, operations: int, verbs: Mapping[str, int], faults: Mapping[str, Mapping[str, int]]
) -> Plan:
    """`operations` steps that ask something, with faults of the allowed classes between them.

    `verbs` are names with their weights; `faults` the same, by class.
    """
    conditions = conditions_of(seed)
    draw = random.Random(derived(seed, "plan"))
    # Some lives lack some verbs: without claims heaps grow, without acks leases do.
    weights = {verb: weight * draw.choice((0, 1, 1, 1, 2, 6)) for verb, weight in verbs.items()}
    weights["enqueue"] = max(weights.get("enqueue", 0), 4)
    breaking = {
        fault: weight for name in conditions.faults for fault, weight in faults[name].items()
    }
    steps: list[Step] = []
    asked = 0
    while asked < operations:
        breaks = bool(breaking) and draw.randrange(100) < FAULT_PERCENT
        [verb] = draw.choices(*_split(breaking if breaks else weights))
        [pause_ms] = draw.choices(*zip(*_PAUSES_MS, strict=True))
        steps.append(Step(len(steps), pause_ms, verb, derived(seed, "step", len(steps))))
        asked += not breaks
    return Plan(conditions, tuple(steps))


def _split(weights: Mapping[str, int]) -> tuple[list[str], list[int]]:
    return list(weights), list(weights.values())
