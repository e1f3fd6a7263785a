"""How much was run, for the page: sums, rates, what befell them, and the runs behind them.

Must never add up what is the same in each run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from proof.parts import Part
from proof.result import Result
from proof.tables import table
from proof.wording import in_words

GOAL_PER_S = 10_000
"""Operations of the simulator, of one processor."""
SIMULATOR = "simulation"


def volumes(parts: Sequence[Part], results: Sequence[Result]) -> str:
    """What was run of each part, what befell it, and what failed."""
    rows = [_row(part, of_part(results, part.name)) for part in parts]
    said = (
        "Sums over all runs of these commits; the [runs one by one](#the-runs) are below. A part"
        " that does the same in each run is shown by its newest whole run alone, and so are the"
        " vectors of the parsers. A run has an hour for everything: a part that is slower than"
        " planned keeps its share of the time and does less. *Failures* are of the newest commit"
        " on which the part ran; earlier ones led to an entry of the museum and a mend, or to a"
        " better check.\n\n"
    )
    heads = ("part", "what it does", "a run plans", "run", "failures", "minutes", "newest commit")
    failed = [line for part in parts for line in _failures(results, part.name)]
    sampled = [f"- {part.name}: {part.sampled}." for part in parts if part.sampled]
    blocks = [
        said + table(heads, rows),
        "What failed:\n\n" + "\n".join(failed) if failed else "",
        _rate(parts, results),
        "Samples, and what is counted:\n\n" + "\n".join(sampled) if sampled else "",
        _befell(parts, results),
    ]
    return "\n\n".join(block for block in blocks if block)


def _row(part: Part, mine: Sequence[Result]) -> tuple[str, ...]:
    latest = newest(mine)
    sums = sums_of(part, mine)
    shown = ", ".join(f"{sums[name]:,} {name}" for name in part.counts if sums[name])
    now = sum(len(result.failures) for result in latest)
    before = sum(len(result.failures) for result in mine) - now
    return (
        part.name,
        part.says,
        f"{part.planned:,} {part.unit}" if part.planned else "all there are",
        shown or "not run",
        f"{now} ({before} before)" if before else f"{now}",
        f"{sum(result.seconds for result in mine) / 60:.0f}",
        f"`{latest[-1].commit}`" if latest else "",
    )


def of_part(results: Iterable[Result], name: str) -> list[Result]:
    return [result for result in results if result.part == name]


def newest(results: Sequence[Result]) -> list[Result]:
    """Those of the newest commit."""
    return [result for result in results if result.commit == results[-1].commit]


def newest_whole(results: Sequence[Result]) -> Result:
    """The newest one that did all there is to do, which has no note; else the newest."""
    return next((result for result in reversed(results) if not result.notes), results[-1])


def sums_of(part: Part, results: Sequence[Result]) -> Counter[str]:
    """Of counts that add up; of the others what the newest whole run says."""
    if not results:
        return Counter()
    once = newest_whole(results).counts
    if part.is_catalogue:
        return Counter(once)
    sums: Counter[str] = Counter()
    for result in results:
        sums.update({k: n for k, n in result.counts.items() if k not in part.repeated})
    return sums + Counter({name: once.get(name, 0) for name in part.repeated})


def _failures(results: Sequence[Result], part: str) -> Iterator[str]:
    for result in newest(of_part(results, part)):
        yield from (f"- {part}: {failure}" for failure in result.failures)


def _rate(parts: Sequence[Part], results: Sequence[Result]) -> str:
    """Whether the simulator is as quick as it was meant to be."""
    mine = newest(of_part(results, SIMULATOR))
    seconds = sum(result.seconds for result in mine)
    operations = sum(result.counts.get("operations", 0) for result in mine)
    seeds = sum(result.counts.get("seeds", 0) for result in mine)
    part = next((part for part in parts if part.name == SIMULATOR), None)
    if part is None or not (seconds and seeds):
        return ""
    per_s = operations / seconds
    reach = min(part.planned, int(part.minutes * 60 / seconds * seeds))
    missed = "missed" if per_s < GOAL_PER_S else "reached"
    return (
        f"The goal of the simulator, {GOAL_PER_S:,} operations a second and processor, is"
        f" **{missed}**: on its newest commit it did {per_s:,.0f}, beside another part on the"
        f" second processor. In its share of {part.minutes:.0f} minutes a run reaches about"
        f" {reach:,} of the {part.planned:,} lives that it plans; what is missing can only be"
        " added up over several runs with other seeds. See [where its time"
        " goes](simulator.md#how-fast)."
    )


def _befell(parts: Sequence[Part], results: Sequence[Result]) -> str:
    lines: list[str] = []
    for part in parts:
        sums = sums_of(part, of_part(results, part.name))
        told = list(in_words(part.name, {k: n for k, n in sums.items() if k not in part.counts}))
        lines += [f"- **{part.name}**", *(f"  - {line}" for line in told)] if told else []
    return "What befell them:\n\n" + "\n".join(lines) if lines else ""


def runs(parts: Sequence[Part], results: Sequence[Result]) -> str:
    """One row for each run, with the command that does it again."""
    by_name = {part.name: part for part in parts}
    rows = [
        (
            result.part,
            f"`{result.commit}`",
            f"`{by_name[result.part].again(result)}`",
            _came_to(by_name[result.part], result),
            f"{result.seconds:,.0f}",
            f"{len(result.failures)}",
        )
        for result in results
        if result.part in by_name
    ]
    return table(("part", "commit", "again", "did", "seconds", "failures"), rows)


def _came_to(part: Part, result: Result) -> str:
    count = result.counts.get(part.unit, 0)
    return f"{count:,} {part.unit}" if count else ""
