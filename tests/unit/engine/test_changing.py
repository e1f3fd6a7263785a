"""Cancel, move in time and priority, revive, delete and purge."""

from __future__ import annotations

import pytest

from headrace.model import limits
from headrace.model.commands import (
    ChangePriority,
    Delete,
    Enqueue,
    NewJob,
    Purge,
    Reschedule,
    Revive,
)
from headrace.model.job import JobExtra, JobSpec, State
from headrace.model.replies import Changed, Enqueued, Purged
from tests.unit.engine.story import PLAIN, Story


def test_reschedule_moves_a_ready_job_into_the_future_and_back() -> None:
    story = Story()
    moved, other = story.enqueue(2)

    story.run(Reschedule(moved, 0, 500))

    assert story.state(moved) is State.SCHEDULED
    assert story.claim(5)[0][0] == other

    story.run(Reschedule(moved))

    assert story.state(moved) is State.READY
    assert story.claim_one()[0] == moved
    story.assert_replays()


def test_reschedule_moves_a_scheduled_job_in_time() -> None:
    story = Story()
    job_id = story.enqueue_one(delay_ms=60_000)

    story.run(Reschedule(job_id, 0, 1_000))
    story.wait(999)

    assert story.state(job_id) is State.SCHEDULED

    story.wait(1)

    assert story.state(job_id) is State.READY
    story.assert_replays()


def test_run_now_leaves_a_ready_job_in_its_place() -> None:
    story = Story()
    first, second = story.enqueue(2)

    story.run(Reschedule(first))

    assert [job_id for job_id, _ in story.claim(2)] == [first, second]


def test_priority_of_a_scheduled_job_changes_without_moving_it_in_time() -> None:
    story = Story()
    job_id = story.enqueue_one(delay_ms=1_000)

    story.run(ChangePriority(job_id, 5))
    story.wait(1_000)

    assert story.job(job_id).priority == 5
    assert story.claim_one()[0] == job_id
    story.assert_replays()


def test_priority_changed_there_and_back_keeps_the_place_of_a_job() -> None:
    """The old copies of the job still stand in both lanes, under the same number."""
    story = Story()
    ids = story.enqueue(4)
    for priority in (7, 100, 7, 100):
        story.run(ChangePriority(ids[1], priority))

    assert [job_id for job_id, _ in story.claim(4)] == ids


def test_delete_and_a_snapshot_under_way_do_not_disturb_each_other() -> None:
    story = Story()
    job_id = story.enqueue_one(delay_ms=1_000)
    walk = story.engine.begin_snapshot()

    story.delete(job_id)
    rows = walk.next_rows(100)

    [state] = [row.state for row in rows if type(row).__name__ == "JobRow"]
    assert state == State.SCHEDULED


def test_deleted_id_is_remembered_and_its_key_is_free() -> None:
    story = Story()
    extra = JobExtra(key="order-1")
    first = story.enqueue_one(extra=extra)

    story.delete(first)

    assert story.refusal(Delete(first)) == "unknown_job"
    again = story.run(Enqueue([JobSpec("mail", "send")], [NewJob(first, 0, b"{}")]))
    assert isinstance(again, Enqueued)
    assert again.existing is not None
    second = story.enqueue_one(extra=extra)
    assert second != first


def test_revived_job_begins_again_and_keeps_its_errors() -> None:
    story = Story()
    job_id = story.enqueue_one()
    story.nack(story.claim_one(), retryable=False)

    story.revive(job_id)

    view = story.job(job_id)
    assert (view.state, view.attempt, len(view.errors)) == (State.READY, 0, 1)
    story.assert_replays()


def test_revived_job_may_crash_as_often_as_a_new_one() -> None:
    """What counts towards death begins again, else a crashed job would die at once."""
    story = Story()
    job_id = story.enqueue_one()
    for _ in range(limits.CRASH_MAX):
        story.expire(story.claim_one())
    assert story.state(job_id) is State.DEAD

    story.revive(job_id)
    for _ in range(limits.CRASH_MAX - 1):
        story.expire(story.claim_one())

    assert story.state(job_id) is State.READY
    for _ in range(limits.RESERVED_RETURNS_MAX - 1):
        story.expire(story.claim_one(), started=False)
    assert story.state(job_id) is State.READY


def test_revived_job_is_not_cancelled_by_a_start_by_that_has_passed() -> None:
    story = Story()
    job_id = story.enqueue_one(extra=JobExtra(start_by_ms=story.now_ms + 1_000))
    story.wait(1_000)
    assert story.state(job_id) is State.CANCELLED

    story.revive(job_id)
    story.wait(1_000)

    assert story.state(job_id) is State.READY
    story.assert_replays()


def test_revive_needs_more_than_a_remembered_id() -> None:
    story = Story()
    job_id = story.enqueue_one()
    story.ack(story.claim_one())
    story.run(Purge("mail", (int(State.SUCCEEDED),)))

    assert story.refusal(Revive(job_id)) == "unknown_job"


@pytest.mark.parametrize("state", [State.READY, State.SCHEDULED, State.SUCCEEDED, State.CANCELLED])
def test_purge_takes_a_thousand_jobs_a_call_and_says_when_there_are_more(state: State) -> None:
    story = Story(PLAIN)
    count = 2 * limits.STEP_JOBS_MAX + 1
    ids = story.enqueue(count, delay_ms=1_000 if state is State.SCHEDULED else 0)
    if state is State.SUCCEEDED:
        while leases := story.claim(1_024):
            story.ack(*leases)
    if state is State.CANCELLED:
        for job_id in ids:
            story.cancel(job_id)
    purged = []
    while True:
        reply = story.run(Purge("mail", (int(state),)))
        assert isinstance(reply, Purged)
        purged.append(reply.count)
        if not reply.more:
            break

    assert purged == [limits.STEP_JOBS_MAX, limits.STEP_JOBS_MAX, 1]


def test_purge_of_scheduled_jobs_looks_at_few_of_other_queues() -> None:
    story = Story(PLAIN)
    for _ in range(3):
        story.enqueue(10_000, queue="video", delay_ms=1_000)
    wanted = story.enqueue(5, delay_ms=2_000)
    count = 0
    for _ in range(4):
        reply = story.run(Purge("mail", (int(State.SCHEDULED),)))
        assert isinstance(reply, Purged)
        count += reply.count
        if not reply.more:
            break

    assert count == len(wanted)
    assert not reply.more


def test_change_of_a_leased_job_is_refused_as_wrong_state() -> None:
    story = Story()
    job_id = story.enqueue_one()
    story.claim_one()

    assert story.refusal(Reschedule(job_id)) == "wrong_state"
    assert story.refusal(ChangePriority(job_id, 1)) == "wrong_state"
    assert story.refusal(Delete(job_id)) == "wrong_state"
    assert story.refusal(Revive(job_id)) == "wrong_state"


def test_cancel_of_a_leased_job_waits_for_its_holder() -> None:
    story = Story()
    job_id = story.enqueue_one()
    story.claim_one()

    reply = story.cancel(job_id)

    assert isinstance(reply, Changed)
    assert (reply.state, reply.cancel_requested) == (State.LEASED, True)


def test_ack_that_comes_before_the_cancel_is_confirmed_wins() -> None:
    story = Story()
    job_id = story.enqueue_one()
    lease = story.claim_one()
    story.cancel(job_id)

    story.ack(lease)

    assert story.state(job_id) is State.SUCCEEDED


@pytest.mark.parametrize("end", ["nack", "release", "expire", "return", "timeout"])
def test_every_other_end_of_a_cancelled_lease_is_cancelled_and_no_retry(end: str) -> None:
    story = Story()
    job_id = story.enqueue_one()
    lease = story.claim_one()
    story.cancel(job_id)

    if end == "nack":
        story.nack(lease)
    elif end == "release":
        story.release(lease, delay_ms=50)
    else:
        reason = "timeout" if end == "timeout" else "worker_lost"
        story.expire(lease, started=end != "return", reason=reason)

    view = story.job(job_id)
    assert (view.state, view.reason) == (State.CANCELLED, "not wanted")
    story.assert_replays()
