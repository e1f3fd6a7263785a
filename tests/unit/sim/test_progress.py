"""Progress and effects: what hangs, and what was promised for later and did not come."""

from __future__ import annotations

import msgspec
import pytest

from headrace.engine.engine import Lease
from headrace.model.commands import Cancel, GetJob, PauseQueue, Revive, Started, WaitJob, Watch
from headrace.model.errors import OutcomeUnknown
from headrace.model.job import State
from headrace.model.records import (
    JobRescheduled,
    JobRevived,
    JobsClaimed,
    JobsReleased,
    JobsSucceeded,
)
from headrace.model.replies import JobReply, Problem, Settled
from headrace.sim.history import Connected, Event, Happened, PushedLease, Recorded, ToldEnd
from tests.unit.sim.telling import (
    NS_PER_MS,
    Telling,
    complaints,
    drop,
    insert,
    last_call,
    records_of,
)

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

    later_ns = story.at_ns + 20_000 * NS_PER_MS
    frozen = complaints("EveryJobMovesOn", story, at_ns=later_ns)

    assert "scheduled, and due for 10000 ms" in frozen[0]
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

    born_ns = {"client 9": story.at_ns + 1}

    assert complaints("EveryCallEnds", story, at_ns=later_ns, born_ns=born_ns) == []


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


def test_a_holder_that_stood_still_may_begin_what_was_cancelled_meanwhile() -> None:
    story = Telling()
    job_id = story.enqueue_one()
    lease = story.claim_one()
    story.expire(lease)
    story.cancel(job_id)
    story.begin(*lease)

    assert complaints("CancelHolds", story) == []

    told_of_faults(story)

    assert "after its cancel was acknowledged" in complaints("CancelHolds", story)[0]

    told_of_faults(story, "block_worker")

    assert complaints("CancelHolds", story) != []

    told_of_faults(story, "worker 1 paused")

    assert complaints("CancelHolds", story) == []


def begun_late(*events: Event, urls: tuple[str, ...] = ("headrace://server:1",)) -> list[str]:
    """`worker 1` begins what was cancelled; these happened between its claim and that."""
    story = Telling()
    story.at_ns = 100_000 * NS_PER_MS
    job_id = story.enqueue_one()
    lease = story.claim_one()
    story.expire(lease)
    story.cancel(job_id)
    told = [Happened(0, "server_ready", {"urls": urls}), *events]
    for event in told:
        moved = type(event)(**msgspec.structs.asdict(event) | {"at_ns": story.at_ns + event.at_ns})
        story.history.events.append(moved)
    story.begin(*lease)
    return complaints("CancelHolds", story)


LONG_AGO_NS = -99_000 * NS_PER_MS


@pytest.mark.parametrize(
    "event",
    [
        Happened(0, "worker 2 paused"),
        Happened(0, "client 1 killed"),
        Happened(0, "pause_other"),
        Happened(LONG_AGO_NS, "worker 1 paused"),
        Happened(LONG_AGO_NS, "server paused"),
        Connected(0, "worker 2"),
    ],
)
def test_what_befalls_others_or_is_long_over_excuses_no_late_start(event: Event) -> None:
    assert "after its cancel was acknowledged" in begun_late(event)[0]


@pytest.mark.parametrize(
    "event",
    [
        Happened(0, "worker 1 paused"),
        Happened(0, "server killed"),
        Happened(0, "slow_disk"),
        Happened(0, "rough_weather"),
        Happened(LONG_AGO_NS, "silence_connections"),
        Connected(0, "worker 1"),
    ],
)
def test_who_was_not_heard_may_begin_what_was_cancelled_meanwhile(event: Event) -> None:
    assert begun_late(event) == []


def test_silence_from_before_the_connection_began_is_over() -> None:
    silenced = Happened(LONG_AGO_NS, "silence_connections")
    connected = Connected(LONG_AGO_NS + 1, "worker 1")

    assert begun_late(silenced, connected) != []


def test_whoever_is_paused_may_be_the_server_where_that_is_embedded() -> None:
    assert begun_late(Happened(0, "worker 2 paused"), urls=("unix:///data/s.sock",)) == []


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


def told_of_faults(story: Telling, what: str = "server_ready") -> None:
    story.history.events.insert(0, Happened(0, what))


def test_a_wait_that_goes_on_after_the_end_is_seen_while_nothing_is_broken() -> None:
    story = Telling()
    story.enqueue(1)
    begun_ns = story.at_ns
    story.ack(story.claim_one())
    wait(story, State.SUCCEEDED, 3_000, story.engine.last_index)
    story.history.calls[-1].called_ns = begun_ns
    story.at_ns += 10_000 * NS_PER_MS

    assert complaints("WaitsAreAnswered", story) == []  # who knows what was broken meanwhile

    told_of_faults(story)

    assert "went on after the end" in complaints("WaitsAreAnswered", story)[0]

    told_of_faults(story, "power_cut")

    assert complaints("WaitsAreAnswered", story) == []


# --- WatchersAreTold


def watched(*, told: State | None) -> Telling:
    story = Telling()
    [job_id] = story.enqueue(1)
    call = story.history.call("client 2", Watch([job_id]), story.tick())
    call.reply, call.returned_ns = Settled(index=story.engine.last_index), story.tick()
    story.ack(story.claim_one())
    if told is not None:
        story.history.events.append(ToldEnd(story.tick(), "client 2", job_id, told))
    story.at_ns += 20_000 * NS_PER_MS
    told_of_faults(story)
    return story


def test_who_watches_is_told_what_is_true() -> None:
    assert complaints("WatchersAreTold", watched(told=State.SUCCEEDED)) == []


@pytest.mark.parametrize("state", [State.DEAD, State.READY])
def test_who_is_told_what_is_not_true_is_seen(state: State) -> None:
    found = complaints("WatchersAreTold", watched(told=state))

    assert f"told as {state.word}, which it had not become" in found[0]


def test_who_is_told_before_it_is_durable_is_seen() -> None:
    story = watched(told=None)
    [job_id] = story.known_ids()
    story.history.events.append(ToldEnd(1, "client 2", job_id, State.SUCCEEDED))

    assert "which it had not become" in complaints("WatchersAreTold", story)[0]


def test_who_watches_and_is_not_told_is_seen_unless_the_job_was_unknown() -> None:
    story = watched(told=None)

    assert "was not told its end" in complaints("WatchersAreTold", story)[0]

    call = last_call(story, Watch)
    call.reply.problems = [Problem(0, "unknown_job", "")]  # type: ignore[union-attr]

    assert complaints("WatchersAreTold", story) == []


def test_who_watches_what_had_ended_is_told_too() -> None:
    story = watched(told=None)
    last_call(story, Watch).reply.index = story.engine.last_index  # type: ignore[union-attr]

    assert "was not told its end" in complaints("WatchersAreTold", story)[0]


@pytest.mark.parametrize("told", [True, False])
def test_an_end_that_is_undone_before_it_is_told_leaves_the_next_one_to_be_told(told: bool) -> None:
    """In one commit nobody is told of it; the watch goes on."""
    story = watched(told=None)
    [job_id] = story.known_ids()
    [end] = records_of(story, JobsSucceeded)
    story.run(Revive(job_id))
    [revived] = records_of(story, JobRevived)
    story.history.events[story.history.events.index(revived)] = Recorded(
        end.at_ns, revived.index, revived.now_ms, revived.record
    )

    assert complaints("WatchersAreTold", story) == []

    story.cancel(job_id)
    if told:
        ended = ToldEnd(story.tick(), "client 2", job_id, State.CANCELLED)
        story.history.events.append(ended)
    story.at_ns += 20_000 * NS_PER_MS

    assert (complaints("WatchersAreTold", story) == []) is told


# --- CalmCallsAreQuick


def test_a_slow_answer_is_seen_while_nothing_is_broken() -> None:
    story = Telling()
    story.enqueue(1)
    story.history.calls[0].returned_ns += 3_000 * NS_PER_MS
    story.at_ns += 60_000 * NS_PER_MS
    told_of_faults(story)

    assert "no answer within 2000 ms" in complaints("CalmCallsAreQuick", story)[0]

    told_of_faults(story, "power_cut")

    assert complaints("CalmCallsAreQuick", story) == []


def test_an_open_call_is_seen_while_nothing_is_broken_unless_its_caller_died() -> None:
    story = Telling()
    story.history.call("client 9", GetJob(bytes(16)), story.at_ns)
    story.history.call("client 9", WaitJob(bytes(16), HOUR_MS), story.at_ns)
    story.history.call("client 9", Started([]), story.at_ns)
    story.at_ns += 5_000 * NS_PER_MS
    told_of_faults(story)

    assert len(complaints("CalmCallsAreQuick", story)) == 1

    gone = frozenset({"client 9"})

    assert complaints("CalmCallsAreQuick", story, gone_actors=gone) == []

    story.at_ns += 60_000 * NS_PER_MS

    assert len(complaints("CalmCallsAreQuick", story, gone_actors=gone)) == 1


def test_a_wait_that_missed_the_end_is_seen() -> None:
    story = Telling()
    story.enqueue(1)
    story.ack(story.claim_one())
    wait(story, State.LEASED, 1_000, story.engine.last_index)

    assert "had ended as one that had not" in complaints("WaitsAreAnswered", story)[0]
