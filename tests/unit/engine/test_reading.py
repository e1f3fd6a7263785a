"""Reads: pages, views, explanations; all of them bounded a turn."""

from __future__ import annotations

import msgspec
import pytest

from headrace.model import limits
from headrace.model.commands import (
    CloseSession,
    ExplainJob,
    GetJob,
    GetQueue,
    ListJobs,
    ListQueues,
    ListSessions,
    PauseQueue,
)
from headrace.model.job import JobError, JobExtra, State
from headrace.model.replies import (
    Explanation,
    JobPage,
    JobView,
    QueuePage,
    QueueReply,
    QueueView,
    SessionPage,
)
from tests.unit.engine.story import PLAIN, Story


def pages(story: Story, command: ListJobs) -> list[list[JobView]]:
    found = []
    while True:
        reply = story.run(command)
        assert isinstance(reply, JobPage)
        found.append(reply.jobs)
        if not reply.cursor:
            return found
        command = msgspec.structs.replace(command, cursor=reply.cursor)


def listed(story: Story, **wanted: object) -> list[bytes]:
    command = ListJobs(limit=7, **wanted)  # type: ignore[arg-type]
    return [job.job_id for page in pages(story, command) for job in page]


def test_pages_show_every_job_once() -> None:
    story = Story(PLAIN)
    ids = story.enqueue(60)
    story.ack(*story.claim(20))
    story.nack(*story.claim(10), retryable=False)

    assert sorted(listed(story)) == sorted(ids)


def test_jobs_that_stay_are_listed_once_while_others_come_and_go() -> None:
    story = Story(PLAIN)
    ids = set(story.enqueue(200))
    command = ListJobs(limit=9)
    seen: list[bytes] = []
    while True:
        reply = story.run(command)
        assert isinstance(reply, JobPage)
        seen += [job.job_id for job in reply.jobs]
        if not reply.cursor:
            break
        command = msgspec.structs.replace(command, cursor=reply.cursor)
        story.enqueue(3)
        gone = story.claim(2)
        story.ack(*gone)
        ids -= {job_id for job_id, _ in gone}

    stayed = [job_id for job_id in seen if job_id in ids]
    assert sorted(stayed) == sorted(ids)


def test_list_filters_by_queue_state_kind_tag_and_time() -> None:
    story = Story()
    plain = story.enqueue_one()
    video = story.enqueue_one(queue="video", kind="cut")
    tagged = story.enqueue_one(extra=JobExtra(tags=("red",)))
    delayed = story.enqueue_one(delay_ms=1_000)
    story.now_ms += 500
    story.engine.begin_turn(story.now_ms)
    later = story.enqueue_one(kind="sum")
    dead = story.claim_one(kinds=("sum",))
    story.nack(dead, retryable=False)
    began_ms = story.now_ms

    assert listed(story, queue="video") == [video]
    assert listed(story, kind="cut") == [video]
    assert listed(story, tag="red") == [tagged]
    assert listed(story, states=(int(State.SCHEDULED),)) == [delayed]
    assert listed(story, states=(int(State.DEAD),)) == [later]
    assert listed(story, enqueued_from_ms=began_ms) == [later]
    assert sorted(listed(story, enqueued_before_ms=began_ms)) == sorted(
        [plain, video, tagged, delayed]
    )


def test_rare_match_is_searched_for_in_bounded_turns() -> None:
    story = Story(PLAIN)
    for _ in range(3):
        story.enqueue(10_000)
    [rare] = story.enqueue(1, extra=JobExtra(tags=("rare",)))

    found = pages(story, ListJobs(tag="rare"))

    assert len(found) == 4
    assert [job.job_id for page in found for job in page] == [rare]


def test_page_of_the_largest_jobs_fits_a_frame() -> None:
    story = Story(PLAIN)
    headers = {"h": "x" * (limits.HEADERS_BYTES_MAX - 1)}
    tags = tuple(str(number) * 32 for number in range(limits.TAGS_MAX))
    story.enqueue(limits.PAGE_ROWS_MAX, extra=JobExtra(tags=tags, headers=headers))
    reply = story.run(ListJobs(limit=limits.PAGE_ROWS_MAX))

    assert len(msgspec.msgpack.encode(reply)) < limits.FRAME_BYTES_MAX // 4


def test_row_of_a_page_shows_the_last_error_and_counts_the_others() -> None:
    story = Story()
    story.enqueue_one()
    for _ in range(3):
        story.nack(story.claim_one(), delay_ms=0)

    [[row]] = pages(story, ListJobs())

    assert [error.attempt for error in row.errors] == [3]
    assert row.errors_dropped == 2
    assert row.errors[0] == JobError("ValueError", "bad", "", story.now_ms, 3, "", True)


@pytest.mark.parametrize("cursor", [b"x", b"l", b"l\xff", b"f", b"f123", b"\xff" * 40])
def test_cursor_that_nobody_gave_out_is_harmless(cursor: bytes) -> None:
    story = Story()
    story.enqueue(3)
    story.run(ListJobs(cursor=cursor))
    story.run(ListSessions(cursor=cursor[:8]))
    story.run(ListQueues(cursor=cursor))


def test_page_beyond_its_limit_is_refused() -> None:
    assert Story().refusal(ListJobs(limit=limits.PAGE_ROWS_MAX + 1)) == "bad_request"
    assert Story().refusal(ListJobs(limit=0)) == "bad_request"


def test_view_of_a_job_without_payload_says_how_large_it_is() -> None:
    story = Story()
    job_id = story.enqueue_one(payload=b"12345")
    view = story.engine.job_view(job_id, with_payload=False)

    assert (view.payload, view.payload_bytes) == (None, 5)
    assert story.refusal(GetJob(b"short")) == "bad_request"
    assert story.refusal(GetJob(bytes(16))) == "unknown_job"


def queue_view(story: Story) -> QueueView:
    reply = story.run(GetQueue("mail"))
    assert isinstance(reply, QueueReply)
    assert reply.queue is not None
    return reply.queue


def test_queue_shows_its_jobs_by_state() -> None:
    story = Story()
    story.enqueue(10)
    story.enqueue(2, delay_ms=1_000)
    leases = story.claim(5)
    story.ack(*leases[:2])
    story.nack(leases[2], retryable=False)
    story.cancel(story.enqueue_one())

    view = queue_view(story)

    assert (view.scheduled, view.ready, view.leased) == (2, 5, 2)
    assert (view.succeeded, view.dead, view.unroutable) == (3, 1, 5)
    assert (view.enqueued_total, view.succeeded_total, view.failed_total) == (13, 2, 1)
    assert (view.dead_total, view.cancelled_total) == (1, 1)


def test_age_of_the_oldest_ready_job_begins_when_it_became_ready() -> None:
    story = Story()
    story.enqueue_one(delay_ms=60_000)
    story.wait(60_000)
    assert queue_view(story).oldest_ready_ms == 0

    story.wait(250)

    assert queue_view(story).oldest_ready_ms == 250


def test_queues_and_sessions_are_listed_page_by_page() -> None:
    story = Story()
    for name in "cab":
        story.enqueue_one(queue=name)
    for number in (1, 2, 3):
        story.open_session(number, queues=("a",))
    first = story.run(ListQueues(limit=2))
    assert isinstance(first, QueuePage)
    second = story.run(ListQueues(limit=2, cursor=first.cursor))
    assert isinstance(second, QueuePage)
    assert [view.queue for view in first.queues + second.queues] == ["a", "b", "c"]
    assert second.cursor == b""

    one = story.run(ListSessions(limit=2))
    assert isinstance(one, SessionPage)
    two = story.run(ListSessions(limit=2, cursor=one.cursor))
    assert isinstance(two, SessionPage)
    assert [view.pid for view in one.sessions + two.sessions] == [1, 2, 3]


# --- explain


def explained(story: Story, job_id: bytes) -> list[str]:
    reply = story.run(ExplainJob(job_id))
    assert isinstance(reply, Explanation)
    assert reply.summary == reply.reasons[0].sentence
    return [reason.code for reason in reply.reasons]


def test_explain_says_what_holds_a_job_back() -> None:
    story = Story()
    first, second = story.enqueue(2)
    assert explained(story, first) == ["unroutable"]
    assert explained(story, second) == ["unroutable", "behind"]

    session_id = story.open_session(credit=1)
    assert explained(story, first) == ["next"]

    story.engine.set_connected(session_id, False)
    assert explained(story, first) == ["disconnected"]

    story.engine.set_connected(session_id, True)
    story.dispatch()
    assert explained(story, first) == ["reserved"]
    assert explained(story, second) == ["no_room"]

    story.run(PauseQueue("mail"))
    assert explained(story, second) == ["paused", "no_room"]

    story.cancel(first)
    assert explained(story, first) == ["cancelling"]

    story.run(CloseSession(session_id))
    assert explained(story, first) == ["cancelled"]


def test_explain_says_when_a_job_is_due_and_how_it_ended() -> None:
    story = Story()
    delayed = story.enqueue_one(delay_ms=1_000)
    assert explained(story, delayed)[0] == "scheduled"

    failed = story.enqueue_one()
    story.nack(story.claim_one(), delay_ms=50)
    assert explained(story, failed)[0] == "retry"

    story.wait(2_000)
    lease = story.claim_one()
    story.nack(lease, retryable=False)
    assert explained(story, lease[0]) == ["dead"]
    assert story.refusal(ExplainJob(bytes(16))) == "unknown_job"


def test_explain_counts_the_jobs_ahead() -> None:
    story = Story()
    story.enqueue(3, priority=101)
    ids = story.enqueue(4)
    reply = story.run(ExplainJob(ids[3]))

    assert isinstance(reply, Explanation)
    assert reply.reasons[-1].sentence == "6 jobs of its kind are served before it."


def test_gauges_are_the_sums_over_queues() -> None:
    story = Story()
    story.enqueue(3)
    story.enqueue(2, queue="video")
    story.claim(1)

    gauges = story.engine.gauges()

    assert gauges["headrace_jobs"] == 5
    assert gauges["headrace_jobs_ready"] == 4
    assert gauges["headrace_jobs_leased"] == 1
    assert gauges["headrace_queues"] == 2
