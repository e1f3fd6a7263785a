"""One end, one winner, the first answer again: each way to break that is seen."""

from __future__ import annotations

import pytest

from headrace.model import records as r
from headrace.model.commands import Ack, Enqueue, Revive
from headrace.model.errors import OutcomeUnknown, WrongState
from headrace.model.job import State
from headrace.model.replies import JobReply, Problem, Settled
from headrace.sim.checkers import ALL
from headrace.sim.final import Final
from headrace.sim.history import Connected, HandlerBegan, History
from tests.unit.sim.telling import BY_CLIENT, Telling, complaints, insert, last_call


def leased() -> tuple[Telling, bytes, int]:
    story = Telling()
    story.enqueue_one()
    job_id, token = story.claim_one()
    return story, job_id, token


def ended() -> tuple[Telling, bytes, int]:
    story, job_id, token = leased()
    story.ack((job_id, token))
    return story, job_id, token


# --- OneEnd


def records_after_the_end(job_id: bytes, token: int) -> list[r.Record]:
    failure = r.JobFailed(job_id, token, None, r.FATE_RETRY)  # type: ignore[arg-type]
    return [
        r.JobsSucceeded([(job_id, token, None)]),
        failure,
        r.JobsReleased([r.JobReleased(job_id, token)]),
        r.LeasesExpired("worker_lost", [r.ExpiredLease(job_id, token, True, r.FATE_RETRY)]),
        r.JobsCancelled([(job_id, 0)], "why"),
        r.JobsCancelled([(job_id, token)], "why"),
        r.CancelRequested(job_id, token),
        r.JobRescheduled(job_id, 0),
        r.PriorityChanged(job_id, 3),
        r.JobsClaimed(b"", [job_id], 1_000),
        r.JobsStarted([(job_id, token)]),
    ]


@pytest.mark.parametrize("number", range(11))
def test_nothing_moves_a_job_that_has_ended(number: int) -> None:
    story, job_id, token = ended()

    assert complaints("OneEnd", story) == []

    insert(story, records_after_the_end(job_id, token)[number])

    assert "met it succeeded" in complaints("OneEnd", story)[0]


def test_a_revived_job_may_end_again() -> None:
    story, job_id, _ = ended()
    story.revive(job_id)
    story.ack(story.claim_one())

    assert complaints("OneEnd", story) == []


def test_a_job_that_waits_is_neither_revived_nor_acked() -> None:
    story = Telling()
    job_id = story.enqueue_one()
    insert(story, r.JobsSucceeded([(job_id, 2, None)]))
    insert(story, r.JobRevived(job_id))
    insert(story, r.JobRevived(job_id))

    found = complaints("OneEnd", story)

    assert "ack met it ready" in found[0]
    assert "revive met it ready" in found[1]


def test_an_ack_under_another_lease_ends_nothing() -> None:
    story, job_id, token = leased()
    insert(story, r.JobsSucceeded([(job_id, token - 1, None)]))

    assert f"its lease is {token}" in complaints("OneEnd", story)[0]


def test_a_leased_job_is_cancelled_only_when_that_was_asked() -> None:
    story, job_id, token = leased()
    insert(story, r.JobsCancelled([(job_id, token)], "why"))

    assert "nobody had asked" in complaints("OneEnd", story)[0]


# --- OneWinner


def test_two_leases_that_were_told_that_they_won_are_seen_without_a_log() -> None:
    story, job_id, token = ended()
    call = story.history.call("client 2", Ack([(job_id, token + 5, None)]), story.tick())
    call.reply, call.returned_ns = Settled(index=story.engine.last_index), story.tick()
    history = History()
    history.calls = story.history.calls

    assert "both told that they won" in str(ALL["OneWinner"]().check(history, Final())[0])


def test_a_start_after_an_acknowledged_success_is_seen() -> None:
    story, job_id, token = ended()
    story.history.events.append(HandlerBegan(story.tick(), "worker 2", job_id, token + 3, 2))

    assert "started again" in complaints("OneWinner", story)[0]


def test_a_revived_job_has_a_winner_for_each_of_its_lives() -> None:
    story, job_id, _ = ended()
    story.revive(job_id)
    lease = story.claim_one()
    story.begin(*lease)
    story.ack(lease)

    assert complaints("OneWinner", story) == []


def test_a_revival_that_was_refused_is_no_second_life() -> None:
    story, job_id, token = ended()
    call = story.history.call(BY_CLIENT, Revive(job_id), story.tick())
    call.error, call.returned_ns = WrongState(), story.tick()
    story.history.events.append(HandlerBegan(story.tick(), "worker 2", job_id, token + 3, 2))

    assert "started again" in complaints("OneWinner", story)[0]

    call.error = OutcomeUnknown()

    assert complaints("OneWinner", story) != []  # the log knows that it did not happen

    story.history.events = [one for one in story.history.events if isinstance(one, HandlerBegan)]

    assert complaints("OneWinner", story) == []


def test_an_enqueue_that_finds_its_job_is_no_second_life() -> None:
    story, job_id, token = ended()
    first = last_call(story, Enqueue)
    story.run(Enqueue(first.command.specs, first.command.jobs))  # type: ignore[attr-defined]
    story.history.events = [
        Connected(0, BY_CLIENT),
        HandlerBegan(story.tick(), "worker 2", job_id, token + 3, 2),
    ]

    assert "started again" in complaints("OneWinner", story)[0]


# --- FirstAnswerAgain


def refuse(story: Telling, code: str) -> None:
    last_call(story, Ack).reply.problems = [Problem(0, code, "")]  # type: ignore[union-attr]


def test_a_live_lease_that_is_refused_is_seen() -> None:
    story, _, token = ended()
    refuse(story, "stale_lease")
    last_call(story, Ack).reply.index -= 1  # type: ignore[union-attr]

    assert f"live lease {token} was refused" in complaints("FirstAnswerAgain", story)[0]


@pytest.mark.parametrize("code", ["stale_lease", "unknown_job"])
def test_a_repeated_ack_that_is_refused_is_seen(code: str) -> None:
    story, job_id, token = ended()
    story.ack((job_id, token))

    assert complaints("FirstAnswerAgain", story) == []

    refuse(story, code)

    assert "which won" in complaints("FirstAnswerAgain", story)[0]


def test_the_first_answer_is_given_also_when_the_job_is_deleted_and_not_when_it_lives() -> None:
    story, job_id, token = ended()
    story.delete(job_id)
    story.ack((job_id, token))
    refuse(story, "stale_lease")

    assert complaints("FirstAnswerAgain", story) != []

    story, job_id, token = ended()
    story.revive(job_id)

    assert story.ack((job_id, token)) == ["stale_lease"]
    assert complaints("FirstAnswerAgain", story) == []


def test_a_stale_lease_is_rightly_refused() -> None:
    story, job_id, token = leased()
    story.expire((job_id, token))
    story.ack((job_id, token))

    assert complaints("FirstAnswerAgain", story) == []


# --- ReportsAreConsistent


def test_a_reader_who_saw_the_end_never_sees_the_job_wait() -> None:
    story, job_id, _ = ended()
    story.job(job_id)
    story.job(job_id)

    assert complaints("ReportsAreConsistent", story) == []

    reply = story.history.calls[-1].reply
    assert isinstance(reply, JobReply)
    assert reply.job is not None
    reply.job.state = State.READY

    assert "told as succeeded, then as ready" in complaints("ReportsAreConsistent", story)[0]
