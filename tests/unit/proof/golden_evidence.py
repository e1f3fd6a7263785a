"""A page of evidence of made-up results. `python -m tests.unit.proof.golden_evidence` writes it."""

from __future__ import annotations

from pathlib import Path

from proof.museum import Bug
from proof.page import Gap, Invariant, Judge, Promise, Sources, page
from proof.parts import by_name
from proof.result import Result
from proof.trees import Change

GOLDEN = Path(__file__).with_name("golden_evidence.txt")


def result(part: str, commit: str, day: int, **facts: object) -> Result:
    made = Result(
        part=part,
        command=f"python -m proof.{part} --seed-from {day}000",
        commit=commit,
        machine="2 processors, Python 3.11.2, Linux 6.1 x86_64",
        began_at=f"2026-03-{day:02}T10:00:00+00:00",
        seconds=90.0,
    )
    for name, value in facts.items():
        setattr(made, name, value)
    return made


def runs() -> list[Result]:
    """Two: an older one that failed, and a newer one with what it led to."""
    caught = {
        "class": "engine",
        "mistake": "an ack wins whatever its token is",
        "breaks": "I4, clause 3",
        "outcome": "caught",
        "caught by": "one holder",
        "counts": "seeds",
        "count": 3,
        "seconds": 2,
    }
    survived = {**caught, "mistake": "nobody | cares", "outcome": "survived", "caught by": ""}
    return [
        result(
            "simulation",
            "aaaaaaaaaa",
            1,
            counts={"seeds": 1_000, "operations": 300_000},
            failures=["seed 7 broke I4: headrace sim --seed 7"],
        ),
        result(
            "simulation",
            "bbbbbbbbbb",
            2,
            counts={"seeds": 2_000, "operations": 600_000, "crashes": 77, "kill_server": 5},
        ),
        result("n-loop", "aaaaaaaaaa", 1, counts={"calls": 100, "passed": 60}),
        result("n-loop", "bbbbbbbbbb", 2, counts={"calls": 7}, notes=["stopped before call 8"]),
        result("parsers", "aaaaaaaaaa", 1, counts={
            "cases": 150, "cases of vectors": 100, "cases of the search": 50, "taken": 90}),
        result("parsers", "bbbbbbbbbb", 2, counts={
            "cases": 170, "cases of vectors": 110, "cases of the search": 60, "taken": 95}),
        result("mutants", "bbbbbbbbbb", 2, counts={"mutants": 2, "caught": 1}, details={
            "any-token": caught, "no-matter": survived}, failures=["no-matter survived"]),
        result("museum", "bbbbbbbbbb", 2, counts={"bugs": 1}, details={"two-holders": {}}),
        result("processes", "bbbbbbbbbb", 3, notes=["no strace here: no failing system calls"]),
    ]  # fmt: skip


def sample() -> Sources:
    return Sources(
        results=runs(),
        promises=[Promise("one-holder", "A job has one holder.", [3], ["I4"], ["tests/e2e"])],
        invariants=[
            Invariant("I4", "Leases never overlap."),
            Invariant("I10", "Nobody judges this."),
        ],
        judges=[
            Judge("OneHolder", ("I4",), (3,), "No two current leases of one job."),
            Judge("Other", ("I9",), (), "Something else."),
        ],
        bugs=[
            Bug(
                id="two-holders",
                title="Two workers held one job",
                harm="twice",
                found_by="simulator, seed 7",
                fixed_in="bbbbbbbbbb",
                regression="headrace sim --seed 7",
                reverse=[Change("src/a.py", "old", "new")],
            )
        ],
        gaps=[Gap("Clusters", "There is one node.")],
        parts=tuple(
            by_name()[name]
            for name in ("simulation", "n-loop", "parsers", "mutants", "museum", "processes")
        ),
    )


if __name__ == "__main__":
    GOLDEN.write_text(page(sample()))
