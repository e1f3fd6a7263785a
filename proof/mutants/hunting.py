"""One mutant at a time: planted, hunted by its catchers, judged; what was found is kept.

A verdict is kept under a digest of everything that it depends on, so a run that was stopped
goes on where it was, and a changed file begins anew.
"""

from __future__ import annotations

import hashlib
import threading
import time
from typing import Literal

import msgspec

from proof.mutants.catching import Tried, try_catcher
from proof.mutants.mutant import Catcher, Mutant
from proof.mutants.planting import Bed
from proof.result import RESULTS, ROOT
from proof.trees import TargetGone

KEPT = RESULTS.parent / "mutants.jsonl"
CATALOGUES = frozenset(
    f"proof/mutants/{name}.py" for name in ("engine", "log", "runtime", "client", "wire", "unasked")
)
"""A verdict depends on its own mutant in them only, which is in its key."""

Outcome = Literal["caught", "survived", "never reached", "target gone", "catcher broken", "stopped"]


class Verdict(msgspec.Struct, frozen=True):
    mutant: str
    outcome: Outcome
    by: str = ""
    """The checker that noticed."""
    says: str = ""
    counts: str = ""
    count: int = 0
    """So many tests or seeds of that checker, see `counts`, it took."""
    seconds: float = 0.0
    """Of that checker; of all, when none noticed."""
    passed_by: tuple[str, ...] = ()
    """Checkers that were asked before and did not notice."""
    broken: tuple[str, ...] = ()
    """Checkers that cannot be believed, with the reason."""


class Baselines:
    """What catchers say of the code as it is: asked when one has failed, for no more cases than
    it took to fail, and not again for fewer."""

    def __init__(self, stop: threading.Event) -> None:
        self._stop = stop
        self._found: dict[Catcher, tuple[int, Tried]] = {}
        self._lock = threading.Lock()

    def of(self, catcher: Catcher, count: int, bed: Bed) -> Tried:
        """Of the first `count` cases, where it takes a number. `bed` holds no mutant now."""
        cases = min(count, catcher.cases)
        with self._lock:
            asked, tried = self._found.get(catcher, (-1, None))
            if tried is None or asked < cases:
                fewer = msgspec.structs.replace(catcher, cases=cases)
                tried = try_catcher(fewer, bed.root, bed.scratch, self._stop)
                self._found[catcher] = (cases, tried)
            return tried


class _Hunt:
    """One mutant, and what its catchers have said so far."""

    def __init__(
        self, mutant: Mutant, bed: Bed, baselines: Baselines, stop: threading.Event
    ) -> None:
        self._mutant = mutant
        self._bed = bed
        self._baselines = baselines
        self._stop = stop
        self._passed: list[str] = []
        self._broken: list[str] = []
        self._reached = False

    def run(self) -> Verdict:
        for catcher in self._mutant.catchers:
            tried = self._ask(catcher)
            doubt = self._doubt(catcher, tried) if tried.outcome == "failed" else ""
            if self._stop.is_set():
                return Verdict(self._mutant.name, "stopped")
            if tried.outcome == "failed":
                if not doubt:
                    return self._caught(catcher, tried)
                self._broken.append(f"{catcher.name}: {doubt}")
            elif tried.outcome == "broken":
                self._broken.append(f"{catcher.name}: {tried.says}")
            else:
                hung = " (took too long)" if tried.outcome == "hung" else ""
                self._passed.append(catcher.name + hung)
        return self._missed()

    def _ask(self, catcher: Catcher) -> Tried:
        with self._bed.planted(self._mutant):
            tried = try_catcher(catcher, self._bed.root, self._bed.scratch, self._stop)
        self._reached = self._reached or self._bed.reached
        return tried

    def _doubt(self, catcher: Catcher, tried: Tried) -> str:
        """Why its failure says nothing about the mutant."""
        if not self._bed.reached:
            return "it failed, but never ran the mutated code"
        found = self._baselines.of(catcher, tried.count, self._bed)
        if found.outcome == "passed":
            return ""
        return f"on good code it {found.outcome} after {found.seconds} s: {found.says}"

    def _caught(self, catcher: Catcher, tried: Tried) -> Verdict:
        return Verdict(
            self._mutant.name,
            "caught",
            by=f"{catcher.name}: {tried.checker}" if tried.checker else catcher.name,
            says=tried.says,
            counts=catcher.counts,
            count=tried.count,
            seconds=tried.seconds,
            passed_by=tuple(self._passed),
            broken=tuple(self._broken),
        )

    def _missed(self) -> Verdict:
        reached: Outcome = "survived" if self._reached else "never reached"
        return Verdict(
            self._mutant.name,
            "catcher broken" if self._broken else reached,
            says="; ".join(self._broken),
            passed_by=tuple(self._passed),
            broken=tuple(self._broken),
        )


def hunt(mutant: Mutant, bed: Bed, baselines: Baselines, stop: threading.Event) -> Verdict:
    """Asks one catcher after the other until one notices."""
    began_s = time.monotonic()
    try:
        verdict = _Hunt(mutant, bed, baselines, stop).run()
    except (TargetGone, SyntaxError) as error:
        return Verdict(mutant.name, "target gone", says=str(error))
    if verdict.outcome == "caught":
        return verdict
    return msgspec.structs.replace(verdict, seconds=round(time.monotonic() - began_s, 1))


# --- what is kept between runs


class _Kept(msgspec.Struct):
    key: str
    verdict: Verdict


def tree_digest() -> str:
    """Of everything that a verdict depends on, but the mutant itself."""
    digest = hashlib.blake2b(digest_size=16)
    for folder in ("src", "tests", "proof", "spec/vectors"):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix not in (".py", ".bin", ".json", ".txt") or not path.is_file():
                continue
            name = path.relative_to(ROOT).as_posix()
            if name not in CATALOGUES:
                digest.update(name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def key_of(mutant: Mutant, tree: str) -> str:
    return f"{tree}-{hashlib.blake2b(msgspec.json.encode(mutant), digest_size=8).hexdigest()}"


def kept() -> dict[str, Verdict]:
    """Verdicts of earlier runs, by key."""
    if not KEPT.exists():
        return {}
    lines = KEPT.read_bytes().splitlines()
    found = [msgspec.json.decode(line, type=_Kept) for line in lines]
    return {each.key: each.verdict for each in found}


def keep(key: str, verdict: Verdict) -> None:
    KEPT.parent.mkdir(parents=True, exist_ok=True)
    with KEPT.open("ab") as file:
        file.write(msgspec.json.encode(_Kept(key, verdict)) + b"\n")
