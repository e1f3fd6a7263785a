"""Answers and records agree: an answer without its record, and a record without its call."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from headrace.model import commands as c
from headrace.model import records as r
from headrace.model.errors import Overloaded, WrongState
from headrace.model.job import State
from headrace.model.queue import QueueSettings
from headrace.model.replies import Changed, Problem, Settled
from headrace.sim.history import NEVER, Connected
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


def waiting(story: Telling) -> bytes:
    return story.enqueue_one()


def cancel(story: Telling) -> None:
    story.cancel(waiting(story))


def cancel_leased(story: Telling) -> None:
    job_id = waiting(story)
    story.claim_one()
    story.cancel(job_id)


def reschedule(story: Telling) -> None:
    story.run(c.Reschedule(waiting(story), 0, 5_000))


def change_priority(story: Telling) -> None:
    story.run(c.ChangePriority(waiting(story), 7))


def revive(story: Telling) -> None:
    job_id = waiting(story)
    story.cancel(job_id)
    story.revive(job_id)


def delete(story: Telling) -> None:
    story.delete(waiting(story))


def purge(story: Telling) -> None:
    waiting(story)
    story.run(c.Purge("mail", (3,)))


def ack(story: Telling) -> None:
    waiting(story)
    story.ack(story.claim_one())


def nack(story: Telling) -> None:
    waiting(story)
    story.nack(story.claim_one())


def release(story: Telling) -> None:
    waiting(story)
    story.release(story.claim_one())


def claim(story: Telling) -> None:
    waiting(story)
    story.claim_one()


def pause(story: Telling) -> None:
    waiting(story)
    story.run(c.PauseQueue("mail"))


def configure(story: Telling) -> None:
    story.run(c.ConfigureQueue("mail", QueueSettings(dead_count=3)))


Act = Callable[[Telling], None]

ANSWERED: list[tuple[Act, type[r.Record]]] = [
    (cancel, r.JobsCancelled),
    (cancel_leased, r.CancelRequested),
    (reschedule, r.JobRescheduled),
    (change_priority, r.PriorityChanged),
    (revive, r.JobRevived),
    (delete, r.JobsDeleted),
    (purge, r.JobsDeleted),
    (ack, r.JobsSucceeded),
    (nack, r.JobFailed),
    (release, r.JobsReleased),
    (claim, r.JobsClaimed),
    (pause, r.QueueConfigured),
    (configure, r.QueueConfigured),
]


@pytest.mark.parametrize(("act", "record"), ANSWERED)
def test_an_answer_whose_record_is_gone_is_not_true(act: Act, record: type[r.Record]) -> None:
    story = Telling()
    act(story)

    assert complaints("AnswersAreTrue", story) == []

    drop(story, record)

    assert complaints("AnswersAreTrue", story) != []


@pytest.mark.parametrize(("act", "record"), ANSWERED[:7])
def test_an_answer_from_before_its_record_is_not_true(act: Act, record: type[r.Record]) -> None:
    story = Telling()
    act(story)
    call = story.history.calls[-1]
    assert call.reply is not None
    call.reply.index = records_of(story, record)[-1].index - 1

    assert complaints("AnswersAreTrue", story) != []


def test_an_extend_of_a_lease_that_had_ended_is_not_true() -> None:
    story = Telling()
    waiting(story)
    lease = story.claim_one()
    story.run(c.Extend([lease]))
    insert(story, r.JobsReleased([r.JobReleased(*lease)]))
    story.history.calls[-1].reply.index += 1  # type: ignore[union-attr]

    assert complaints("AnswersAreTrue", story) != []


def test_a_resume_of_a_queue_that_stays_paused_is_not_true() -> None:
    story = Telling()
    pause(story)
    story.run(c.ResumeQueue("mail"))
    drop(story, r.QueueConfigured)

    assert complaints("AnswersAreTrue", story) != []


def test_a_repeated_nack_of_a_job_that_is_not_kept_any_more_is_excused() -> None:
    story = Telling()
    waiting(story)
    lease = story.claim_one()
    story.nack(lease, retryable=False)
    story.delete(lease[0])
    story.nack(lease)

    assert complaints("AnswersAreTrue", story) == []


def cancelled_again(story: Telling, end: Callable[[Telling], None]) -> None:
    """The job ends, is deleted, and its cancel is answered: it was cancelled."""
    end(story)
    job_id = next(iter(story.known_ids()))
    story.delete(job_id)
    call = story.history.call(BY_CLIENT, c.Cancel(job_id), story.tick())
    call.reply = Changed(index=story.engine.last_index, state=State.CANCELLED)
    call.returned_ns = story.tick()


def nack_for_good(story: Telling) -> None:
    waiting(story)
    story.nack(story.claim_one(), retryable=False)


@pytest.mark.parametrize(
    ("end", "right"), [(cancel, True), (waiting, True), (ack, False), (nack_for_good, False)]
)
def test_a_job_that_is_gone_was_cancelled_only_if_it_ended_so(end: Act, right: bool) -> None:
    story = Telling()
    cancelled_again(story, end)

    assert (complaints("AnswersAreTrue", story) == []) is right


# --- NothingUnasked

CAUSED = [
    (cancel, c.Cancel),
    (cancel_leased, c.Cancel),
    (reschedule, c.Reschedule),
    (change_priority, c.ChangePriority),
    (revive, c.Revive),
    (delete, c.Delete),
    (purge, c.Purge),
    (ack, c.Ack),
    (nack, c.Nack),
    (release, c.Release),
    (pause, c.PauseQueue),
    (configure, c.ConfigureQueue),
]


@pytest.mark.parametrize(("act", "command"), CAUSED)
def test_a_record_that_nobody_asked_for_is_seen(act: Act, command: type[c.Command]) -> None:
    story = Telling()
    act(story)

    assert complaints("NothingUnasked", story) == []

    story.history.calls.remove(last_call(story, command))

    assert complaints("NothingUnasked", story) != []


@pytest.mark.parametrize(("act", "command"), CAUSED)
def test_a_refused_command_leaves_no_record(act: Act, command: type[c.Command]) -> None:
    story = Telling()
    act(story)
    call = last_call(story, command)
    call.reply, call.error = None, Overloaded()

    assert complaints("NothingUnasked", story) != []


@pytest.mark.parametrize(("act", "command"), CAUSED)
def test_a_command_without_an_answer_may_leave_its_record(
    act: Act, command: type[c.Command]
) -> None:
    story = Telling()
    act(story)
    call = last_call(story, command)
    call.reply, call.returned_ns = None, NEVER

    assert complaints("NothingUnasked", story) == []


def test_a_repeated_cancel_may_have_met_its_own_effect() -> None:
    story = Telling()
    cancel(story)
    call = last_call(story, c.Cancel)
    error = WrongState()
    error.index = story.engine.last_index
    call.reply, call.error = None, error

    assert complaints("NothingUnasked", story) == []

    error.index -= 1

    assert complaints("NothingUnasked", story) != []


def test_who_kept_its_connection_was_refused_what_did_not_happen() -> None:
    """One call of `client 1` has left once; only over a new connection may it have left twice."""
    story = Telling()
    story.history.events.append(Connected(story.tick(), BY_CLIENT))
    nack(story)
    call = last_call(story, c.Nack)
    assert isinstance(call.reply, Settled)
    call.reply.problems = [Problem(0, "stale_lease", "")]

    assert "was refused, and happened" in complaints("NothingUnasked", story)[0]

    story.history.events.append(Connected(call.returned_ns, "client 2"))

    assert complaints("NothingUnasked", story) != []

    story.history.events.append(Connected(call.returned_ns, BY_CLIENT))

    assert complaints("NothingUnasked", story) == []


def test_an_effect_after_the_answer_is_not_that_of_the_call() -> None:
    story = Telling()
    cancel(story)
    last_call(story, c.Cancel).returned_ns = records_of(story, r.JobsCancelled)[0].at_ns - 1

    assert complaints("NothingUnasked", story) != []


def test_what_is_not_shown_in_the_history_is_not_missed() -> None:
    story = Telling()
    ack(story)
    story.history.calls.remove(last_call(story, c.Ack))

    assert complaints("NothingUnasked", story, unseen=frozenset({"Ack"})) == []


def test_a_start_by_needs_nobody_to_ask() -> None:
    story = Telling()
    cancel(story)

    def by_time(record: object) -> None:
        record.reason = "start_by"  # type: ignore[attr-defined]

    rewrite(story, r.JobsCancelled, by_time)
    story.history.calls.remove(last_call(story, c.Cancel))

    assert complaints("NothingUnasked", story) == []
