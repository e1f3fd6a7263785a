"""The search: inputs that reach something new are kept and bent further.

New is an arc that no kept input has taken, or a refusal that no kept input has got: much
of the parsing happens in C, where the words of a refusal are all that shows which way an
input went. Everything follows from one seed, so a run can be repeated.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable

import msgspec

from proof.fuzz.arcs import Arc, watcher
from proof.fuzz.judging import Finding, judge, weigh
from proof.fuzz.mutation import Extent, systematic
from proof.fuzz.target import TAKEN, Target

INPUT_BYTES_MAX = 256 * 1024
KEPT_MAX = 4_000
FRESH_SHARE = 0.3
"""Of the cases that bend one of the newest inputs rather than any."""
FRESH_COUNT = 16
WEIGHED_EVERY = 64
"""Of the systematic cases; of the search, every input that is kept. Counting allocations
makes a case ten times slower; the bound of the address space holds for all of them."""


class Tally(msgspec.Struct):
    """What was run of one target, and what befell it."""

    cases: int = 0
    taken: int = 0
    refused: int = 0
    kept: int = 0
    arcs: int = 0
    findings: list[Finding] = []
    outcomes: Counter[str] = msgspec.field(default_factory=Counter)
    weighed: int = 0
    """Inputs whose allocations were counted."""
    bytes_max: int = 0
    """The most that one of them made the parser hold."""

    def note(self, outcome: str, finding: Finding | None) -> None:
        self.cases += 1
        self.outcomes[outcome] += 1
        if finding is not None:
            self.add(finding)
        elif outcome.startswith(TAKEN):
            self.taken += 1
        else:
            self.refused += 1

    def add(self, finding: Finding) -> None:
        """The shortest input of each problem."""
        for at, known in enumerate(self.findings):
            if known.cause == finding.cause:
                if len(finding.data) < len(known.data):
                    self.findings[at] = finding
                return
        self.findings.append(finding)


def _weigh(target: Target, data: bytes, tally: Tally) -> None:
    used_bytes, finding = weigh(target, data)
    tally.weighed += 1
    tally.bytes_max = max(tally.bytes_max, used_bytes)
    if finding is not None:
        tally.add(finding)


Go = Callable[[], bool]
"""False when the time is over."""


def run_systematic(target: Target, seed: int, go: Go, tally: Tally) -> None:
    """Every small damage to every seed of the target."""
    chance = random.Random(f"{target.name}:{seed}")
    seeds, extent = target.seeds(), Extent(target.exhaustive_bytes_max, target.sampled)
    for data in seeds:
        _weigh(target, data, tally)
        for number, variant in enumerate(systematic(data, seeds, extent, chance)):
            if not go():
                return
            tally.note(*judge(target, variant))
            if number % WEIGHED_EVERY == 0:
                _weigh(target, variant, tally)


def run_guided(target: Target, cases: int, seed: int, go: Go, tally: Tally) -> list[bytes]:
    """`cases` inputs, each bent from one that was kept. Returns what was kept."""
    search = Search(target, seed, tally)
    for _ in range(cases):
        if not go():
            break
        search.step()
    search.end()
    return search.kept


class Search:
    """Of one target; `step` tries one input more, `end` notes how far it came."""

    def __init__(self, target: Target, seed: int, tally: Tally) -> None:
        self._target = target
        self._tally = tally
        self._chance = random.Random(f"{target.name}:{seed}")
        self._watcher = watcher(target.modules)
        self._outcomes: set[str] = set()
        self.arcs: set[Arc] = set()
        self.kept: list[bytes] = []
        for data in target.seeds():
            self._try(data)
            if data not in self.kept:
                self.kept.append(data)

    def step(self) -> None:
        chance, kept = self._chance, self.kept
        newest = chance.random() < FRESH_SHARE
        data = chance.choice(kept[-FRESH_COUNT:] if newest else kept)
        self._try(self._target.mutate(chance, data, kept)[:INPUT_BYTES_MAX])

    def end(self) -> None:
        self._tally.kept, self._tally.arcs = len(self.kept), len(self.arcs)

    def _try(self, data: bytes) -> None:
        found: list[tuple[str, Finding | None]] = []
        arcs = self._watcher.arcs_of(lambda: found.append(judge(self._target, data)))
        if found[0][1] is not None:  # a watcher that runs out of stack breaks what it watches
            found[0] = judge(self._target, data)
        self._tally.note(*found[0])
        outcome = found[0][0]
        is_new = not arcs <= self.arcs or outcome not in self._outcomes
        self.arcs |= arcs
        self._outcomes.add(outcome)
        if is_new and len(self.kept) < KEPT_MAX:
            self.kept.append(data)
            _weigh(self._target, data, self._tally)


def shrunk(target: Target, finding: Finding, tries_max: int = 2_000) -> Finding:
    """A shorter input with the same problem, by leaving pieces out."""
    best, tries = finding, 0
    size = max(1, len(best.data) // 2)
    while size and tries < tries_max:
        at = 0
        while at < len(best.data) and tries < tries_max:
            tries += 1
            shorter = best.data[:at] + best.data[at + size :]
            _, again = judge(target, shorter)
            if again is not None and again.cause == finding.cause:
                best = again
            else:
                at += size
        size //= 2
    return best
