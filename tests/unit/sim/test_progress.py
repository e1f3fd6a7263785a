"""Progress and effects: what hangs, and what was promised for later and did not come."""

from __future__ import annotations

import pytest

from headrace.engine.engine import Lease
from headrace.model.commands import Cancel, GetJob, PauseQueue, Started, WaitJob
from headrace.model.errors import OutcomeUnknown
from headrace.model.job import State
from headrace.model.records import JobRescheduled, JobsClaimed, JobsReleased
from headrace.model.replies import JobReply
from headrace.sim.history import PushedLease
from tests.unit.sim.telling import NS_PER_MS, Telling, complaints, drop, insert

HOUR_MS = 3_600_000


def served(story: Telling) -> bytes:
    """A session with room for everything."""
    session_id = story.open_session()
    story.dispatch()
    return session_id


# --- EveryJobMovesOn


def test_a_due_job_that_stays_scheduled_is_stuck() -> None:
    story = Telling()
    story.enqueue(1, delay_ms=10_000)

    assert complaints("EveryJobMovesOn", story) == []

    late = complaints("EveryJobMovesOn", story, log_now_ms=story.now_ms + 20_000)

    assert "scheduled, and due for 10000 ms" in late[0]
    assert complaints("EveryJobMovesOn", story, healed_ms=100) == []


def test_a_ready_job_beside_a_worker_with_room_is_stuck() -> None:
    story = Telling()
    story.open_session()
    story.enqueue(1)

    assert "has room for it" in complaints("EveryJobMovesOn", story)[0]


@pytest.mark.parametrize("why", ["paused", "kind", "nobody", "full"])
def test_a_ready_job_may_wait_for_a_reason(why: str) -> None:
    story = Telling()
    if why != "nobody":
        story.open_session(credit=0 if why == "full" else 10)
    story.enqueue(1, kind="orphan" if why == "kind" else "send")
    if why == "paused":
        story.run(PauseQueue("mail"))

    assert complaints("EveryJobMovesOn", story) == []


# --- NoStuckLease


def leased_to_a_session() -> Telling:
    story = Telling()
    story.enqueue(1)
    served(story)
    return story


def test_a_lease_of_a_worker_that_lives_and_knows_it_is_well() -> None:
    story = leased_to_a_session()

    assert complaints("NoStuckLease", story, log_now_ms=story.now_ms + HOUR_MS) == []


def test_a_lease_that_its_worker_never_got_is_stuck() -> None:
    story = leased_to_a_session()
    story.history.events = [
        event for event in story.history.events if not isinstance(event, PushedLease)
    ]

    found = complaints("NoStuckLease", story, log_now_ms=story.now_ms + HOUR_MS)

    assert "to a session that never got it" in found[0]


def test_a_lease_of_a_silent_or_lost_session_is_stuck() -> None:
    story = leased_to_a_session()
    final = story.final()
    final.sessions[0].last_seen_ms = HOUR_MS

    found = complaints("NoStuckLease", story, sessions=final.sessions)

    assert "silent for" in found[0]
    assert "session that is gone" in complaints("NoStuckLease", story, sessions=[])[0]


def test_a_single_lease_that_is_over_is_stuck() -> None:
    story = Telling()
    story.enqueue(1)
    story.claim_one()

    assert complaints("NoStuckLease", story) == []

    found = complaints("NoStuckLease", story, log_now_ms=story.now_ms + HOUR_MS)

    assert "ms over" in found[0]


def test_leases_of_the_node_and_of_its_log_are_the_same() -> None:
    story = leased_to_a_session()

    assert "does not share" in complaints("NoStuckLease", story, leases=[])[0]

    leases = story.final().leases
    drop(story, JobsClaimed)

    assert "lease None by the log" in complaints("NoStuckLease", story, leases=leases)[0]

    strange = Lease(bytes(16), 3, b"", 0, 1_000, True)

    assert "not in the log" in complaints("NoStuckLease", story, leases=[strange])[0]


# --- EveryCallEnds


def test_a_call_that_stays_open_is_stuck_unless_its_caller_died() -> None:
    story = Telling()
    story.history.call("client 9", GetJob(bytes(16)), story.at_ns)
    later_ns = story.at_ns + HOUR_MS * NS_PER_MS

    assert "is open for" in complaints("EveryCallEnds", story, at_ns=later_ns)[0]
    assert complaints("EveryCallEnds", story) == []

    gone = frozenset({"client 9"})

    assert complaints("EveryCallEnds", story, at_ns=later_ns, gone_actors=gone) == []


def test_what_is_never_answered_or_may_wait_is_not_stuck() -> None:
    story = Telling()
    story.history.call("client 9", Started([]), story.at_ns)
    story.history.call("client 9", WaitJob(bytes(16), HOUR_MS), story.at_ns)
    failed = story.history.call("client 9", GetJob(bytes(16)), story.at_ns)
    failed.error = OutcomeUnknown()
    later_ns = story.at_ns + HOUR_MS * NS_PER_MS

    assert complaints("EveryCallEnds", story, at_ns=later_ns) == []


# --- CancelHolds


def test_a_job_that_starts_after_its_cancel_is_seen() -> None:
    story = Telling()
    job_id = story.enqueue_one()
    story.begin(job_id, 2)
    story.cancel(job_id)

    assert complaints("CancelHolds", story) == []

    story.begin(job_id, 9)

    assert "after its cancel was acknowledged" in complaints("CancelHolds", story)[0]


def test_a_revived_job_may_start_after_its_cancel() -> None:
    story = Telling()
    job_id = story.enqueue_one()
    story.cancel(job_id)
    story.revive(job_id)
    story.begin(*story.claim_one())

    assert complaints("CancelHolds", story) == []


def test_a_job_that_was_asked_to_stop_is_leased_no_more() -> None:
    story = Telling()
    job_id = story.enqueue_one()
    lease = story.claim_one()
    story.run(Cancel(job_id))

    assert complaints("CancelHolds", story) == []

    insert(story, JobsReleased([]))
    insert(story, JobRescheduled(job_id, 0))
    insert(story, JobsClaimed(b"", [job_id], 1_000))

    assert f"under lease {lease[1]}" in complaints("CancelHolds", story)[0]


# --- WaitsAreAnswered


def wait(story: Telling, state: State, waited_ms: int, index: int) -> None:
    """A wait of 1,000 ms for the first job, answered with that state."""
    job_id = next(iter(story.known_ids()))
    call = story.history.call("client 2", WaitJob(job_id, 1_000), story.at_ns)
    call.returned_ns = call.called_ns + waited_ms * NS_PER_MS
    view = story.engine.job_view(job_id)
    view.state = state
    call.reply = JobReply(job=view, index=index)


def test_a_wait_that_ends_with_the_job_or_with_its_time_is_well() -> None:
    story = Telling()
    story.enqueue(1)
    wait(story, State.READY, 1_000, story.engine.last_index)
    story.ack(story.claim_one())
    wait(story, State.SUCCEEDED, 10, story.engine.last_index)

    assert complaints("WaitsAreAnswered", story) == []


def test_a_wait_that_ends_early_is_seen() -> None:
    story = Telling()
    story.enqueue(1)
    wait(story, State.READY, 900, story.engine.last_index)

    assert "ended early" in complaints("WaitsAreAnswered", story)[0]


def test_a_wait_that_missed_the_end_is_seen() -> None:
    story = Telling()
    story.enqueue(1)
    story.ack(story.claim_one())
    wait(story, State.LEASED, 1_000, story.engine.last_index)

    assert "had ended as one that had not" in complaints("WaitsAreAnswered", story)[0]
