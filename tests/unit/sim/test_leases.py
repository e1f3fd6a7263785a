"""Leases and attempts: each way in which two leases, or a wrong charge, could come about."""

from __future__ import annotations

import pytest

from headrace.model import records as r
from headrace.model.commands import CloseSession, Extend, MarkStarted, Started
from headrace.model.job import BACKOFF_FIXED, RetryPolicy
from headrace.model.limits import LEASE_MS_DEFAULT
from headrace.sim.history import PushedLease, Recorded
from tests.unit.sim.telling import (
    Telling,
    complaints,
    drop,
    insert,
    records_of,
    rewrite,
)

TWICE = RetryPolicy(attempt_max=2, backoff=BACKOFF_FIXED, base_ms=0, jitter=False)
SEEN = frozenset({"Progress", "LogLines"})
"""Starts are part of the history."""


def leased() -> tuple[Telling, bytes, int]:
    story = Telling()
    story.enqueue_one(retry=TWICE)
    job_id, token = story.claim_one()
    return story, job_id, token


def pushed() -> tuple[Telling, bytes, int]:
    story = Telling()
    job_id = story.enqueue_one(retry=TWICE)
    story.open_session()
    [effect] = story.dispatch()
    return story, job_id, effect.groups[0].token


# --- LeasesAreDisjoint


def test_a_second_lease_while_the_first_lives_is_seen() -> None:
    story, job_id, token = leased()
    insert(story, r.JobsClaimed(b"", [job_id], 1_000))

    assert f"while lease {token} lived" in complaints("LeasesAreDisjoint", story)[0]


def test_leases_one_after_the_other_are_well() -> None:
    story, job_id, token = leased()
    story.expire((job_id, token))
    story.claim_one()

    assert complaints("LeasesAreDisjoint", story) == []


def test_a_job_twice_in_one_claim_is_seen() -> None:
    story, _, _ = leased()
    rewrite(story, r.JobsClaimed, lambda record: record.job_ids.append(record.job_ids[0]))  # type: ignore[attr-defined]

    assert any("names a job twice" in one for one in complaints("LeasesAreDisjoint", story))


def test_a_token_that_comes_again_is_seen() -> None:
    story, job_id, token = leased()
    story.expire((job_id, token))
    story.claim_one()
    events = story.history.events
    again = records_of(story, r.JobsClaimed)[-1]
    # The token is the index of the claim: an index that comes again is such a token.
    events[events.index(again)] = Recorded(again.at_ns, token, again.now_ms, again.record)

    assert f"granted after lease {token}" in complaints("LeasesAreDisjoint", story)[0]


# --- LeasesLast


def test_a_lease_that_ends_before_its_time_is_seen() -> None:
    early, late, unwatched = leased(), leased(), leased()
    late[0].wait(LEASE_MS_DEFAULT)
    for story, job_id, token in (early, late, unwatched):
        story.expire((job_id, token))

    assert "its lease ended 29999 ms early" in complaints("LeasesLast", early[0])[0]
    assert complaints("LeasesLast", late[0]) == []
    assert complaints("LeasesLast", unwatched[0], healed_ms=-1) == []


def test_an_extension_may_shorten_a_lease_and_is_kept() -> None:
    kept, broken = leased(), leased()
    for story, job_id, token in (kept, broken):
        story.run(Extend([(job_id, token)], 2_000))
        story.wait(2_000 if story is kept[0] else 1_000)
        story.expire((job_id, token))

    assert complaints("LeasesLast", kept[0]) == []
    assert "its lease ended 999 ms early" in complaints("LeasesLast", broken[0])[0]


def test_a_job_that_times_out_early_is_seen() -> None:
    early, late = Telling(), Telling()
    for story in (early, late):
        story.enqueue_one(timeout_ms=900)
        lease = story.claim_one()
        story.wait(900 if story is late else 500)
        story.expire(lease, reason="timeout")

    assert complaints("LeasesLast", late) == []
    assert "timed out 399 ms early" in complaints("LeasesLast", early)[0]


@pytest.mark.parametrize("heard", [True, False])
def test_a_session_that_was_heard_does_not_expire(heard: bool) -> None:
    story, job_id, token = pushed()
    session_id = story.engine.session_ids()[0]
    if not heard:
        story.wait(LEASE_MS_DEFAULT)
    story.expire((job_id, token))
    story.engine.begin_turn(story.now_ms)
    story.engine.run(CloseSession(session_id, "expired"))
    story.commit()

    assert (complaints("LeasesLast", story) == []) is not heard


def test_a_worker_whose_session_goes_on_has_not_lost_its_leases() -> None:
    story, job_id, token = pushed()
    story.expire((job_id, token), started=False)

    assert "its session goes on" in complaints("LeasesLast", story)[0]

    story.dispatch()

    assert "its session goes on" in complaints("LeasesLast", story)[0]


def test_a_session_that_is_closed_ends_with_its_leases() -> None:
    story, job_id, token = pushed()
    story.engine.begin_turn(story.now_ms)
    story.engine.run(MarkStarted([(job_id, token)]))
    story.run(CloseSession(story.engine.session_ids()[0], "bye"))

    assert records_of(story, r.LeasesExpired) != []
    assert complaints("LeasesLast", story) == []


def test_a_node_that_dies_between_a_lost_lease_and_its_session_may_hear_of_it_again() -> None:
    story, job_id, token = pushed()
    story.expire((job_id, token), started=False)
    insert(story, r.EpochStarted(2, b"n", "node", now_ms=story.now_ms))

    assert complaints("LeasesLast", story) == []


def test_a_lease_ends_for_reasons_that_are_known() -> None:
    story, job_id, token = leased()
    story.expire((job_id, token), reason="tired")

    assert "'tired', which is no reason" in complaints("LeasesLast", story)[0]


# --- HandedOutOnce


def test_a_push_and_a_start_of_a_granted_lease_are_well() -> None:
    story, job_id, token = pushed()
    story.begin(job_id, token)

    assert complaints("HandedOutOnce", story) == []


def test_a_lease_that_is_pushed_or_started_twice_is_seen() -> None:
    story, job_id, token = pushed()
    story.begin(job_id, token)
    story.begin(job_id, token)
    story.history.events.append(PushedLease(story.tick(), "worker 1", job_id, token))

    found = complaints("HandedOutOnce", story)

    assert any("started twice" in one for one in found)
    assert any("pushed twice" in one for one in found)


def test_a_token_that_the_log_does_not_know_is_seen() -> None:
    story, job_id, token = pushed()
    story.begin(job_id, token - 1)

    assert "which the log does not know" in complaints("HandedOutOnce", story)[0]


def test_a_start_before_the_lease_was_durable_is_seen() -> None:
    story, _, token = pushed()
    at_ns = records_of(story, r.JobsClaimed)[0].at_ns
    [push] = [event for event in story.history.events if isinstance(event, PushedLease)]
    story.history.events.remove(push)
    story.history.events.append(PushedLease(at_ns - 1, push.actor, push.job_id, token))

    assert "before that was durable" in complaints("HandedOutOnce", story)[0]


def test_a_push_of_a_lease_without_a_session_is_seen() -> None:
    story, job_id, token = leased()
    story.history.events.append(PushedLease(story.tick(), "worker 1", job_id, token))

    assert "belongs to no session" in complaints("HandedOutOnce", story)[0]


def test_a_push_of_a_lease_that_ended_in_its_own_commit_is_seen() -> None:
    story, job_id, token = pushed()
    claim = records_of(story, r.JobsClaimed)[0]
    release = r.JobsReleased([r.JobReleased(job_id, token)])
    story.history.events.append(Recorded(claim.at_ns, token + 1, claim.now_ms, release))

    assert "had ended in its own commit" in complaints("HandedOutOnce", story)[0]


# --- AttemptsFit


def fail(story: Telling, count: int) -> None:
    for _ in range(count):
        story.nack(story.claim_one())


def test_a_job_that_is_tried_as_often_as_its_policy_says_is_well() -> None:
    story = Telling()
    story.enqueue_one(retry=TWICE)
    fail(story, 2)

    assert complaints("AttemptsFit", story) == []


def test_one_attempt_too_many_is_seen() -> None:
    story = Telling()
    story.enqueue_one(retry=TWICE)
    fail(story, 2)
    rewrite(story, r.JobFailed, lambda record: setattr(record, "fate", r.FATE_RETRY))

    assert "tried again after 2 of 2 attempts" in complaints("AttemptsFit", story)[0]


def test_a_death_before_the_last_attempt_is_seen() -> None:
    story = Telling()
    story.enqueue_one(retry=TWICE)
    fail(story, 1)

    def die(record: object) -> None:
        record.fate, record.reason = r.FATE_DEAD, "attempts"  # type: ignore[attr-defined]

    rewrite(story, r.JobFailed, die)

    assert "dead after 1 of 2 attempts" in complaints("AttemptsFit", story)[0]


def test_a_cancel_that_the_end_of_a_lease_ignores_is_seen_and_one_that_it_invents() -> None:
    story, job_id, token = leased()
    story.cancel(job_id)
    story.nack((job_id, token))

    assert complaints("AttemptsFit", story) == []

    rewrite(story, r.JobFailed, lambda record: setattr(record, "fate", r.FATE_RETRY))

    assert "asked for, and ignored" in complaints("AttemptsFit", story)[0]

    story, job_id, token = leased()
    story.nack((job_id, token))
    rewrite(story, r.JobFailed, lambda record: setattr(record, "fate", r.FATE_CANCELLED))

    assert "nobody had asked" in complaints("AttemptsFit", story)[0]


@pytest.mark.parametrize(
    ("reason", "started", "message"),
    [
        ("crashed", True, "of 3 crashes"),
        ("never_started", False, "never started after 1 leases"),
        ("attempts", True, "of 8 attempts"),
    ],
)
def test_an_expiry_that_kills_too_early_is_seen(reason: str, started: bool, message: str) -> None:
    story = Telling()
    story.enqueue_one()
    story.expire(story.claim_one(), started=started)

    def die(record: object) -> None:
        lease = record.leases[0]  # type: ignore[attr-defined]
        lease.fate, lease.reason = r.FATE_DEAD, reason

    rewrite(story, r.LeasesExpired, die)

    assert message in complaints("AttemptsFit", story)[0]


@pytest.mark.parametrize(("started", "times"), [(True, 3), (False, 10)])
def test_an_expiry_that_spares_a_job_for_ever_is_seen(started: bool, times: int) -> None:
    story = Telling()
    story.enqueue_one()
    for _ in range(times):
        story.expire(story.claim_one(), started=started)

    assert complaints("AttemptsFit", story) == []

    rewrite(
        story,
        r.LeasesExpired,
        lambda record: setattr(record.leases[0], "fate", r.FATE_RETRY),  # type: ignore[attr-defined]
    )

    assert complaints("AttemptsFit", story) != []


# --- OnlyStartsAreCharged


def test_a_reserved_job_that_is_charged_is_seen() -> None:
    story, job_id, token = pushed()
    story.expire((job_id, token), started=True)

    found = complaints("OnlyStartsAreCharged", story, unseen=SEEN)

    assert "nobody had started it" in found[0]


def test_a_start_that_nobody_made_is_seen() -> None:
    story, job_id, token = pushed()
    insert(story, r.JobsStarted([(job_id, token)]))

    assert complaints("OnlyStartsAreCharged", story, unseen=SEEN) != []


@pytest.mark.parametrize("says", [True, False])
def test_a_job_that_had_started_may_be_charged(says: bool) -> None:
    story, job_id, token = pushed()
    if says:
        story.history.call("worker 1", Started([(job_id, token)]), story.tick())
    else:
        story.begin(job_id, token)
    story.expire((job_id, token), started=True)

    assert complaints("OnlyStartsAreCharged", story, unseen=SEEN) == []


def test_a_client_without_a_session_may_have_run_what_it_claimed() -> None:
    story, job_id, token = leased()
    story.expire((job_id, token), started=True)

    assert complaints("OnlyStartsAreCharged", story, unseen=SEEN) == []


def test_a_worker_that_is_told_the_wrong_attempt_is_seen() -> None:
    story, job_id, token = pushed()
    story.begin(job_id, token, attempt=2)

    assert "runs as attempt 2 with 0 charged" in complaints("OnlyStartsAreCharged", story)[0]


def test_drop_is_told_as_it_is() -> None:
    """The tool of these tests itself: indexes have no gap afterwards."""
    story, _, _ = leased()
    drop(story, r.JobsEnqueued)

    indexes = [event.index for event in story.history.events if isinstance(event, Recorded)]
    assert indexes == list(range(1, len(indexes) + 1))
