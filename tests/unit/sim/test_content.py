"""What was asked is what the log has: every other content of a record is seen."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from headrace.model import commands as c
from headrace.model import records as r
from headrace.model.job import JobError, JobExtra, JobSpec, RetryPolicy
from tests.unit.sim.telling import Telling, complaints, drop, rewrite

EXTRA = JobExtra(start_by_ms=1_800_000_000_000, tags=("red",), headers={"trace": "1"})
POLICY = RetryPolicy(attempt_max=9, base_ms=50, cap_ms=400)
Change = Callable[[r.Record], None]


def setting(name: str, value: object, part: str = "") -> Change:
    """A record of which one field, of the record itself or of its first part, is another."""

    def change(record: r.Record) -> None:
        setattr(getattr(record, part)[0] if part else record, name, value)

    return change


# --- enqueue


@pytest.mark.parametrize(
    "change",
    [
        setting("run_at_ms", 0, "jobs"),
        setting("run_at_ms", 1, "jobs"),
        setting("extra", None, "jobs"),
        setting("extra", JobExtra(start_by_ms=EXTRA.start_by_ms, headers=EXTRA.headers), "jobs"),
        setting("extra", JobExtra(start_by_ms=EXTRA.start_by_ms, tags=EXTRA.tags), "jobs"),
        setting("extra", JobExtra(tags=EXTRA.tags, headers=EXTRA.headers), "jobs"),
        setting("priority", 7, "jobs"),
    ],
)
@pytest.mark.parametrize("named", [True, False])
def test_a_job_that_is_not_enqueued_as_asked_is_seen(change: Change, named: bool) -> None:
    story = Telling()
    job_id = story.new_id() if named else b""
    new = c.NewJob(job_id, 0, b"{}", delay_ms=5_000, extra=EXTRA)
    story.run(c.Enqueue([JobSpec("mail", "send")], [new]))

    assert complaints("NothingInvented", story) == []

    rewrite(story, r.JobsEnqueued, change)

    assert "as it is there" in complaints("NothingInvented", story)[0]


def test_a_time_that_has_passed_is_now() -> None:
    story = Telling()
    new = c.NewJob(story.new_id(), 0, b"{}", run_at_ms=story.now_ms - 1)
    story.run(c.Enqueue([JobSpec("mail", "send")], [new]))

    assert complaints("NothingInvented", story) == []


# --- everything else


def ack(story: Telling) -> None:
    story.enqueue_one()
    story.ack(story.claim_one(), result=b"1")


def nack(story: Telling) -> None:
    story.enqueue_one(retry=POLICY)
    story.nack(story.claim_one())


def nack_with_delay(story: Telling) -> None:
    story.enqueue_one(retry=POLICY)
    story.nack(story.claim_one(), delay_ms=900)


def nack_for_good(story: Telling) -> None:
    story.enqueue_one(retry=POLICY)
    story.nack(story.claim_one(), retryable=False)


def release(story: Telling) -> None:
    story.enqueue_one()
    story.release(story.claim_one(), delay_ms=250, started=True)


def cancel(story: Telling) -> None:
    story.cancel(story.enqueue_one())


def cancel_leased(story: Telling) -> None:
    job_id = story.enqueue_one()
    story.claim_one()
    story.cancel(job_id)


def reschedule(story: Telling) -> None:
    story.run(c.Reschedule(story.enqueue_one(), 0, 40))


def change_priority(story: Telling) -> None:
    story.run(c.ChangePriority(story.enqueue_one(), 7))


def revive(story: Telling) -> None:
    job_id = story.enqueue_one()
    story.cancel(job_id)
    story.run(c.Revive(job_id, 100))


def another_result(record: r.Record) -> None:
    [(job_id, token, _)] = record.results  # type: ignore[attr-defined]
    record.results = [(job_id, token, b"2")]  # type: ignore[attr-defined]


def to_retry(record: r.Record) -> None:
    record.fate, record.reason = r.FATE_RETRY, ""  # type: ignore[attr-defined]


def to_gave_up(record: r.Record) -> None:
    record.fate, record.run_at_ms = r.FATE_DEAD, 0  # type: ignore[attr-defined]
    record.reason = "gave_up"  # type: ignore[attr-defined]


OTHERWISE: list[tuple[Callable[[Telling], None], type[r.Record], Change]] = [
    (ack, r.JobsSucceeded, another_result),
    (nack, r.JobFailed, to_gave_up),
    (nack, r.JobFailed, setting("error", JobError("KeyError"))),
    (nack, r.JobFailed, setting("run_at_ms", 1_700_000_000_401)),
    (nack_with_delay, r.JobFailed, setting("run_at_ms", 1_700_000_000_400)),
    (nack_with_delay, r.JobFailed, setting("run_at_ms", 0)),
    (nack_for_good, r.JobFailed, to_retry),
    (release, r.JobsReleased, setting("run_at_ms", 0, "jobs")),
    (release, r.JobsReleased, setting("snoozed", False, "jobs")),
    (cancel, r.JobsCancelled, setting("reason", "another")),
    (cancel_leased, r.CancelRequested, setting("reason", "another")),
    (reschedule, r.JobRescheduled, setting("run_at_ms", 1_700_000_000_041)),
    (reschedule, r.JobRescheduled, setting("run_at_ms", 0)),
    (change_priority, r.PriorityChanged, setting("priority", 8)),
    (revive, r.JobRevived, setting("run_at_ms", 0)),
]


@pytest.mark.parametrize(("act", "record", "change"), OTHERWISE)
def test_what_is_not_done_as_it_was_asked_is_seen(
    act: Callable[[Telling], None], record: type[r.Record], change: Change
) -> None:
    story = Telling()
    act(story)

    assert complaints("NothingUnasked", story) == []

    rewrite(story, record, change)

    assert "as it is in the log" in complaints("NothingUnasked", story)[0]


def test_of_two_calls_for_one_lease_either_may_be_the_one_that_won() -> None:
    story = Telling()
    story.enqueue_one()
    lease = story.claim_one()
    story.ack(lease, result=b"1")
    story.ack(lease, result=b"2")

    assert complaints("NothingUnasked", story) == []


def test_a_session_that_gives_back_with_a_delay_was_asked_to() -> None:
    story = Telling()
    story.open_session()
    story.enqueue_one()
    [pushed] = story.dispatch()
    story.release((pushed.groups[0].jobs[0].job_id, pushed.groups[0].token), delay_ms=250)

    assert complaints("NothingUnasked", story) == []

    story.history.calls.pop()

    assert "nobody asked" in complaints("NothingUnasked", story)[0]


def test_a_reschedule_that_was_answered_and_changed_nothing_is_not_true() -> None:
    story = Telling()
    job_id = story.enqueue_one(delay_ms=9_000)
    story.run(c.Reschedule(job_id, 0, 5_000))

    assert complaints("AnswersAreTrue", story) == []

    drop(story, r.JobRescheduled)
    story.history.calls[-1].reply.index -= 1  # type: ignore[union-attr]

    assert "reschedule was answered" in complaints("AnswersAreTrue", story)[0]


def test_a_job_that_is_ready_and_shall_be_now_needs_no_record() -> None:
    story = Telling()
    story.run(c.Reschedule(story.enqueue_one()))

    assert complaints("AnswersAreTrue", story) == []


def test_a_job_dies_of_reasons_that_are_known() -> None:
    story = Telling()
    story.enqueue_one(retry=RetryPolicy(attempt_max=1))
    story.nack(story.claim_one())

    assert complaints("AttemptsFit", story) == []

    rewrite(story, r.JobFailed, setting("reason", "tired"))

    assert "no reason" in complaints("AttemptsFit", story)[0]
