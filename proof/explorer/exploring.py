"""Exploring a trace: at each of its calls, every state that a crash may leave, or many."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence

import msgspec

from headrace.log.file.layout import Layout
from headrace.testing.crash_states import Choice, CrashStates, Tree, Unit, all_choices, some_choices
from proof.explorer.judging import CopyJudge, Judge, Outcome
from proof.explorer.node_traces import NodeJudge
from proof.explorer.scenarios import COPY
from proof.explorer.trace import Trace
from tests.recovery.story import ROOT

SHORT_TRACE_CALLS = 12
EXHAUSTIVE_UNITS_MAX = 14
"""A short trace is explored in all states while no more units than these are open: 16,384
states and more, which recover in few ways. No short one of 300 seeds has more open."""
DEEP_EVERY = 16
"""Of the recoveries, how many are cut off themselves: one in so many."""

LOCK = Layout(ROOT).lock
Key = frozenset[tuple[str, bytes | None]]


class Place(msgspec.Struct, frozen=True):
    """One state: enough to come back to it."""

    prefix: int
    state: int


class Failure(msgspec.Struct, frozen=True):
    seed: int
    name: str
    place: Place
    problem: str

    def describe(self) -> str:
        return (
            f"{self.name}: {self.problem}: python -m proof.explorer --trace {self.seed} "
            f"--prefix {self.place.prefix} --state {self.place.state}"
        )


class Exploration:
    """One trace. What recovery makes of equal trees is found out once."""

    def __init__(self, trace: Trace, states_per_prefix: int, judge: Judge | None = None) -> None:
        self.trace = trace
        self.counts: Counter[str] = Counter(traces=1)
        self._states_per_prefix = states_per_prefix
        self._judge = judge or judge_of(trace)
        self._outcomes: dict[Key, Outcome] = {}

    def failures(self) -> Iterator[Failure]:
        states = self.trace.states_before(self.trace.begin)
        for prefix in range(self.trace.begin, self.trace.end + 1):
            yield from self._failures_at(prefix, states)
            if prefix < self.trace.end:
                states.apply(self.trace.ops[prefix])

    def _failures_at(self, prefix: int, states: CrashStates) -> Iterator[Failure]:
        self.counts["prefixes"] += 1
        choices, exhaustive = self._choices(prefix, states.units())
        self.counts["exhaustive_prefixes"] += exhaustive
        for number, choice in enumerate(choices):
            self.counts["states"] += 1
            place = Place(prefix, number)
            problem = self._problem(place, states.tree(choice))
            if problem:
                yield Failure(self.trace.seed, self.trace.name, place, problem)

    def _problem(self, place: Place, tree: Tree) -> str:
        """A recovery that goes wrong is told of once, whatever leads to it."""
        key = key_of(tree)
        outcome = self._outcomes.get(key)
        if outcome is None:
            outcome = self._outcomes[key] = self._outcome(place, tree)
            self.counts["recoveries"] += 1
        else:
            self.counts["deduplicated"] += 1
            if outcome.problem:
                return ""
        return self._judge.against(outcome, self.trace.promises[place.prefix])

    def _outcome(self, place: Place, tree: Tree) -> Outcome:
        draw = random.Random(f"{self.trace.seed} {place.prefix} {place.state}")
        deep = draw.randrange(DEEP_EVERY) == 0
        before = self._judge.crashes_in_recovery
        outcome = self._judge.outcome(tree, draw, deep=deep)
        self.counts["crashes_in_recovery"] += self._judge.crashes_in_recovery - before
        return outcome

    def _choices(self, prefix: int, units: Sequence[Unit]) -> tuple[list[Choice], bool]:
        short = self.trace.end - self.trace.begin <= SHORT_TRACE_CALLS
        if 1 << len(units) <= self._states_per_prefix or (
            short and len(units) <= EXHAUSTIVE_UNITS_MAX
        ):
            return list(all_choices(units)), True
        draw = random.Random(f"{self.trace.seed} {prefix}")
        return list(some_choices(units, self._states_per_prefix, draw)), False

    # --- one state again

    def replay(self, place: Place) -> tuple[list[str], str]:
        """What is on the medium there, readable, and what is wrong with it."""
        states = self.trace.states_before(place.prefix)
        choices, _ = self._choices(place.prefix, states.units())
        choice = choices[place.state]
        story = self._story(place.prefix, states.units(), choice)
        return story, self._problem(place, states.tree(choice))

    def _story(self, prefix: int, units: Sequence[Unit], choice: Choice) -> list[str]:
        lines = []
        for number in range(self.trace.begin, prefix):
            lines.append(f"{number:4}  {self.trace.ops[number].describe()}")
        lines.append(f"{prefix:4}  -- crash; not durable were:")
        for at, unit in enumerate(units):
            fate = "kept" if at in choice.kept else "lost"
            if choice.cut is not None and choice.cut[0] == at:
                fate = f"{choice.cut[1]} bytes"
            path = self.trace.ops[unit.op_no].path
            lines.append(f"      {fate:>9}  {unit.describe()} ({path})")
        return lines


def key_of(tree: Tree) -> Key:
    """Trees of one key are recovered once. The text of LOCK is for messages only, and never
    synced: it would triple the states of each log."""
    return frozenset((path, b"" if path == LOCK else content) for path, content in tree.items())


def judge_of(trace: Trace) -> Judge:
    if trace.digests:
        return NodeJudge(trace.acked, trace.digests)
    kind = CopyJudge if any(op.path.startswith(COPY) for op in trace.ops) else Judge
    return kind(trace.acked, trace.mend)
