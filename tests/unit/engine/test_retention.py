"""Final jobs: how long they are kept, how long their ids, their keys, and who is late."""

from __future__ import annotations

import pytest

from headrace.model import limits
from headrace.model.commands import ConfigureQueue, Enqueue, ListJobs, Maintain, NewJob
from headrace.model.errors import ClientError
from headrace.model.job import JobExtra, JobSpec, State
from headrace.model.options import EngineOptions
from headrace.model.queue import QueueSettings
from headrace.model.records import FinishedPruned, IdsForgotten
from headrace.model.replies import Enqueued, JobPage
from tests.unit.engine.story import PLAIN, Lease, Story


def succeed(
    story: Story, count: int, *, queue: str = "mail", payload: bytes = b"{}"
) -> list[Lease]:
    story.enqueue(count, queue=queue, payload=payload)
    leases = story.claim(count, queues=(queue,))
    story.ack(*leases)
    story.dispatch()
    return leases


def kept(story: Story) -> list[bytes]:
    """Ids of final jobs, newest first of each ring."""
    reply = story.run(ListJobs(states=(5, 6, 7), limit=1_000))
    assert isinstance(reply, JobPage)
    return [job.job_id for job in reply.jobs]


def test_ring_keeps_the_newest_by_count() -> None:
    story = Story()
    story.run(ConfigureQueue("mail", QueueSettings(succeeded_count=3)))
    ids = [job_id for job_id, _ in succeed(story, 5)]

    assert kept(story) == ids[:1:-1]
    story.assert_replays()


def test_ring_keeps_the_newest_by_bytes() -> None:
    story = Story()
    story.run(ConfigureQueue("mail", QueueSettings(succeeded_bytes=2_500)))
    ids = [job_id for job_id, _ in succeed(story, 5, payload=bytes(1_000))]

    assert kept(story) == ids[:2:-1]


@pytest.mark.parametrize("state", [State.SUCCEEDED, State.DEAD])
def test_ring_keeps_by_age(state: State) -> None:
    story = Story()
    story.run(ConfigureQueue("mail", QueueSettings(succeeded_age_ms=5_000, dead_age_ms=5_000)))
    story.enqueue_one()
    lease = story.claim_one()
    if state is State.DEAD:
        story.nack(lease, retryable=False)
    else:
        story.ack(lease)

    story.wait(4_999)
    assert kept(story) == [lease[0]]

    story.wait(1_001)
    assert kept(story) == []
    story.assert_replays()


def test_dead_jobs_have_a_ring_of_their_own() -> None:
    story = Story()
    story.run(ConfigureQueue("mail", QueueSettings(succeeded_count=1)))
    dead = story.enqueue(3)
    story.nack(*story.claim(3), retryable=False)
    succeed(story, 3)

    assert [story.state(job_id) for job_id in dead] == [State.DEAD] * 3


def test_largest_ring_pays_when_the_node_keeps_too_much() -> None:
    story = Story(EngineOptions(verify=True, finished_bytes=20_000))
    [(small, _)] = succeed(story, 1, queue="video")
    succeed(story, 19, payload=bytes(1_000))
    [(newest, _)] = succeed(story, 1, queue="video")

    assert {small, newest} <= set(kept(story))
    assert story.engine.state.finished_bytes <= 20_000


def test_shorter_settings_prune_in_steps() -> None:
    story = Story(PLAIN)
    for _ in range(3):
        succeed(story, 1_000)
    story.run(ConfigureQueue("mail", QueueSettings(succeeded_count=0)))
    story.engine.begin_turn(story.now_ms)
    steps = []
    while True:
        more = story.engine.dispatch()
        steps.append(sum(r.count for r in story.commit() if isinstance(r, FinishedPruned)))
        if not more:
            break

    assert [count for count in steps if count] == [limits.STEP_JOBS_MAX] * 3


def test_retention_by_age_is_bounded_over_all_queues() -> None:
    story = Story(PLAIN)
    for number in range(4):
        queue = f"q{number}"
        story.run(ConfigureQueue(queue, QueueSettings(succeeded_age_ms=1_000)))
        succeed(story, 600, queue=queue)
    story.now_ms += 5_000
    story.engine.begin_turn(story.now_ms)
    story.engine.run(Maintain())
    dropped = sum(r.count for r in story.commit() if isinstance(r, FinishedPruned))

    assert dropped == limits.STEP_JOBS_MAX
    story.wait(1_000)
    assert kept(story) == []


def test_ids_are_remembered_and_then_forgotten() -> None:
    story = Story()
    story.run(ConfigureQueue("mail", QueueSettings(succeeded_count=0)))
    [(job_id, _)] = succeed(story, 1)
    command = Enqueue([JobSpec("mail", "send")], [NewJob(job_id, 0, b"{}")])

    story.wait(limits.REMEMBER_MS - 1)
    story.run(Maintain())
    reply = story.run(command)
    assert isinstance(reply, Enqueued)
    assert reply.existing is not None
    assert reply.existing[0].state == State.SUCCEEDED

    story.wait(1_001)
    reply = story.run(command)
    assert isinstance(reply, Enqueued)
    assert reply.existing is None
    story.assert_replays()


def test_ids_are_not_forgotten_soon_after_a_start_whatever_the_clock_says() -> None:
    story = Story()
    story.run(ConfigureQueue("mail", QueueSettings(succeeded_count=0)))
    [(job_id, _)] = succeed(story, 1)
    command = Enqueue([JobSpec("mail", "send")], [NewJob(job_id, 0, b"{}")])

    story.now_ms += 3_600_000  # the wall clock jumped while the node was down
    story.engine.start_epoch(2, b"nonce", "node", story.now_ms)
    story.commit()
    story.wait(limits.REMEMBER_MS - 1)
    story.run(Maintain())
    reply = story.run(command)

    assert isinstance(reply, Enqueued)
    assert reply.existing is not None

    story.wait(1_001)

    reply = story.run(command)
    assert isinstance(reply, Enqueued)
    assert reply.existing is None
    story.assert_replays()


def test_remembered_id_says_how_its_job_ended() -> None:
    story = Story()
    story.run(ConfigureQueue("mail", QueueSettings(succeeded_count=0)))
    [(job_id, _)] = succeed(story, 1)

    with pytest.raises(ClientError, match=r"has ended \(succeeded\), and is not kept"):
        story.job(job_id)


def test_forgetting_goes_in_steps_of_a_slice() -> None:
    story = Story(PLAIN)
    for _ in range(12):
        succeed(story, 1_000)
    story.now_ms += limits.REMEMBER_MS + 20_000
    forgotten = []
    for _ in range(5):
        story.engine.begin_turn(story.now_ms)
        story.engine.run(Maintain())
        forgotten.append(sum(r.count for r in story.commit() if isinstance(r, IdsForgotten)))

    assert sum(forgotten) == 12_000
    assert max(forgotten) <= limits.STEP_JOBS_MAX + 4_096


def test_revive_and_delete_leave_no_bytes_in_a_ring() -> None:
    """One old job at the head must not keep what left from behind it."""
    story = Story(PLAIN)
    succeed(story, 1)
    ids = [job_id for job_id, _ in succeed(story, 500, payload=bytes(1_000))]
    for job_id in ids:
        story.delete(job_id)

    ring = story.engine.state.queues["mail"].rings[0]
    assert sum(len(entry.packed) for entry in ring.entries) < 100_000


# --- keys


def same_key(story: Story, payload: bytes = b"{}", window_ms: int = 1_000) -> Enqueued:
    extra = JobExtra(key="order-1", key_window_ms=window_ms)
    job = NewJob(story.new_id(), 0, payload, extra=extra)
    reply = story.run(Enqueue([JobSpec("mail", "send")], [job]))
    assert isinstance(reply, Enqueued)
    return reply


def test_same_key_in_its_window_is_the_first_job() -> None:
    story = Story()
    first = story.enqueue_one(extra=JobExtra(key="order-1", key_window_ms=1_000))

    [existing] = same_key(story).existing or []

    assert existing.job_id == first
    assert existing.state == State.READY


def test_key_outlives_its_job() -> None:
    story = Story()
    first = story.enqueue_one(extra=JobExtra(key="order-1"))
    story.ack(story.claim_one())
    story.wait(2 * limits.REMEMBER_MS)

    [existing] = same_key(story).existing or []

    assert existing.job_id == first


def test_same_key_with_another_payload_is_a_conflict() -> None:
    story = Story()
    same_key(story)

    [problem] = same_key(story, b"[]").problems or []

    assert problem.code == "key_conflict"


def test_key_is_free_after_its_window() -> None:
    story = Story()
    same_key(story)
    story.wait(999)
    assert same_key(story).existing is not None

    story.wait(1)
    assert same_key(story).existing is None
    story.wait(60_000)
    assert len(story.engine.state.keys) == 0
    story.assert_replays()


def test_key_belongs_to_queue_and_kind() -> None:
    story = Story()
    extra = JobExtra(key="order-1")

    ids = story.enqueue(1, extra=extra) + story.enqueue(1, kind="cut", extra=extra)
    ids += story.enqueue(1, queue="video", extra=extra)

    assert len(set(ids)) == 3


def test_one_call_that_uses_a_key_twice_creates_one_job() -> None:
    story = Story()
    extra = JobExtra(key="a")
    jobs = [NewJob(story.new_id(), 0, b"{}", extra=extra) for _ in range(3)]

    reply = story.run(Enqueue([JobSpec("mail", "send")], jobs))

    assert isinstance(reply, Enqueued)
    assert [(one.position, one.job_id, one.state) for one in reply.existing or []] == [
        (1, jobs[0].job_id, State.READY),
        (2, jobs[0].job_id, State.READY),
    ]
    assert story.engine.state.job_count == 1


# --- start-by


def late(story: Story, ms: int = 1_000) -> bytes:
    return story.enqueue_one(extra=JobExtra(start_by_ms=story.now_ms + ms))


def test_job_that_has_not_started_in_time_is_cancelled() -> None:
    story = Story()
    job_id = late(story)
    story.wait(999)
    assert story.state(job_id) is State.READY

    story.wait(1)

    view = story.job(job_id)
    assert (view.state, view.reason) == (State.CANCELLED, "start_by")
    story.assert_replays()


def test_late_job_is_cancelled_and_not_claimed_even_before_maintenance() -> None:
    story = Story()
    story.open_session()
    job_id = late(story)
    story.now_ms += 1_000

    assert story.dispatch() == []
    assert story.claim() == []
    assert story.state(job_id) is State.CANCELLED


def test_more_late_jobs_than_one_step_cancels_are_claimed_by_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "STEP_JOBS_MAX", 10)
    story = Story()
    extra = JobExtra(start_by_ms=story.now_ms + 1_000)
    count = 2 * limits.STEP_JOBS_MAX + 1
    for _ in range(count):
        story.enqueue_one(extra=extra)
    in_time = story.enqueue_one()
    story.now_ms += 1_000

    assert story.claim() == []
    story.open_session(credit=count)
    [push] = story.dispatch()
    assert [job.job_id for group in push.groups for job in group.jobs] == [in_time]


def test_start_by_holds_after_a_recovery() -> None:
    story = Story()
    late(story)

    loaded = story.loaded(story.snapshot(), story.engine.last_index)

    assert loaded.next_due_ms() == story.now_ms + 1_000


def test_job_that_comes_back_unstarted_is_still_bound() -> None:
    story = Story()
    job_id = late(story)
    lease = story.claim_one()
    story.wait(100)
    story.release(lease)

    story.wait(900)

    assert story.state(job_id) is State.CANCELLED


@pytest.mark.parametrize("end", ["nack", "snooze", "lost"])
def test_job_that_has_started_is_bound_no_more(end: str) -> None:
    story = Story()
    job_id = late(story)
    lease = story.claim_one()
    if end == "nack":
        story.nack(lease, delay_ms=10)
    elif end == "snooze":
        story.release(lease, delay_ms=10, started=True)
    else:
        story.expire(lease)
    blocks, index = story.snapshot(), story.engine.last_index

    story.wait(2_000)

    assert story.state(job_id) is State.READY
    assert story.loaded(blocks, index).next_due_ms() == story.engine.next_due_ms()


def test_leased_job_is_cancelled_when_it_returns_too_late() -> None:
    story = Story()
    job_id = late(story)
    lease = story.claim_one()
    story.wait(5_000)
    assert story.state(job_id) is State.LEASED

    story.expire(lease, started=False)
    story.wait(0)

    assert story.state(job_id) is State.CANCELLED
