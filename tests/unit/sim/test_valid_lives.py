"""Lives in which nothing is wrong: no checker may complain of the real engine."""

from __future__ import annotations

import pytest

from headrace.model.options import EngineOptions
from headrace.sim.checkers import ALL, NOT_APPLICABLE, check_all
from headrace.sim.final import Final
from headrace.sim.history import History
from tests.unit.engine.random_story import RandomStory
from tests.unit.sim.telling import Telling, judged


@pytest.mark.parametrize("seed", range(8))
def test_no_checker_complains_of_a_random_life_of_the_engine(seed: int) -> None:
    life = RandomStory(seed)
    story = Telling(EngineOptions(finished_bytes=life.story.options.finished_bytes))
    life.story = story
    life.live(200)

    # Nobody serves the leases of this life, and nobody watches their time.
    judgement = judged(story, healed_ms=-1)

    assert judgement.violations == []
    assert judgement.undecided == 0
    assert judgement.jobs > 0


def test_a_life_that_ends_well_passes_every_checker_also_of_progress() -> None:
    story = Telling()
    story.open_session()
    ids = story.enqueue(5)
    late = story.enqueue(2, delay_ms=50)
    for effect in story.dispatch():
        for group in effect.groups:
            for job in group.jobs:
                story.begin(job.job_id, group.token)
                story.end(job.job_id, group.token)
                story.ack((job.job_id, group.token))
    story.cancel(late[0])
    story.job(ids[0])

    assert judged(story).violations == []


def test_a_history_without_log_and_end_is_judged_as_far_as_it_goes() -> None:
    judgement = check_all(History(), Final())

    assert judgement.violations == []
    assert set(judgement.passed_over) == {name for name, one in ALL.items() if one.needs_log}


def test_every_invariant_has_a_checker_or_a_reason() -> None:
    owned = {number for checker in ALL.values() for number in checker.invariants}
    excused = {name.split()[0] for name in NOT_APPLICABLE}

    assert owned | excused == {f"I{number}" for number in range(1, 16)}
    assert owned & {"I9", "I10"} == set()


def test_every_clause_of_the_contract_that_applies_has_a_checker() -> None:
    owned = {clause for checker in ALL.values() for clause in checker.clauses}

    # (6) schedules and (7) batches come with their features.
    assert owned == {1, 2, 3, 4, 5, 8}


def test_every_checker_says_what_it_promises() -> None:
    assert all(checker.promise.endswith(".") for checker in ALL.values())
