"""The text of `docs/evidence.md`, made of results and catalogues and of nothing else.

Equal inputs give equal bytes. Must never say more than a result says: what has no result
is shown as not run.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec

from proof.museum import HARMS, Bug
from proof.parts import Part
from proof.result import Result
from proof.tables import folded, of, table
from proof.volumes import newest, newest_whole, of_part, runs, volumes


class Promise(msgspec.Struct, forbid_unknown_fields=True):
    """One promise; see the head of `promises.toml`."""

    id: str
    words: str
    clauses: list[int]
    invariants: list[str]
    tests: list[str]
    checkers: list[str] = []
    """Beside those that own one of its clauses or invariants."""
    breaks: list[str] = []
    """Words of mutants that break it beside those."""


class Invariant(msgspec.Struct, forbid_unknown_fields=True):
    """What must hold at any moment of a life; promises name them."""

    id: str
    words: str


class Gap(msgspec.Struct, forbid_unknown_fields=True):
    what: str
    why: str


class Judge(msgspec.Struct, frozen=True):
    """A checker of the simulator, and what it owns."""

    name: str
    invariants: tuple[str, ...]
    clauses: tuple[int, ...]
    promise: str


class Sources(msgspec.Struct):
    """Everything that the page is made of."""

    results: list[Result]
    """Oldest first; of committed code only."""
    promises: list[Promise]
    invariants: list[Invariant]
    judges: list[Judge]
    bugs: list[Bug]
    gaps: list[Gap]
    parts: tuple[Part, ...]


_HARM_WORDS = {
    "loss": "a job, a result or data was lost or never ran",
    "twice": "a job ran twice, or when it must not",
    "hang": "something waited for ever",
    "crash": "the node stopped, or went on broken",
    "answer": "a wrong answer, or a wrong charge",
    "bound": "a bound was not kept",
    "unfair": "somebody waited longer than others",
    "nuisance": "nothing was at stake",
}

_HEAD = """# Evidence

Written by `make evidence` from the results of the runs that it names; edits are overwritten.
It says what one headrace node promises, who looks whether the promise is kept, how much was
run, what was found, and what nobody has looked at. Every figure can be made again by one
command, on the commit that it was made on: see the [last section](#run-it-again).
"""


_PROMISED = (
    "The [guarantees](guarantees.md), in the pieces in which they are tested, and what must hold"
    " for them.\n\n"
)


def page(sources: Sources) -> str:
    """The whole page."""
    sections = [
        _HEAD + _runs_in_words(sources.results),
        "## What is promised\n\n" + _PROMISED + _promised(sources.promises),
        "## How each promise is tested\n\n" + _tested(sources),
        "## How much was run\n\n" + volumes(sources.parts, sources.results),
        "## What was found and mended\n\n" + _found(sources),
        "## Mutants\n\n" + _mutants(sources.results, sources.judges),
        "## What is not covered\n\n" + _gaps(sources.gaps),
        "## What did not run\n\n" + _notes(sources.results),
        "## Run it again\n\n" + _commands(sources),
    ]
    return "\n".join(section.rstrip() + "\n" for section in sections)


# --- sections


def _runs_in_words(results: Sequence[Result]) -> str:
    if not results:
        return "\nNothing was run yet.\n"
    machines = list(dict.fromkeys(result.machine or "unknown" for result in results))
    first, last = results[0], results[-1]
    commits = len({result.commit for result in results})
    days = sorted({result.began_at[:10] for result in results})
    when = f"from {days[0]} to {days[-1]}" if len(days) > 1 else f"on {days[0]}"
    which = f"commits `{first.commit}` to `{last.commit}` ({commits} of them)"
    which = which if commits > 1 else f"commit `{first.commit}`"
    return f"\nThe results are of {which}, made {when} with {'; '.join(machines)}.\n"


def _promised(promises: Sequence[Promise]) -> str:
    return "\n".join(
        f"{number}. **{promise.id}.** {promise.words}"
        for number, promise in enumerate(promises, start=1)
    )


def _tested(sources: Sources) -> str:
    rows = []
    for promise in sources.promises:
        caught = list(_breaking(promise, sources.results))
        rows.append(
            (
                promise.id,
                _spans(judge.name for judge in _judging(promise, sources.judges)),
                _spans(promise.tests),
                f"{len(caught)}" if caught else "none",
            )
        )
    said = (
        "A checker judges the whole history of a life, simulated or of real processes; a test"
        " shows one thing. Real processes show the calls about jobs, pushes, handlers, the log,"
        " and at the end every job; they have no gauges, sessions, recoveries, digests of the"
        " live state, reads and waits to look at, and what judges those judges simulated lives"
        " alone. The last column counts the mutants that break the promise and were caught; the"
        " [table below](#mutants) names them.\n\n"
    )
    checkers = [f"- `{judge.name}`: {judge.promise}" for judge in sources.judges]
    blocks = [
        said + table(("promise", "checkers", "tests", "mutants"), rows),
        "What each checker looks after:\n\n" + "\n".join(checkers),
        "The invariants behind them, by the numbers that checkers, mutants and gaps carry:\n\n"
        + _invariants(sources),
    ]
    return "\n\n".join(blocks)


def _invariants(sources: Sources) -> str:
    rows = [
        (one.id, one.words, _spans(j.name for j in sources.judges if one.id in j.invariants))
        for one in sources.invariants
    ]
    return table(("", "what must hold", "checkers"), rows)


def _judging(promise: Promise, judges: Iterable[Judge]) -> list[Judge]:
    return [
        judge
        for judge in judges
        if judge.name in promise.checkers
        or set(judge.invariants) & set(promise.invariants)
        or set(judge.clauses) & set(promise.clauses)
    ]


def _breaking(promise: Promise, results: Sequence[Result]) -> Iterator[str]:
    """Names of mutants that break it, and that were caught."""
    for name, row in sorted(_latest_details(results, "mutants").items()):
        words = str(row.get("breaks", ""))
        clauses = {int(number) for number in re.findall(r"\b(?:clause|contract) (\d)", words)}
        invariants = set(re.findall(r"\bI\d+\b", words))
        named = invariants & set(promise.invariants) or clauses & set(promise.clauses)
        named = named or {text for text in promise.breaks if text in words}
        if named and row.get("outcome") == "caught":
            yield name


def _found(sources: Sources) -> str:
    bugs = sources.bugs
    back = _latest_details(sources.results, "museum")
    shown = sum(bug.id in back for bug in bugs)
    by_harm = Counter(bug.harm for bug in bugs)
    summary = [(str(by_harm[harm]), _HARM_WORDS[harm]) for harm in HARMS if by_harm[harm]]
    rows = [
        (f"`{bug.id}`", bug.title, bug.found_by, f"`{bug.fixed_in}`")
        for bug in sorted(bugs, key=lambda bug: HARMS.index(bug.harm))
    ]
    said = (
        f"{of(len(bugs), 'bug is', 'bugs are')} kept in `tests/museum/catalog.toml`, each with"
        " the change that puts it back into the code of today and the test that then fails. In"
        f" the newest run {shown} of them were put back and noticed. *Not recorded*: the commit"
        " does not say what showed it. One again:"
        " `.venv/bin/python -m proof.museum --only BUG`.\n\n"
    )
    heads = ("bug", "what went wrong", "found by", "mended in")
    summed = table(("bugs", "what it came to"), summary)
    return f"{said}{summed}\n\n" + folded("All of them", table(heads, rows))


def _mutants(results: Sequence[Result], judges: Sequence[Judge]) -> str:
    details = _latest_details(results, "mutants")
    if not details:
        return "Not run."
    rows = [
        (
            f"`{name}`",
            str(row.get("mistake", "")),
            str(row.get("caught by", "")) or f"**{row.get('outcome', '')}**",
            f"{_of_some(row)}, {row.get('seconds', '')} s",
        )
        for name, row in sorted(
            details.items(), key=lambda item: (str(item[1].get("class")), item[0])
        )
    ]
    caught = [row for row in details.values() if row.get("outcome") == "caught"]
    said = (
        "A suite that is green says little until it has been seen red. Of"
        f" {of(len(details), 'known-bad change')} of the code {len(caught)} were caught."
        " One again: `.venv/bin/python -m proof.mutants --again --only MUTANT`.\n\n"
    )
    first = Counter(_catcher(row) for row in caught)
    summary = [(f"{count}", name) for name, count in sorted(first.items(), key=_most_first)]
    below = (
        "In the order of what they change: the SDK, the engine, the log, the node, the wire. The"
        " third column says who caught it: after the colon the checker, the test, or the"
        " exception that a run ended with"
        f"{_exceptions(caught, judges)}; the fourth after how much.\n\n"
    )
    heads = ("mutant", "mistake", "caught by", "after")
    every = folded("All of them", below + table(heads, rows))
    return f"{said}{table(('mutants', 'caught by'), summary)}\n\n{every}"


def _of_some(row: Mapping[str, str | int]) -> str:
    count, what = int(row.get("count", 0)), str(row.get("counts", ""))
    return of(count, what.removesuffix("s"), what)


def _catcher(row: Mapping[str, str | int]) -> str:
    name = str(row.get("caught by", "")).partition(": ")[0]
    return "one test, which is named" if name.endswith(".py") else name


def _most_first(item: tuple[str, int]) -> tuple[int, str]:
    return -item[1], item[0]


def _exceptions(caught: Sequence[Mapping[str, str | int]], judges: Sequence[Judge]) -> str:
    """Words that look like checkers and are none."""
    told = {str(row.get("caught by", "")).partition(": ")[2] for row in caught}
    checkers = {judge.name for judge in judges}
    found = sorted(word for word in told if word.isidentifier() and word not in checkers)
    found = [word for word in found if word != word.lower()]
    return f" ({', '.join(f'`{word}`' for word in found)})" if found else ""


def _gaps(gaps: Sequence[Gap]) -> str:
    return "\n".join(f"- **{gap.what}.** {gap.why}" for gap in gaps)


def _notes(results: Sequence[Result]) -> str:
    """Of the newest commit of each part."""
    lines: list[str] = []
    for part in dict.fromkeys(result.part for result in results):
        notes = [note for result in newest(of_part(results, part)) for note in result.notes]
        told = dict.fromkeys(f"  - {note.removeprefix('did not run: ')}" for note in notes)
        lines += [f"- **{part}**", *told] if told else []
    return "\n".join(lines) or "Everything ran."


def _commands(sources: Sources) -> str:
    rows = [(part.name, f"`{part.shown}`", part.ci) for part in sources.parts]
    said = (
        "In a fresh clone, with Python 3.11 or newer and `make`:\n\n"
        "- `make .venv/.installed` makes the environment `.venv`, which all commands below need;"
        " the other targets make it by themselves.\n"
        "- `make prove` runs all parts in an hour on two processors, and `make evidence` adds its"
        " results to this page.\n"
        "- A command of this table runs one part with the volume that is planned for it, however"
        " long that takes.\n"
        "- Every failure line of a run carries the command that shows that failure alone.\n\n"
    )
    again = (
        "The sums above are made of these. `git switch --detach COMMIT`, `make .venv/.installed`,"
        " and the command does the cases of that run again: exactly those where a part counts by"
        " seeds or numbers, and as many as fit into the same time elsewhere."
    )
    blocks = [said + table(("part", "command", "in CI (`make test-proof`)"), rows)]
    if sources.results:
        shown = table_of_runs(sources)
        blocks.append(f"### The runs\n\n{again}\n\n" + shown)
    return "\n\n".join(blocks)


def table_of_runs(sources: Sources) -> str:
    count = of(len(sources.results), "run")
    return folded(f"{count}, oldest commit first", runs(sources.parts, sources.results))


# --- helpers


def _latest_details(results: Sequence[Result], part: str) -> dict[str, dict[str, str | int]]:
    """Rows of the newest whole run of a part, and of what came after it."""
    mine = of_part(results, part)
    rows: dict[str, dict[str, str | int]] = {}
    for result in [newest_whole(mine), *newest(mine)] if mine else []:
        rows.update(result.details)
    return rows


def _spans(names: Iterable[str]) -> str:
    return "<br>".join(f"`{name}`" for name in names) or "none"
