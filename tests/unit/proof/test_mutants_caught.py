"""One mutant of each class is really hunted; all of them are by `python -m proof.mutants`."""

from __future__ import annotations

import threading

import pytest

from proof.mutants.catalog import all_mutants
from proof.mutants.hunting import Baselines, hunt
from proof.mutants.planting import Bed

pytestmark = pytest.mark.proof

ONE_OF_EACH_CLASS = (
    "stale-ack-accepted",
    "no-sync-after-append",
    "reply-before-durable",
    "revive-repeated",
    "record-numbers-swapped",
)


@pytest.fixture(scope="module")
def bed(tmp_path_factory: pytest.TempPathFactory) -> Bed:
    return Bed(tmp_path_factory.mktemp("bed"))


@pytest.mark.parametrize("name", ONE_OF_EACH_CLASS)
def test_mutant_is_caught_where_its_code_runs(name: str, bed: Bed) -> None:
    _, mutant = all_mutants()[name]
    stop = threading.Event()

    verdict = hunt(mutant, bed, Baselines(stop), stop)

    assert verdict.outcome == "caught", verdict
    assert verdict.broken == ()


def test_each_class_has_its_mutant_here() -> None:
    kinds = [all_mutants()[name][0] for name in ONE_OF_EACH_CLASS]

    assert sorted(kinds) == sorted({kind for kind, _ in all_mutants().values()})
