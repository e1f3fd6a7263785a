"""Order and time: who is served out of turn, too early, or too late."""

from __future__ import annotations

import pytest

from headrace.model import records as r
from headrace.model.commands import Claim, PauseQueue, ResumeQueue
from headrace.model.job import JobExtra
from headrace.sim.history import Recorded
from tests.unit.engine.story import BEGIN_MS
from tests.unit.sim.telling import Telling, complaints, insert, last_call, records_of, rewrite


def claim_of(story: Telling, *job_ids: bytes) -> None:
    """The newest claim has leased these instead."""
    rewrite(story, r.JobsClaimed, lambda record: setattr(record, "job_ids", list(job_ids)))


# --- FirstInFirstOut


def test_first_in_is_first_out() -> None:
    story = Telling()
    first, second, third = story.enqueue(3)
    story.claim(2)

    assert complaints("FirstInFirstOut", story) == []

    claim_of(story, first, third)

    assert "passed over" in complaints("FirstInFirstOut", story)[0]

    claim_of(story, second, first)

    assert "claimed behind one that comes after it" in complaints("FirstInFirstOut", story)[0]


def test_a_higher_priority_comes_first() -> None:
    story = Telling()
    [low] = story.enqueue(1, priority=1)
    story.enqueue(1, priority=200)
    story.claim(1)

    assert complaints("FirstInFirstOut", story) == []

    claim_of(story, low)

    assert "passed over" in complaints("FirstInFirstOut", story)[0]


def test_kinds_that_the_holder_serves_stand_in_one_line() -> None:
    story = Telling()
    story.enqueue(1, kind="cut")
    [later] = story.enqueue(1, kind="send")
    story.claim(1, kinds=("send", "cut"))

    assert complaints("FirstInFirstOut", story) == []

    claim_of(story, later)
    last_call(story, Claim).reply.groups[0].jobs[0].job_id = later  # type: ignore[union-attr]

    assert "passed over" in complaints("FirstInFirstOut", story)[0]


def test_kinds_and_queues_that_it_does_not_serve_are_passed_by_rightly() -> None:
    story = Telling()
    story.enqueue(1, kind="cut")
    story.enqueue(1, queue="video")
    story.enqueue(1)
    story.claim(1)

    assert complaints("FirstInFirstOut", story) == []


def test_a_released_job_keeps_its_place_and_a_failed_one_loses_it() -> None:
    story = Telling()
    first, second = story.enqueue(2)
    story.release(story.claim_one())

    assert story.claim_one()[0] == first
    assert complaints("FirstInFirstOut", story) == []

    claim_of(story, second)

    assert "passed over" in complaints("FirstInFirstOut", story)[0]


def test_due_jobs_stand_behind_those_that_were_ready() -> None:
    story = Telling()
    [late] = story.enqueue(1, delay_ms=10)
    story.enqueue(1)
    story.wait(20)
    story.claim(1)

    assert complaints("FirstInFirstOut", story) == []

    claim_of(story, late)

    assert "passed over" in complaints("FirstInFirstOut", story)[0]


# --- ClaimsFit


def test_a_claim_from_a_paused_queue_is_seen() -> None:
    story = Telling()
    story.enqueue(1)
    story.run(PauseQueue("mail"))
    story.run(ResumeQueue("mail"))
    story.claim(1)

    assert complaints("ClaimsFit", story) == []

    story.history.events.remove(records_of(story, r.QueueConfigured)[-1])

    assert "was paused" in complaints("ClaimsFit", story)[0]


@pytest.mark.parametrize("served", [{"kind": "cut"}, {"queue": "video"}])
def test_a_session_gets_only_what_it_serves(served: dict[str, str]) -> None:
    story = Telling()
    [other] = story.enqueue(1, **served)  # type: ignore[arg-type]
    story.enqueue(1)
    story.open_session()
    story.dispatch()

    assert complaints("ClaimsFit", story) == []

    claim_of(story, other)

    assert "does not serve it" in complaints("ClaimsFit", story)[0]


def test_a_session_that_never_opened_gets_nothing() -> None:
    story = Telling()
    [job_id] = story.enqueue(1)
    insert(story, r.JobsClaimed(bytes(16), [job_id]))

    assert "never opened" in complaints("ClaimsFit", story)[0]


def test_a_claim_is_answered_with_what_was_asked() -> None:
    story = Telling()
    story.enqueue(2)
    story.claim(2)
    command = last_call(story, Claim).command
    assert isinstance(command, Claim)
    command.jobs_max = 1

    assert "more than 1 jobs" in complaints("ClaimsFit", story)[0]

    command.jobs_max, command.kinds = 2, ("cut",)

    assert "not asked for" in complaints("ClaimsFit", story)[0]


# --- NeverEarly


def test_a_job_that_is_promoted_or_claimed_before_its_time_is_seen() -> None:
    story = Telling()
    story.enqueue(1, delay_ms=1_000)
    story.wait(1_000)
    story.claim_one()

    assert complaints("NeverEarly", story) == []

    for event in records_of(story, r.TimePassed):
        event.record.now_ms = BEGIN_MS  # type: ignore[attr-defined]

    found = complaints("NeverEarly", story)
    assert any("promote 1000 ms before" in one for one in found)
    assert any("claim 1000 ms before" in one for one in found)


# --- NeverAfterStartBy


def test_a_claim_after_the_start_by_is_seen() -> None:
    story = Telling()
    story.enqueue(1, extra=JobExtra(start_by_ms=BEGIN_MS + 100))
    story.claim_one()

    assert complaints("NeverAfterStartBy", story) == []

    insert(story, r.TimePassed(BEGIN_MS + 150), at_index=3)

    assert "50 ms after its start-by" in complaints("NeverAfterStartBy", story)[0]


def test_a_job_that_ran_once_is_bound_no_more() -> None:
    story = Telling()
    story.enqueue(1, extra=JobExtra(start_by_ms=BEGIN_MS + 100))
    story.nack(story.claim_one(), delay_ms=0)
    story.wait(200)
    story.claim_one()

    assert complaints("NeverAfterStartBy", story) == []


def test_a_job_that_is_cancelled_as_too_late_was_too_late() -> None:
    story = Telling()
    story.enqueue(1, extra=JobExtra(start_by_ms=BEGIN_MS + 100))
    story.wait(200)

    assert complaints("NeverAfterStartBy", story) == []
    assert records_of(story, r.JobsCancelled)

    story = Telling()
    [job_id] = story.enqueue(1)
    insert(story, r.JobsCancelled([(job_id, 0)], "start_by"))

    assert "cancelled as too late, and is not" in complaints("NeverAfterStartBy", story)[0]


# --- LogTimeGrows


def test_log_time_that_goes_back_or_ahead_of_its_commit_is_seen() -> None:
    story = Telling()
    story.enqueue(1)

    assert complaints("LogTimeGrows", story) == []

    insert(story, r.TimePassed(BEGIN_MS - 1))

    assert "fell from" in complaints("LogTimeGrows", story)[0]

    story = Telling()
    index = story.engine.last_index + 1
    late = Recorded(story.tick(), index, BEGIN_MS, r.TimePassed(BEGIN_MS + 9))
    story.history.events.append(late)

    assert "9 ms ahead of its commit" in complaints("LogTimeGrows", story)[0]
