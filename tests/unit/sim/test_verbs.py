"""What simulated clients ask: everything that there is, and nothing that comes from the node."""

from __future__ import annotations

import random

from headrace.model import commands as c
from headrace.sim.conditions import FAULT_CLASSES
from headrace.sim.plan import plan_of
from headrace.sim.verbs import VERBS, Lease

OF_THE_NODE = {c.Expire, c.MarkStarted, c.Maintain}
DRAWS = 200


class KnowsAll:
    """An asker that has seen jobs and leases."""

    session_id = b"s" * 16
    leases: list[Lease] = [(bytes([no]) * 16, no + 1) for no in range(5)]
    ids: list[bytes] = [bytes([no]) * 16 for no in range(5)]
    asked: list[c.Enqueue] = []
    strangers = leases

    def wall_ms(self) -> int:
        return 1_767_225_600_000


def test_every_command_is_asked() -> None:
    asker, found = KnowsAll(), set()
    for name, verb in VERBS.items():
        for draw in range(DRAWS):
            command = verb.build(asker, random.Random(f"{name} {draw}"))
            found.add(type(command))

    assert found - {type(None)} == set(c.Command.__subclasses__()) - OF_THE_NODE


def test_plan_leaves_out_a_step_without_moving_the_others() -> None:
    plan = plan_of(7, 50, {"enqueue": 1, "ack": 3}, {name: {"x": 1} for name in FAULT_CLASSES})
    kept = [step.number for step in plan.steps if step.number % 3]

    assert plan.only(kept).steps == tuple(step for step in plan.steps if step.number in kept)
    assert len({step.seed for step in plan.steps}) == len(plan.steps)
