"""The text of `docs/evidence.md`, made of results and catalogues and of nothing else.

Equal inputs give equal bytes. Must never say more than a result says: what has no result
is shown as not run.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import msgspec

from proof.museum import HARMS, Bug
from proof.parts import Part
from proof.result import Result


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
run, what was found, and what nobody has looked at. Every figure can be made again by the
command in the [last section](#run-it-again).
"""


def page(sources: Sources) -> str:
    """The whole page."""
    sections = [
        _HEAD + _runs_in_words(sources.results),
        "## What is promised\n\n" + _promised(sources.promises),
        "## How each promise is tested\n\n" + _tested(sources),
        "## How much was run\n\n" + _volumes(sources),
        "## What was found and mended\n\n" + _found(sources),
        "## Mutants\n\n" + _mutants(sources.results),
        "## What is not covered\n\n" + _gaps(sources.gaps),
        "## What did not run\n\n" + _notes(sources.results),
        "## Run it again\n\n" + _commands(sources.parts),
    ]
    return "\n".join(section.rstrip() + "\n" for section in sections)


# --- sections


def _runs_in_words(results: Sequence[Result]) -> str:
    if not results:
        return "\nNothing was run yet.\n"
    machines = list(dict.fromkeys(result.machine or "unknown" for result in results))
    first, last = results[0], results[-1]
    commits = len({result.commit for result in results})
    return (
        f"\nThe results are of commits `{first.commit}` to `{last.commit}` ({commits} of them),"
        f" from {first.began_at[:10]} to {last.began_at[:10]}, on: {'; '.join(machines)}.\n"
    )


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
        "Checkers judge the whole history of a simulated life, and those of real processes; tests"
        " show one thing each. The last column counts the mutants that break the promise and were"
        " caught; the [table below](#mutants) names them.\n\n"
    )
    checkers = [f"- `{judge.name}`: {judge.promise}" for judge in sources.judges]
    table = _table(("promise", "checkers", "tests", "mutants"), rows)
    return f"{said}{table}\n\nWhat each checker looks after:\n\n" + "\n".join(checkers)


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


def _volumes(sources: Sources) -> str:
    rows, others = [], []
    for part in sources.parts:
        mine = [result for result in sources.results if result.part == part.name]
        newest = _newest(mine)
        sums = _sums(newest[-1:] if part.is_catalogue else mine)
        rows.append(
            (
                part.name,
                part.says,
                f"{part.planned:,} {part.unit}" if part.planned else "all there are",
                _counted(sums, [name for name in part.counts if name in sums]) or "not run",
                _failures_in_words(mine, newest),
                f"{sum(result.seconds for result in mine) / 60:.0f}",
                f"`{newest[-1].commit}`" if newest else "",
            )
        )
        rest = _counted(sums, [name for name in sums if name not in part.counts])
        others += [f"- {part.name}: {rest}"] if rest else []
    said = (
        "Sums over all runs of these commits. A run has an hour for everything: a part that is"
        " slower than planned keeps its share of the time and does less. *Failures* are of the"
        " newest commit on which the part ran; earlier ones led to an entry of the museum and a"
        " mend, or to a better check.\n\n"
    )
    heads = ("part", "what it does", "a run plans", "run", "failures", "minutes", "newest commit")
    lines = [line for part in sources.parts for line in _failures(sources.results, part.name)]
    blocks = [
        said + _table(heads, rows),
        "What befell them, by the names of the results:\n\n" + "\n".join(others) if others else "",
        "What failed:\n\n" + "\n".join(lines) if lines else "",
    ]
    return "\n\n".join(block for block in blocks if block)


def _newest(results: Sequence[Result]) -> list[Result]:
    return [result for result in results if result.commit == results[-1].commit]


def _sums(results: Sequence[Result]) -> Counter[str]:
    sums: Counter[str] = Counter()
    for result in results:
        sums.update(result.counts)
    return sums


def _counted(sums: Counter[str], names: Iterable[str]) -> str:
    return ", ".join(f"{sums[name]:,} {name.replace('_', ' ')}" for name in names if sums[name])


def _failures_in_words(results: Sequence[Result], newest: Sequence[Result]) -> str:
    now = sum(len(result.failures) for result in newest)
    before = sum(len(result.failures) for result in results) - now
    return f"{now} ({before} before)" if before else f"{now}"


def _failures(results: Sequence[Result], part: str) -> Iterator[str]:
    newest = _newest([result for result in results if result.part == part])
    for result in newest:
        yield from (f"- {part}: {failure}" for failure in result.failures)


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
        f"{_of(len(bugs), 'bug is', 'bugs are')} kept in `tests/museum/catalog.toml`, each with"
        " the change that puts it back into the code of today and the test that then fails. In"
        f" the newest run {shown} of them were put back and noticed. *Not recorded*: the commit"
        " does not say what showed it. One again: `python -m proof.museum --only BUG`.\n\n"
    )
    heads = ("bug", "what went wrong", "found by", "mended in")
    return said + _table(("bugs", "what it came to"), summary) + "\n\n" + _table(heads, rows)


def _mutants(results: Sequence[Result]) -> str:
    details = _latest_details(results, "mutants")
    if not details:
        return "Not run."
    rows = [
        (
            f"`{name}`",
            str(row.get("mistake", "")),
            str(row.get("caught by", "")) or f"**{row.get('outcome', '')}**",
            f"{row.get('count', '')} {row.get('counts', '')}, {row.get('seconds', '')} s",
        )
        for name, row in sorted(
            details.items(), key=lambda item: (str(item[1].get("class")), item[0])
        )
    ]
    caught = sum(row.get("outcome") == "caught" for row in details.values())
    said = (
        "A suite that is green says little until it has been seen red. Of"
        f" {len(details)} known-bad changes of the code {caught} were caught; the third column"
        " says by whom, the fourth after how much. One again:"
        " `python -m proof.mutants --again --only MUTANT`.\n\n"
    )
    return said + _table(("mutant", "mistake", "caught by", "after"), rows)


def _gaps(gaps: Sequence[Gap]) -> str:
    return "\n".join(f"- **{gap.what}.** {gap.why}" for gap in gaps)


def _notes(results: Sequence[Result]) -> str:
    """Of the newest commit of each part."""
    lines: list[str] = []
    for part in dict.fromkeys(result.part for result in results):
        for result in _newest([result for result in results if result.part == part]):
            lines += [f"- {part}: {note}" for note in result.notes]
    return "\n".join(dict.fromkeys(lines)) or "Everything ran."


def _commands(parts: Sequence[Part]) -> str:
    rows = [(part.name, f"`{part.shown}`", part.ci) for part in parts]
    said = (
        "`make prove` runs all of it in an hour on two processors, `make evidence` writes this"
        " page. Every failure line of a run carries the command that shows that failure alone.\n\n"
    )
    return said + _table(("part", "command", "in CI (`make test-proof`)"), rows)


# --- helpers


def _of(count: int, one: str, many: str) -> str:
    return f"{count:,} {one if count == 1 else many}"


def _latest_details(results: Sequence[Result], part: str) -> dict[str, dict[str, str | int]]:
    """Rows of a part on its newest commit; a later run overrides an earlier one."""
    rows: dict[str, dict[str, str | int]] = {}
    for result in _newest([result for result in results if result.part == part]):
        rows.update(result.details)
    return rows


def _spans(names: Iterable[str]) -> str:
    return "<br>".join(f"`{name}`" for name in names) or "none"


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(_cell(cell) for cell in line)} |" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
