"""Ids and keys: two jobs where one was promised, and answers that name the wrong one."""

from __future__ import annotations

import copy

import pytest

from headrace.model import records as r
from headrace.model.commands import Enqueue, NewJob, Reschedule
from headrace.model.errors import UnknownJob
from headrace.model.job import JobExtra, JobSpec
from headrace.model.limits import REMEMBER_MS
from headrace.model.options import EngineOptions
from headrace.model.queue import QueueSettings
from headrace.model.replies import Enqueued, Existing, Problem
from headrace.sim.history import Connected, Happened
from tests.unit.sim.telling import (
    BY_CLIENT,
    Telling,
    complaints,
    insert,
    last_call,
    records_of,
    rewrite,
)

SPEC = JobSpec("mail", "send")


def ask(story: Telling, job_id: bytes, payload: bytes = b"{}", key: str = "") -> Enqueued:
    extra = JobExtra(key=key, key_window_ms=1_000) if key else None
    reply = story.run(Enqueue([SPEC], [NewJob(job_id, 0, payload, extra=extra)]))
    assert isinstance(reply, Enqueued)
    return reply


def answer(story: Telling) -> Enqueued:
    reply = last_call(story, Enqueue).reply
    assert isinstance(reply, Enqueued)
    return reply


def again(story: Telling) -> None:
    """The log has the newest enqueue once more."""
    insert(story, copy.deepcopy(records_of(story, r.JobsEnqueued)[-1].record))


# --- OneJobAnId


def test_a_repeated_call_finds_its_job_and_a_different_one_is_refused() -> None:
    story = Telling()
    job_id = story.new_id()
    ask(story, job_id)

    assert ask(story, job_id).existing
    assert ask(story, job_id, b"[]").problems
    assert complaints("OneJobAnId", story) == []


def test_an_id_that_is_enqueued_twice_is_seen() -> None:
    story = Telling()
    ask(story, story.new_id())
    again(story)

    assert "enqueued twice" in complaints("OneJobAnId", story)[0]


@pytest.mark.parametrize("ended_by", ["delete", "prune"])
def test_an_id_is_remembered_for_a_while_after_its_end(ended_by: str) -> None:
    story = Telling()
    job_id = story.new_id()
    ask(story, job_id)
    if ended_by == "delete":
        story.delete(job_id)
    else:
        story.cancel(job_id)
        insert(story, r.FinishedPruned("mail", r.RING_SUCCEEDED, 1))
    story.history.events.append(copy.deepcopy(records_of(story, r.JobsEnqueued)[-1]))

    assert "after its end" in complaints("OneJobAnId", story)[0]


def test_an_id_that_is_long_forgotten_may_come_again() -> None:
    story = Telling()
    job_id = story.new_id()
    ask(story, job_id)
    story.delete(job_id)
    story.wait(REMEMBER_MS + 20_000)

    assert not ask(story, job_id).existing
    assert complaints("OneJobAnId", story) == []


def test_an_id_is_remembered_also_when_log_time_jumps_over_a_stop() -> None:
    story = Telling()
    job_id = story.new_id()
    ask(story, job_id)
    story.delete(job_id)
    story.now_ms += 3_600_000
    insert(story, r.TimePassed(story.now_ms))
    again(story)

    found = complaints("OneJobAnId", story)

    assert "enqueued anew 0 ms after its end" in found[0]

    story.history.events.insert(-1, Happened(story.at_ns, "suspend"))

    assert complaints("OneJobAnId", story) == []


def test_an_answer_for_a_job_that_is_not_there_is_seen() -> None:
    story = Telling()
    story.enqueue_one()
    call = last_call(story, Enqueue)
    other = story.new_id()
    call.command.jobs[0].job_id = other  # type: ignore[attr-defined]
    answer(story).existing = [Existing(0, other, 3)]

    assert "as existing, and is not" in complaints("OneJobAnId", story)[0]


def test_an_answer_in_a_state_that_the_job_has_not_is_seen() -> None:
    story = Telling()
    job_id = story.new_id()
    ask(story, job_id)
    ask(story, job_id)
    existing = answer(story).existing
    assert existing
    existing[0].state = 6

    assert "answered as in state 6" in complaints("OneJobAnId", story)[0]


def test_other_content_that_is_answered_as_the_same_job_is_seen() -> None:
    story = Telling()
    job_id = story.new_id()
    ask(story, job_id)
    ask(story, job_id)
    last_call(story, Enqueue).command.jobs[0].payload = b"[]"  # type: ignore[attr-defined]

    assert "answered for other content" in complaints("OneJobAnId", story)[0]


def test_a_conflict_with_itself_is_seen() -> None:
    story = Telling()
    job_id = story.new_id()
    ask(story, job_id)
    ask(story, job_id, b"[]")
    last_call(story, Enqueue).command.jobs[0].payload = b"{}"  # type: ignore[attr-defined]

    assert "refused as another job" in complaints("OneJobAnId", story)[0]


# --- OneJobAKey


def keyed() -> tuple[Telling, bytes, bytes]:
    """Two calls with one key: the job of the first answers for both."""
    story = Telling()
    first, second = story.new_id(), story.new_id()
    ask(story, first, key="k")
    assert ask(story, second, key="k").existing
    return story, first, second


def test_a_key_has_one_job_within_its_window_and_another_after_it() -> None:
    story, _, _ = keyed()
    story.wait(2_500)

    assert not ask(story, story.new_id(), key="k").existing
    assert complaints("OneJobAKey", story) == []


def test_two_jobs_of_one_key_are_seen() -> None:
    story, _, second = keyed()
    again(story)
    rewrite(story, r.JobsEnqueued, lambda record: setattr(record.jobs[0], "job_id", second))  # type: ignore[attr-defined]

    assert "took the key 'k'" in complaints("OneJobAKey", story)[0]


def test_a_deleted_job_frees_its_key() -> None:
    story, first, second = keyed()
    story.delete(first)

    assert not ask(story, second, key="k").existing
    assert complaints("OneJobAKey", story) == []


def test_an_answer_of_another_job_than_the_holder_is_seen() -> None:
    story, _, _ = keyed()
    existing = answer(story).existing
    assert existing
    existing[0].job_id = bytes(16)

    assert "another job than" in complaints("OneJobAKey", story)[0]


def test_a_key_may_name_a_job_of_which_nothing_else_is_known() -> None:
    story = Telling(EngineOptions(default_queue=QueueSettings(succeeded_count=0)))
    story.history.events.append(Connected(0, BY_CLIENT))
    extra = JobExtra(key="k", key_window_ms=REMEMBER_MS * 10)
    enqueue = Enqueue([SPEC], [NewJob(story.new_id(), 0, b"{}", extra=extra)])
    story.run(enqueue)
    story.ack(story.claim_one())
    story.wait(REMEMBER_MS + 20_000)
    with pytest.raises(UnknownJob):
        story.run(Reschedule(enqueue.jobs[0].job_id, delay_ms=1))
    story.run(enqueue)
    existing = answer(story).existing

    assert existing
    assert existing[0].state == 0
    assert complaints("Linearizable", story) == []


def test_a_key_may_be_all_that_a_repeat_finds_of_what_its_first_try_has_made() -> None:
    story = Telling()
    story.history.events.append(Connected(0, BY_CLIENT))
    ask(story, story.new_id(), key="k")
    call = last_call(story, Enqueue)
    lease = story.claim_one()
    story.ack(lease)
    story.history.events.append(Connected(story.tick(), BY_CLIENT))
    answer(story).existing = [Existing(0, lease[0], 0)]
    call.returned_ns = story.tick()

    assert complaints("Linearizable", story) == []


def test_an_answer_for_a_key_that_is_free_is_seen() -> None:
    story, _, _ = keyed()
    new = last_call(story, Enqueue).command.jobs[0]  # type: ignore[attr-defined]
    new.extra = JobExtra(key="other")

    assert "which was free" in complaints("OneJobAKey", story)[0]


def test_an_answer_for_another_payload_is_seen() -> None:
    story, _, _ = keyed()
    last_call(story, Enqueue).command.jobs[0].payload = b"[]"  # type: ignore[attr-defined]

    assert "for another payload" in complaints("OneJobAKey", story)[0]


def test_an_answer_after_the_window_is_seen() -> None:
    story, _, _ = keyed()
    story.wait(2_500)
    story.enqueue_one()
    call = story.history.calls[1]
    assert call.reply is not None
    call.reply.index = story.engine.last_index

    assert "after its window" in complaints("OneJobAKey", story)[0]


def test_a_conflict_with_its_own_payload_is_seen() -> None:
    story, _, _ = keyed()
    reply = answer(story)
    reply.existing, reply.problems = None, [Problem(0, "key_conflict", "")]

    assert "in conflict with its own payload" in complaints("OneJobAKey", story)[0]
