"""What the search for an order takes for the same is the same: operations of one label."""

from __future__ import annotations

from collections import defaultdict
from itertools import product

from headrace.sim.checkers.base import Life
from headrace.sim.checkers.job_model import ABSENT, FINAL, LEASED, WAITING, One, States
from headrace.sim.checkers.linearizable import operations_of
from headrace.sim.final import Final
from headrace.sim.life import lived_of, plan_for
from headrace.sim.linearizability import Operation

SEEDS = range(4)
OPERATIONS = 400


def states_of(operations: list[Operation[States]]) -> list[One]:
    """All in which a job of these could be."""
    words = {word.rstrip(",") for one in operations for word in one.label.split()}
    tokens = {0, *(int(word) for word in words if word.isdigit())}
    phases, flags = (ABSENT, WAITING, LEASED, *FINAL), (False, True)
    return [
        (phase, token, nacked, max(tokens), kept)
        for phase, token, nacked, kept in product(phases, tokens, flags, flags)
    ]


def test_operations_of_one_label_lead_from_each_state_to_the_same() -> None:
    shared = 0
    for seed in SEEDS:
        history = lived_of(plan_for(seed, OPERATIONS)).history
        for _, operations in operations_of(Life(history, Final())):
            by_label: dict[str, list[Operation[States]]] = defaultdict(list)
            for one in operations:
                by_label[one.label].append(one)
            states = [frozenset([state]) for state in states_of(operations)]
            for label, alike in by_label.items():
                shared += len(alike) > 1
                found = {tuple(map(one.step, states)) for one in alike}
                assert len(found) == 1, label
    assert shared > 100
