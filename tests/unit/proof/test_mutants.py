"""The catalogue of mutants fits the code as it is, and the hunt tells its five verdicts apart."""

from __future__ import annotations

import ast
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from proof.mutants import hunting
from proof.mutants.catalog import MUTANTS, all_mutants
from proof.mutants.hunting import Baselines, Verdict, hunt
from proof.mutants.mutant import CLASSES, Catcher, Mutant
from proof.mutants.planting import Bed, mutated, read_target
from proof.result import ROOT
from proof.trees import TargetGone

MUTANTS_MIN = 40
EVERY_MUTANT = [mutant for _, mutant in all_mutants().values()]


@pytest.mark.parametrize("mutant", EVERY_MUTANT, ids=lambda mutant: mutant.name)
def test_target_is_there_and_the_changed_file_is_marked(mutant: Mutant) -> None:
    marked = mutated(read_target(mutant), mutant)

    assert marked.count("_reached") == 1
    assert ast.parse(marked)


@pytest.mark.parametrize("mutant", EVERY_MUTANT, ids=lambda mutant: mutant.name)
def test_mutant_says_what_goes_wrong_and_who_should_notice(mutant: Mutant) -> None:
    assert mutant.mistake.endswith(".")
    assert mutant.breaks
    assert mutant.catchers
    for catcher in mutant.catchers:
        files = [part for part in catcher.arguments if part.startswith("tests/")]
        assert all((ROOT / file.partition("::")[0]).exists() for file in files), catcher


def test_tests_that_are_named_exist() -> None:
    for mutant in EVERY_MUTANT:
        for catcher in mutant.catchers:
            named = dict(zip(catcher.arguments, catcher.arguments[1:], strict=False)).get("-k")
            [path] = [part for part in catcher.arguments if part.startswith("tests/")][:1] or [""]
            if named and path.endswith(".py"):
                assert f"{named}" in (ROOT / path).read_text(), (mutant.name, named)


def test_verdicts_are_of_the_tree_with_its_hunters_and_without_its_catalogues(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hunting, "ROOT", tmp_path)
    digests = {hunting.tree_digest()}
    for name in ("src/a.py", "tests/b.py", "proof/result.py", "proof/mutants/asking.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
        digests.add(hunting.tree_digest())
    assert len(digests) == 5

    for name in hunting.CATALOGUES:
        assert (ROOT / name).exists()
        (tmp_path / name).write_text(name)
    assert hunting.tree_digest() in digests


def test_names_are_unique_and_there_are_enough_in_every_class() -> None:
    names = Counter(mutant.name for mutants in MUTANTS.values() for mutant in mutants)

    assert [name for name, count in names.items() if count > 1] == []
    assert len(names) >= MUTANTS_MIN
    assert tuple(MUTANTS) == CLASSES
    assert all(MUTANTS.values())


BRANCHES = """\
def f(a):
    if a:
        b = 1
    elif not a:
        b = (
            2
        )
"""


def test_mark_stands_in_front_of_the_innermost_statement() -> None:
    inside = mutated(BRANCHES, _mutant(old="            2\n", new="            3\n"))
    at_elif = mutated(BRANCHES, _mutant(old="    elif not a:\n", new="    elif True:\n"))

    assert _mark_of(inside) == "        b = (\n"
    assert _mark_of(at_elif) == "    if a:\n"


def test_changed_text_that_is_gone_or_in_no_function_is_said() -> None:
    with pytest.raises(TargetGone, match="2 times"):
        mutated("a = 1\na = 1\n", _mutant(old="a = 1", new="a = 2"))
    with pytest.raises(TargetGone, match="in no function"):
        mutated("a = 1\n", _mutant(old="a = 1", new="a = 2"))


def _mark_of(text: str) -> str:
    """The line behind the mark."""
    lines = text.splitlines(keepends=True)
    [at] = [number for number, line in enumerate(lines) if "_reached" in line]
    return lines[at + 1]


# --- the hunt, with a real mutant of a real file and catchers of one line

CALL = "from headrace.model.durations import parse_duration_ms as parse; "
NOTICES = CALL + "raise SystemExit(parse('1s') != 1000)"
PASSES = CALL + "parse('1s')"
NEVER_CALLS = "import headrace.model.durations"
ALWAYS_FAILS = CALL + "parse('1s'); raise SystemExit(1)"
ENDS_OTHERWISE = CALL + "parse('1s'); raise SystemExit(3)"


@pytest.fixture(scope="module")
def bed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bed]:
    return Bed(tmp_path_factory.mktemp("bed"))


def test_mutant_is_caught_by_the_first_that_notices(bed: Bed) -> None:
    verdict = _hunt(bed, PASSES, NOTICES)

    assert (verdict.outcome, verdict.by) == ("caught", NOTICES)
    assert verdict.passed_by == (PASSES,)


def test_mutant_that_runs_unnoticed_has_survived(bed: Bed) -> None:
    assert _hunt(bed, PASSES).outcome == "survived"


def test_mutant_that_nobody_runs_is_said_to_be_such(bed: Bed) -> None:
    assert _hunt(bed, NEVER_CALLS).outcome == "never reached"


def test_catcher_that_fails_on_good_code_is_not_believed(bed: Bed) -> None:
    verdict = _hunt(bed, ALWAYS_FAILS)

    assert verdict.outcome == "catcher broken"
    assert "on good code it failed" in verdict.says


def test_catcher_that_ends_without_judging_is_broken(bed: Bed) -> None:
    assert _hunt(bed, ENDS_OTHERWISE).says.endswith("exit code 3: ")


def test_target_that_is_gone_fails_loudly(bed: Bed) -> None:
    verdict = hunt(_mutant(old="no such line"), bed, *_fresh())

    assert verdict.outcome == "target gone"


def test_tree_is_as_it_was_after_the_hunt(bed: Bed) -> None:
    _hunt(bed, NOTICES)

    for path in (ROOT / "src/headrace/model").glob("*.py"):
        assert path.read_text() == (bed.root / path.relative_to(ROOT)).read_text()


def _mutant(
    old: str = "    return int(exact_ms)\n",
    new: str = "    return int(exact_ms) + 1\n",
    catchers: tuple[Catcher, ...] = (),
) -> Mutant:
    """By default: a second is a millisecond longer than it should be."""
    return Mutant(
        name="sample",
        mistake="A duration is wrong.",
        path="model/durations.py",
        old=old,
        new=new,
        breaks="nothing that is promised",
        catchers=catchers or (Catcher("passes", ("-c", PASSES)),),
    )


def _hunt(bed: Bed, *programs: str) -> Verdict:
    catchers = tuple(Catcher(program, ("-c", program)) for program in programs)
    return hunt(_mutant(catchers=catchers), bed, *_fresh())


def _fresh() -> tuple[Baselines, threading.Event]:
    stop = threading.Event()
    return Baselines(stop), stop
