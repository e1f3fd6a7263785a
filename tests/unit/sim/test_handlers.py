"""Handlers: a success that comes before the code has run."""

from __future__ import annotations

from headrace.sim.history import HandlerEnded
from tests.unit.sim.telling import Telling, complaints


def began() -> tuple[Telling, bytes, int]:
    story = Telling()
    story.enqueue_one()
    job_id, token = story.claim_one()
    story.begin(job_id, token)
    return story, job_id, token


def test_a_success_while_the_handler_runs_is_seen() -> None:
    story, job_id, token = began()
    story.ack((job_id, token))

    assert f"under lease {token} while its handler runs" in complaints("DoneIsDone", story)[0]


def test_a_handler_that_begins_after_its_success_is_seen() -> None:
    story = Telling()
    story.enqueue_one()
    lease = story.claim_one()
    story.ack(lease)
    story.begin(*lease)

    assert "begins after" in complaints("DoneIsDone", story)[0]


def test_a_success_after_its_handler_has_ended_is_well() -> None:
    story, job_id, token = began()
    story.history.events.append(HandlerEnded(story.tick(), "worker 1", job_id, token))
    story.ack((job_id, token))

    assert complaints("DoneIsDone", story) == []


def test_another_lease_may_succeed_while_an_old_handler_still_runs() -> None:
    story, job_id, token = began()
    story.expire((job_id, token))
    story.ack(story.claim_one())

    assert complaints("DoneIsDone", story) == []
