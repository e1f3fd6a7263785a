"""Claims, and everything that a holder says of its lease."""

from __future__ import annotations

import pytest

from headrace.model import limits
from headrace.model.commands import (
    Ack,
    ChangePriority,
    Claim,
    Expire,
    Extend,
    LogLines,
    MarkStarted,
    PauseQueue,
    Progress,
    Purge,
    ResumeQueue,
)
from headrace.model.job import BACKOFF_FIXED, RetryPolicy, State
from headrace.model.replies import Claimed
from tests.unit.engine.story import PLAIN, Story, codes_of

AT_ONCE = RetryPolicy(backoff=BACKOFF_FIXED, base_ms=0, jitter=False)


# --- claims


def test_claim_is_first_in_first_out_inside_a_priority() -> None:
    story = Story()
    ids = story.enqueue(3, kind="send") + story.enqueue(2, kind="cut")
    high = story.enqueue_one(priority=101, kind="cut")

    claimed = [job_id for job_id, _ in story.claim(9, kinds=("cut", "send"))]

    # A reply groups jobs by spec; inside a group they stand in the order of the claim.
    assert claimed == [high, *ids[3:], *ids[:3]]


def test_claim_takes_the_lowest_number_over_kinds() -> None:
    story = Story()
    first = story.enqueue_one(kind="send")
    second = story.enqueue_one(kind="cut")
    third = story.enqueue_one(kind="send")
    kinds = ("cut", "send")

    order = [story.claim_one(kinds=kinds)[0] for _ in range(3)]

    assert order == [first, second, third]


def test_claim_of_one_kind_passes_over_the_others() -> None:
    story = Story()
    story.enqueue(3, kind="cut")
    wanted = story.enqueue_one(kind="send")

    assert [job_id for job_id, _ in story.claim(9)] == [wanted]


def test_delayed_job_is_not_claimable_a_millisecond_before_it_is_due() -> None:
    story = Story()
    job_id = story.enqueue_one(delay_ms=30 * 24 * 3600 * 1000)

    story.wait(30 * 24 * 3600 * 1000 - 1)
    assert story.claim() == []

    story.wait(1)
    assert story.claim_one()[0] == job_id


def test_job_that_becomes_due_stands_behind_those_that_are_ready() -> None:
    story = Story()
    delayed = story.enqueue_one(delay_ms=1_000)
    ready = story.enqueue(2)

    story.wait(1_000)

    assert [job_id for job_id, _ in story.claim(3)] == [*ready, delayed]
    story.assert_replays()


def test_claim_skips_job_whose_lease_is_held() -> None:
    story = Story()
    story.enqueue_one()
    story.claim_one()

    assert story.claim() == []


def test_claim_of_a_paused_queue_gets_nothing_until_it_is_resumed() -> None:
    story = Story()
    story.enqueue_one()
    story.run(PauseQueue("mail"))

    assert story.claim() == []
    assert not story.engine.has_ready(("mail",), ("send",))

    story.run(ResumeQueue("mail"))
    assert len(story.claim()) == 1


def test_token_is_the_index_of_the_claim_and_grows() -> None:
    story = Story()
    story.enqueue_one()
    tokens = []
    for _ in range(4):
        lease = story.claim_one()
        tokens.append(lease[1])
        assert lease[1] == story.engine.last_index
        story.release(lease)

    assert tokens == sorted(set(tokens))


def test_released_job_keeps_its_place_before_younger_ones() -> None:
    story = Story()
    first, second = story.enqueue(2)
    story.release(story.claim_one())

    assert [job_id for job_id, _ in story.claim(2)] == [first, second]


def test_released_jobs_that_leave_from_the_middle_are_claimed_once() -> None:
    """A cancelled entry in front of a claimed one must not keep that one in the lane."""
    story = Story()
    ids = story.enqueue(6)
    story.release(*story.claim(4))
    story.cancel(ids[1])
    assert [job_id for job_id, _ in story.claim(1)] == [ids[0]]
    [lease] = story.claim(1)
    assert lease[0] == ids[2]

    story.release(lease)

    assert [job_id for job_id, _ in story.claim(9)] == [ids[2], ids[3], ids[4], ids[5]]


def test_one_claim_over_a_gap_in_the_returned_jobs_takes_each_once() -> None:
    story = Story(PLAIN)
    ids = story.enqueue(5)
    story.release(*story.claim(4))
    story.cancel(ids[1])
    first, second = story.claim(2)
    assert (first[0], second[0]) == (ids[0], ids[2])

    story.release(first, second)

    assert [job_id for job_id, _ in story.claim(9)] == [ids[0], ids[2], ids[3], ids[4]]


def test_claim_carries_no_more_than_a_frame_can() -> None:
    story = Story(PLAIN)
    for _ in range(9):
        story.enqueue_one(payload=bytes(limits.MIB))

    reply = story.run(Claim(("mail",), ("send",), 9))

    assert isinstance(reply, Claimed)
    size_bytes = sum(len(job.payload) for group in reply.groups for job in group.jobs)
    assert 0 < size_bytes <= limits.CLAIM_BYTES_MAX


@pytest.mark.parametrize("count", [100_000, pytest.param(1_000_000, marks=pytest.mark.long)])
def test_jobs_of_a_kind_that_nobody_handles_cost_a_claim_nothing(count: int) -> None:
    """Counted, not timed: every job whose state a claim looks at is in a lane it serves."""
    story = Story(PLAIN)
    for _ in range(count // 10_000):
        story.enqueue(10_000, kind="unknown")
        story.committed.clear()
    story.enqueue(20)
    looked_at = _CountingDeque.install(story, "unknown")

    claimed = story.claim(20)

    assert len(claimed) == 20
    assert looked_at.count == 0


class _CountingDeque:
    """Stands in the place of a lane's order and counts who looks."""

    def __init__(self) -> None:
        self.count = 0

    @classmethod
    def install(cls, story: Story, kind: str) -> _CountingDeque:
        counting = cls()
        for lane in story.engine.state.queues["mail"].kinds[kind].lanes.values():
            lane.queue_order = counting  # type: ignore[assignment]
        return counting

    def __getattr__(self, name: str) -> object:
        self.count += 1
        raise AssertionError(f"a claim of another kind used {name}")

    __iter__ = __len__ = __bool__ = __getitem__ = lambda self, *_: self.__getattr__("it")


# --- ack


def test_ack_ends_a_job_with_its_result() -> None:
    story = Story()
    job_id = story.enqueue_one()

    assert story.ack(story.claim_one(), result=b"42") == []

    view = story.job(job_id)
    assert (view.state, view.result, view.attempt) == (State.SUCCEEDED, b"42", 1)


def test_repeated_ack_gets_the_first_answer_and_changes_nothing() -> None:
    story = Story()
    job_id = story.enqueue_one()
    lease = story.claim_one()
    story.ack(lease, result=b"first")
    index = story.engine.last_index

    assert story.ack(lease, result=b"second") == []

    assert story.engine.last_index == index
    assert story.job(job_id).result == b"first"


def test_call_that_acks_a_lease_twice_ends_its_job_once() -> None:
    story = Story()
    job_id = story.enqueue_one()
    lease = story.claim_one()
    results = [(*lease, b"first"), (*lease, b"second")]

    assert codes_of(story.run(Ack(results))) == []
    assert story.job(job_id).result == b"first"
    story.assert_replays()


def test_repeated_ack_is_answered_as_long_as_the_id_is_remembered() -> None:
    story = Story()
    story.enqueue_one()
    lease = story.claim_one()
    story.ack(lease)
    story.run(Purge("mail", (int(State.SUCCEEDED),)))

    story.wait(limits.REMEMBER_MS - 1)
    assert story.ack(lease) == []

    story.wait(limits.REMEMBER_MS)
    assert story.ack(lease) == ["unknown_job"]


def test_ack_with_an_expired_lease_is_refused() -> None:
    story = Story()
    job_id = story.enqueue_one()
    lease = story.claim_one()
    story.expire(lease)

    assert story.ack(lease) == ["stale_lease"]

    newer = story.claim_one()
    assert story.ack(lease) == ["stale_lease"]
    assert story.state(job_id) is State.LEASED
    assert story.ack(newer) == []


def test_one_call_acks_the_live_lease_and_refuses_the_old_one() -> None:
    story = Story()
    story.enqueue_one()
    old = story.claim_one()
    story.expire(old)
    live = story.claim_one()

    reply = story.run(Ack([(*live, None), (*old, None), (*live, None)]))

    assert codes_of(reply) == ["stale_lease"]


def test_ack_of_a_job_that_never_was_is_unknown() -> None:
    assert Story().ack((bytes(15) + b"\1", 3)) == ["unknown_job"]


def test_result_beyond_its_limit_is_refused_alone() -> None:
    story = Story()
    small, large = story.enqueue(2)
    first, second = story.claim(2)

    reply = story.run(Ack([(*second, bytes(limits.RESULT_BYTES_MAX + 1)), (*first, b"ok")]))

    assert codes_of(reply) == ["payload_too_large"]
    assert (story.state(small), story.state(large)) == (State.SUCCEEDED, State.LEASED)


# --- nack


def test_nack_waits_for_the_backoff_and_tries_again() -> None:
    story = Story()
    policy = RetryPolicy(backoff=BACKOFF_FIXED, base_ms=500, jitter=False)
    job_id = story.enqueue_one(retry=policy)
    story.nack(story.claim_one())

    view = story.job(job_id)
    assert (view.state, view.attempt) == (State.SCHEDULED, 1)
    assert view.run_at_ms == story.now_ms + 500

    story.wait(500)
    assert story.claim_one()[0] == job_id


def test_attempts_end_with_a_dead_job_that_shows_why() -> None:
    story = Story()
    job_id = story.enqueue_one(retry=RetryPolicy(attempt_max=3, backoff=0, base_ms=0))
    for _ in range(3):
        story.nack(story.claim_one())

    view = story.job(job_id)
    assert (view.state, view.attempt, view.reason) == (State.DEAD, 3, "attempts")
    assert [error.attempt for error in view.errors] == [1, 2, 3]


def test_nack_that_must_not_be_retried_is_dead_at_once() -> None:
    story = Story()
    job_id = story.enqueue_one()
    story.nack(story.claim_one(), retryable=False)

    view = story.job(job_id)
    assert (view.state, view.attempt, view.reason) == (State.DEAD, 1, "gave_up")


def test_repeated_nack_gets_the_first_answer_and_charges_nothing() -> None:
    story = Story()
    job_id = story.enqueue_one(retry=AT_ONCE)
    lease = story.claim_one()
    story.nack(lease)

    assert story.nack(lease) == []

    assert story.job(job_id).attempt == 1
    story.claim_one()
    assert story.nack(lease) == ["stale_lease"]


def failed_once_and_leased_again(story: Story) -> tuple[bytes, int]:
    story.enqueue_one(retry=AT_ONCE)
    story.nack(story.claim_one())
    story.wait(10)
    return story.claim_one()


def test_nack_of_a_lease_that_won_is_stale_also_when_an_earlier_attempt_failed() -> None:
    story = Story()
    lease = failed_once_and_leased_again(story)
    story.ack(lease)

    assert story.nack(lease) == ["stale_lease"]


def test_nack_of_a_released_lease_is_stale_also_when_an_earlier_attempt_failed() -> None:
    story = Story()
    lease = failed_once_and_leased_again(story)
    story.release(lease)

    assert story.nack(lease) == ["stale_lease"]


def test_nack_of_a_lease_that_expired_unstarted_is_stale_after_a_failure() -> None:
    story = Story()
    lease = failed_once_and_leased_again(story)
    story.expire(lease, started=False)

    assert story.nack(lease) == ["stale_lease"]


def test_nack_of_the_last_attempt_is_repeated_with_its_first_answer() -> None:
    story = Story()
    lease = failed_once_and_leased_again(story)
    story.nack(lease, retryable=False)

    assert story.nack(lease) == []


def test_first_and_last_nine_errors_are_kept_and_the_others_counted() -> None:
    story = Story()
    policy = RetryPolicy(attempt_max=30, backoff=BACKOFF_FIXED, base_ms=0)
    job_id = story.enqueue_one(retry=policy)
    for _ in range(25):
        story.nack(story.claim_one())

    view = story.job(job_id)
    assert [error.attempt for error in view.errors] == [*range(1, 10), *range(17, 26)]
    assert view.errors_dropped == 7


# --- release, snooze, extend


def test_release_charges_nothing() -> None:
    story = Story()
    job_id = story.enqueue_one()
    story.release(story.claim_one())

    view = story.job(job_id)
    assert (view.state, view.attempt) == (State.READY, 0)


def test_snooze_is_uncharged_and_counted_up_to_its_limit() -> None:
    story = Story(PLAIN)
    job_id = story.enqueue_one()
    for _ in range(limits.SNOOZES_MAX):
        assert story.release(story.claim_one(), started=True) == []
    lease = story.claim_one()

    assert story.release(lease, started=True) == ["limit_reached"]

    view = story.job(job_id)
    assert (view.attempt, view.snooze_count) == (1, limits.SNOOZES_MAX)
    assert len(view.history) <= limits.HISTORY_ENTRIES_MAX
    assert story.nack(lease) == []


def test_release_with_a_delay_waits_for_it() -> None:
    story = Story()
    job_id = story.enqueue_one()
    story.release(story.claim_one(), delay_ms=700)

    assert story.state(job_id) is State.SCHEDULED
    story.wait(700)
    assert story.claim_one()[0] == job_id


@pytest.mark.parametrize("verb", ["release", "extend"])
def test_old_lease_of_a_live_job_is_stale_and_not_unknown(verb: str) -> None:
    story = Story()
    story.enqueue_one()
    old = story.claim_one()
    story.release(old)
    story.claim_one()

    codes = story.release(old) if verb == "release" else codes_of(story.run(Extend([old])))

    assert codes == ["stale_lease"]


def test_extend_and_progress_of_a_live_lease_are_taken() -> None:
    story = Story()
    job_id = story.enqueue_one()
    lease = story.claim_one()

    assert codes_of(story.run(Extend([lease]))) == []
    story.run(Progress(*lease, b"half"))
    story.run(LogLines(*lease, ["one", "x" * (limits.JOB_LOG_LINE_BYTES_MAX + 5)]))

    view = story.job(job_id)
    assert view.progress == b"half"
    assert [len(line) for line in view.log_lines] == [3, limits.JOB_LOG_LINE_BYTES_MAX]


def test_job_log_keeps_the_newest_lines() -> None:
    story = Story()
    job_id = story.enqueue_one()
    lease = story.claim_one()
    for start in range(0, 300, 100):
        story.run(LogLines(*lease, [str(start + line) for line in range(100)]))

    lines = story.job(job_id).log_lines
    assert lines == [str(line) for line in range(100, 300)]


def test_long_line_of_a_job_log_is_cut() -> None:
    story = Story()
    job_id = story.enqueue_one()
    story.run(LogLines(*story.claim_one(), ["é" * limits.JOB_LOG_LINE_BYTES_MAX]))

    [line] = story.job(job_id).log_lines
    assert len(line.encode()) == limits.JOB_LOG_LINE_BYTES_MAX


# --- expiry


def test_lost_worker_charges_only_jobs_that_had_started() -> None:
    story = Story()
    first, second = story.enqueue(2)
    started, reserved = story.claim(2)
    story.expire(started, started=True)
    story.expire(reserved, started=False)

    assert (story.job(first).attempt, story.job(second).attempt) == (1, 0)
    assert story.job(first).errors[0].type == "worker_lost"
    assert [job_id for job_id, _ in story.claim(2)] == [second, first]


def test_job_that_kills_its_workers_is_dead_as_crashed() -> None:
    story = Story()
    job_id = story.enqueue_one()
    for _ in range(limits.CRASH_MAX):
        story.expire(story.claim_one())

    view = story.job(job_id)
    assert (view.state, view.reason) == (State.DEAD, "crashed")
    assert (view.attempt, view.crash_count) == (limits.CRASH_MAX, limits.CRASH_MAX)


def test_job_that_never_starts_is_dead_after_ten_returns() -> None:
    story = Story()
    job_id = story.enqueue_one()
    for _ in range(limits.RESERVED_RETURNS_MAX):
        assert story.state(job_id) is State.READY
        story.expire(story.claim_one(), started=False)

    view = story.job(job_id)
    assert (view.state, view.reason, view.attempt) == (State.DEAD, "never_started", 0)


def test_timeout_is_charged_and_backs_off() -> None:
    story = Story()
    policy = RetryPolicy(backoff=BACKOFF_FIXED, base_ms=500, jitter=False)
    job_id = story.enqueue_one(retry=policy, timeout_ms=10)
    story.expire(story.claim_one(), reason="timeout")

    view = story.job(job_id)
    assert (view.state, view.attempt) == (State.SCHEDULED, 1)
    assert view.run_at_ms == story.now_ms + 500
    assert view.errors[0].type == "timeout"
    assert view.crash_count == 0


def test_expiry_that_names_a_lease_twice_ends_it_once() -> None:
    story = Story()
    job_id = story.enqueue_one()
    lease = story.claim_one()

    story.expire(lease, lease)

    assert story.job(job_id).attempt == 1


def test_expiry_passes_over_leases_that_have_moved_on() -> None:
    story = Story()
    story.enqueue_one()
    lease = story.claim_one()
    story.ack(lease)
    index = story.engine.last_index

    story.expire(lease)

    assert story.engine.last_index == index


def test_start_is_noted_for_live_leases_only() -> None:
    story = Story()
    first, second = story.enqueue(2)
    kept, gone = story.claim(2)
    story.ack(gone)
    story.run(MarkStarted([kept, gone]))

    assert story.job(first).started
    assert not story.job(second).started
    story.expire(kept)
    story.claim_one()
    assert not story.job(first).started


def test_lanes_of_changed_priorities_and_returns_stay_in_order() -> None:
    story = Story()
    ids = story.enqueue(10)
    for job_id in ids[:5]:
        story.run(ChangePriority(job_id, 7))
    for job_id in ids[:5]:
        story.run(ChangePriority(job_id, 100))
    story.release(*story.claim(3))

    assert [job_id for job_id, _ in story.claim(10)] == ids


def test_leases_are_told_to_whoever_watches_their_time() -> None:
    story = Story()
    job_id = story.enqueue_one(timeout_ms=50)
    lease = story.claim_one()
    [watched] = story.engine.all_leases()

    assert story.engine.lease_of(job_id) == watched
    assert (watched.job_id, watched.token) == lease
    assert (watched.session_id, watched.timeout_ms, watched.started) == (b"", 50, False)
    assert watched.lease_ms == limits.LEASE_MS_DEFAULT
    story.run(Expire([], "worker_lost"))
    assert story.engine.holds(*lease)
