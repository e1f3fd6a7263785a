"""Nothing acknowledged is lost, nothing is made up: each way to break that is seen."""

from __future__ import annotations

from headrace.model.commands import Enqueue, NewJob
from headrace.model.errors import OutcomeUnknown, Overloaded
from headrace.model.job import JobSpec, State
from headrace.model.records import EnqueuedJob, JobsEnqueued
from headrace.model.replies import Enqueued, Existing, Problem
from headrace.sim.checkers import ALL
from headrace.sim.final import Final
from headrace.sim.history import NEVER, Connected, HandlerBegan, History, PushedLease
from tests.unit.sim.telling import (
    BY_CLIENT,
    Telling,
    complaints,
    drop,
    insert,
    last_call,
    records_of,
    rewrite,
)

SPEC = JobSpec("mail", "send")


def enqueued(atomic: bool = False, count: int = 1) -> Telling:
    story = Telling()
    jobs = [NewJob(story.new_id(), 0, b"{}") for _ in range(count)]
    story.run(Enqueue([SPEC], jobs, atomic))
    return story


def unanswered(story: Telling) -> None:
    call = last_call(story, Enqueue)
    call.reply, call.error, call.returned_ns = None, None, NEVER


# --- NothingLost


def test_an_acknowledged_job_that_is_not_in_the_log_is_lost() -> None:
    story = enqueued()
    drop(story, JobsEnqueued)

    assert "not in the log" in complaints("NothingLost", story)[0]


def test_a_job_that_came_after_its_acknowledgement_is_lost_before() -> None:
    story = enqueued()
    last_call(story, Enqueue).reply.index -= 1  # type: ignore[union-attr]

    assert "not in the log" in complaints("NothingLost", story)[0]


def test_a_kept_job_that_nobody_can_read_at_the_end_is_lost() -> None:
    assert "unknown at the end" in complaints("NothingLost", enqueued(), jobs={})[0]


def test_an_unanswered_job_may_be_there_or_not() -> None:
    there, absent = enqueued(), enqueued()
    unanswered(there)
    unanswered(absent)
    drop(absent, JobsEnqueued)

    assert complaints("NothingLost", there) == []
    assert complaints("NothingLost", absent, jobs={}) == []


def test_a_call_whose_outcome_is_unknown_may_have_made_its_job() -> None:
    story = enqueued()
    unanswered(story)
    last_call(story, Enqueue).error = OutcomeUnknown()

    assert complaints("NothingLost", story) == []


def test_a_refused_job_must_not_be_in_the_log() -> None:
    story = enqueued()
    unanswered(story)
    last_call(story, Enqueue).error = Overloaded()

    assert "refused, and yet in the log" in complaints("NothingLost", story)[0]


def test_an_item_with_a_problem_must_not_be_in_the_log() -> None:
    story = enqueued()
    reply = last_call(story, Enqueue).reply
    assert isinstance(reply, Enqueued)
    reply.problems = [Problem(0, "payload_too_large", "")]

    assert "refused, and yet in the log" in complaints("NothingLost", story)[0]


def test_who_kept_its_connection_has_not_made_the_job_that_it_was_told_is_there() -> None:
    story = Telling()
    story.history.events.append(Connected(story.tick(), BY_CLIENT))
    job_id = story.new_id()
    story.run(Enqueue([SPEC], [NewJob(job_id, 0, b"{}")]))
    call = last_call(story, Enqueue)
    assert isinstance(call.reply, Enqueued)
    call.reply.existing = [Existing(0, job_id, State.READY)]

    assert "refused, and yet in the log" in complaints("NothingLost", story)[0]
    assert "enqueue of an existing job" in complaints("Linearizable", story)[0]

    story.history.events.append(Connected(call.returned_ns, BY_CLIENT))

    assert complaints("NothingLost", story) == []
    assert complaints("Linearizable", story) == []


def test_without_a_log_a_job_that_nobody_removed_must_be_readable() -> None:
    story = enqueued()
    history = History()
    history.calls = story.history.calls

    found = ALL["NothingLost"]().check(history, Final(jobs={}))

    assert "acknowledged, and unknown" in str(found[0])


# --- NothingInvented


def test_a_job_that_nobody_asked_for_is_seen() -> None:
    story = enqueued()
    insert(story, JobsEnqueued(SPEC, [EnqueuedJob(bytes(16), b"{}", 100)]))

    assert "nobody asked for it" in complaints("NothingInvented", story)[0]


def test_a_job_with_other_content_than_was_asked_is_seen() -> None:
    story = enqueued()

    def change(record: object) -> None:
        record.jobs[0].payload = b"[]"  # type: ignore[attr-defined]

    rewrite(story, JobsEnqueued, change)

    assert "nobody asked for it" in complaints("NothingInvented", story)[0]


def test_a_job_that_the_server_named_may_come_from_an_unanswered_call() -> None:
    story = Telling()
    story.run(Enqueue([SPEC], [NewJob(b"", 0, b"{}")]))
    unanswered(story)

    assert complaints("NothingInvented", story) == []


def test_a_push_and_a_run_of_a_job_that_is_not_in_the_log_are_seen() -> None:
    story = enqueued()
    story.history.events += [
        PushedLease(story.tick(), "worker 1", bytes(16), 2),
        HandlerBegan(story.tick(), "worker 1", bytes(16), 2, 1),
    ]

    assert len(complaints("NothingInvented", story)) == 2


# --- CallsAreWhole


def test_half_an_atomic_call_is_seen() -> None:
    story = enqueued(atomic=True, count=2)

    def lose_one(record: object) -> None:
        del record.jobs[0]  # type: ignore[attr-defined]

    rewrite(story, JobsEnqueued, lose_one)

    assert "1 jobs of an atomic call are in the log" in complaints("CallsAreWhole", story)[0]


def test_half_of_a_call_that_is_not_atomic_is_none_of_its_business() -> None:
    story = enqueued(count=2)
    rewrite(story, JobsEnqueued, lambda record: record.jobs.pop())  # type: ignore[attr-defined]

    assert complaints("CallsAreWhole", story) == []


def test_an_atomic_call_in_two_commits_is_seen() -> None:
    story = enqueued(atomic=True, count=2)
    [event] = records_of(story, JobsEnqueued)
    second = event.record.jobs.pop()  # type: ignore[attr-defined]
    insert(story, JobsEnqueued(SPEC, [second]))

    assert "two commits" in complaints("CallsAreWhole", story)[0]


def test_an_atomic_call_that_was_taken_has_no_problems() -> None:
    story = enqueued(atomic=True)
    last_call(story, Enqueue).reply.problems = [Problem(0, "bad_name", "")]  # type: ignore[union-attr]

    assert "taken with problems" in complaints("CallsAreWhole", story)[0]


def test_an_item_has_one_answer_and_only_items_have_answers() -> None:
    story = enqueued()
    reply = last_call(story, Enqueue).reply
    assert isinstance(reply, Enqueued)
    reply.problems = [Problem(0, "bad_name", "")]
    reply.existing = [Existing(0, bytes(16), 3), Existing(7, bytes(16), 3)]

    found = complaints("CallsAreWhole", story)

    assert any("two answers" in one for one in found)
    assert any("was not asked" in one for one in found)


def test_ids_that_the_server_makes_are_as_many_as_the_jobs() -> None:
    story = enqueued()
    last_call(story, Enqueue).reply.made_ids = []  # type: ignore[union-attr]

    assert complaints("CallsAreWhole", story) != []
