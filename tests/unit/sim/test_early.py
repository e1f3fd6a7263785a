"""Answers ahead of the disk: only where the queue wants them, and undone only by a crash."""

from __future__ import annotations

import pytest

from headrace.model.commands import Ack, ConfigureQueue, Enqueue, NewJob
from headrace.model.job import JobSpec
from headrace.model.queue import DURABILITY_ASYNC, DURABILITY_GROUP, QueueSettings
from headrace.model.records import EpochStarted, JobsEnqueued
from headrace.sim.history import Call, Connected
from tests.unit.sim.telling import BY_CLIENT, Telling, complaints, drop, insert, last_call

ASYNC = QueueSettings(durability=DURABILITY_ASYNC)


def early(call: Call) -> Call:
    """Answered at once, ahead of the commit."""
    assert call.reply is not None
    call.reply.durability, call.returned_ns = DURABILITY_ASYNC, call.called_ns
    return call


def enqueue(story: Telling, *queues: str) -> Call:
    specs = [JobSpec(queue, "send") for queue in queues]
    jobs = [NewJob(story.new_id(), number, b"{}") for number in range(len(queues))]
    story.run(Enqueue(specs, jobs))
    return early(last_call(story, Enqueue))


def configured() -> Telling:
    story = Telling()
    story.run(ConfigureQueue("mail", ASYNC))
    return story


def test_an_async_queue_is_answered_early() -> None:
    story = configured()
    enqueue(story, "mail")

    assert complaints("AnswersAreDurable", story) == []


@pytest.mark.parametrize("queues", [("video",), ("mail", "video")])
def test_the_word_of_a_server_that_answers_early_elsewhere_is_not_taken(
    queues: tuple[str, ...],
) -> None:
    story = configured()
    enqueue(story, *queues)

    found = complaints("AnswersAreDurable", story)

    assert "its queue is not `async`" in found[0]
    assert "before it was durable" in found[1]


def test_a_queue_is_async_from_its_setting_on_and_no_longer() -> None:
    before, after = Telling(), configured()
    enqueue(before, "mail")
    before.run(ConfigureQueue("mail", ASYNC))
    after.run(ConfigureQueue("mail", QueueSettings()))
    enqueue(after, "mail")

    assert complaints("AnswersAreDurable", before) != []
    assert complaints("AnswersAreDurable", after) != []


def test_a_setting_under_way_may_be_in_force_and_be_lost() -> None:
    story = Telling()
    story.history.call(BY_CLIENT, ConfigureQueue("mail", ASYNC), story.tick())
    call = enqueue(story, "mail")

    assert complaints("AnswersAreDurable", story) == []

    other = last_call(story, ConfigureQueue)
    other.called_ns = call.returned_ns + 1

    assert complaints("AnswersAreDurable", story) != []


@pytest.mark.parametrize(("queue", "right"), [("mail", True), ("video", False)])
def test_an_ack_is_early_when_the_queues_of_its_jobs_are_async(queue: str, right: bool) -> None:
    story = configured()
    story.enqueue_one(queue=queue)
    story.ack(story.claim_one(queues=(queue,)))
    early(last_call(story, Ack))

    assert (complaints("AnswersAreDurable", story) == []) is right


def test_an_ack_that_ended_its_lease_and_was_sent_again_does_not_ask_its_queue() -> None:
    story = configured()
    story.enqueue_one(queue="video")
    story.enqueue_one()
    done, other = story.claim_one(queues=("video",)), story.claim_one()
    story.ack(done)
    first = story.history.calls.pop()
    story.ack(done, other)
    again = early(last_call(story, Ack))
    again.called_ns = first.called_ns

    assert complaints("AnswersAreDurable", story) == []


def test_only_the_ack_that_ended_the_lease_asks_its_queue() -> None:
    story = configured()
    story.enqueue_one(queue="video")
    story.enqueue_one()
    done, other = story.claim_one(queues=("video",)), story.claim_one()
    story.ack(done)
    story.ack(done, other)
    early(last_call(story, Ack))

    assert complaints("AnswersAreDurable", story) == []


def test_nothing_else_is_answered_early() -> None:
    story = configured()
    story.enqueue_one()
    story.claim_one()
    early(story.history.calls[-1])

    assert complaints("AnswersAreDurable", story) != []


def test_an_early_answer_may_be_undone_by_a_crash_and_by_nothing_else() -> None:
    story = configured()
    enqueue(story, "mail")
    drop(story, JobsEnqueued)

    assert "not in the log" in complaints("NothingLost", story)[0]

    insert(story, EpochStarted(2, b"n", "node", now_ms=story.now_ms))

    assert complaints("NothingLost", story) == []


def test_an_early_answer_that_was_long_under_way_is_of_the_node_before() -> None:
    story = configured()
    story.history.events.insert(0, Connected(0, BY_CLIENT))
    call = enqueue(story, "mail")
    drop(story, JobsEnqueued)
    insert(story, EpochStarted(2, b"n", "node", now_ms=story.now_ms))
    call.returned_ns = story.tick()

    assert complaints("NothingLost", story) == []

    story.history.events.append(Connected(call.returned_ns, BY_CLIENT))

    assert "not in the log" in complaints("NothingLost", story)[0]


def test_what_the_log_had_passed_before_the_crash_was_durable() -> None:
    story = configured()
    enqueue(story, "mail")
    drop(story, JobsEnqueued)
    story.run(ConfigureQueue("video", QueueSettings()))
    insert(story, EpochStarted(2, b"n", "node", now_ms=story.now_ms))

    assert "not in the log" in complaints("NothingLost", story)[0]


def test_without_a_log_an_early_answer_says_nothing_for_certain() -> None:
    story = configured()
    call = enqueue(story, "mail")
    story.history.events.clear()

    assert complaints("NothingLost", story, jobs={}) == []

    call.reply.durability = DURABILITY_GROUP  # type: ignore[union-attr]

    assert "acknowledged, and unknown" in complaints("NothingLost", story, jobs={})[0]
