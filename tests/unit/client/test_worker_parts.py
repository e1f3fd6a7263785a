"""The pure parts of a worker: prefetch, holdings, failures as text."""

from __future__ import annotations

from typing import cast

from hypothesis import given
from hypothesis import strategies as st

from headrace.client.failures import cut_middle, job_error, type_name
from headrace.client.held import FORGOTTEN, STARTED, HeldJob, Holdings
from headrace.client.prefetch import Prefetch
from headrace.client.running import Handler
from headrace.model.limits import PREFETCH_JOBS_MAX, TRACEBACK_BYTES_MAX
from headrace.model.replies import PushedGroup, PushedJob

# --- prefetch


def settled_credit(
    concurrency: int, rate: float, round_trip_s: float, payload_bytes: float = 100.0
) -> int:
    """The credit after that speed has been steady for a while."""
    prefetch = Prefetch(concurrency)
    for _ in range(30):
        prefetch.note(1.0, round(rate), round_trip_s, payload_bytes)
    return prefetch.credit


def test_fast_jobs_are_prefetched_for_two_round_trips() -> None:
    assert 100 + 160 * 0.75 <= settled_credit(100, 40_000, 0.002) <= 100 + 160 * 1.25


def test_long_jobs_are_not_prefetched() -> None:
    assert settled_credit(100, 100, 0.002) == 100


def test_one_slot_of_short_jobs_gets_its_next_one_early() -> None:
    assert settled_credit(1, 100, 0.002) == 2


def test_prefetch_is_bounded_by_jobs_and_by_bytes() -> None:
    assert settled_credit(100, 1_000_000, 0.1) <= 100 + PREFETCH_JOBS_MAX
    assert settled_credit(100, 40_000, 0.01, payload_bytes=1 << 20) <= 100 + 8


def test_prefetch_can_be_switched_off() -> None:
    prefetch = Prefetch(10, prefetch_max=0)

    assert prefetch.note(1.0, 40_000, 0.01, 100.0) is None
    assert prefetch.credit == 10


def test_small_changes_are_not_worth_a_call() -> None:
    prefetch = Prefetch(100)
    for _ in range(30):
        prefetch.note(1.0, 40_000, 0.002, 100.0)

    assert prefetch.note(1.0, 44_000, 0.002, 100.0) is None


def test_starved_worker_asks_for_nearly_all_that_it_may_hold_within_a_second() -> None:
    """Four looks; by a rate that the credit itself holds down it would take ten times that."""
    prefetch = Prefetch(100)
    prefetch.note(0.25, 700, 0.020, 100.0)
    for _ in range(4):
        prefetch.note(0.25, prefetch.credit * 6, 0.020, 100.0, starved=True)

    assert prefetch.credit > 0.8 * PREFETCH_JOBS_MAX


def test_starved_worker_of_long_jobs_still_holds_none() -> None:
    prefetch = Prefetch(100)

    assert prefetch.note(1.0, 100, 0.002, 100.0, starved=True) is None


def test_credit_goes_down_by_half_of_what_is_too_much() -> None:
    prefetch = Prefetch(100)
    for _ in range(30):
        prefetch.note(1.0, 40_000, 0.02, 100.0)
    before = prefetch.credit
    prefetch.note(1.0, 0, 0.002, 100.0)

    assert 0.4 * before < prefetch.credit < 0.7 * before


# --- holdings


def held(number: int, token: int) -> HeldJob:
    job_id = (number << 64 | number).to_bytes(16, "big")
    group = PushedGroup(token, "q", "k", "application/json", 0, 3, [])
    return HeldJob(PushedJob(job_id, 1, b""), group, cast(Handler, None))


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 3), st.booleans()), max_size=40))
def test_digest_and_count_are_those_of_the_leases_held(
    steps: list[tuple[int, int, bool]],
) -> None:
    holdings = Holdings()
    model: dict[bytes, HeldJob] = {}
    for number, token, adds in steps:
        job = held(number, token)
        if adds:
            holdings.add(job)
            model[job.job_id] = job
        elif job.job_id in model:
            holdings.forget(model.pop(job.job_id))

    digest = 0
    for job in model.values():
        digest ^= int.from_bytes(job.job_id[:8], "big") ^ job.token
    assert (len(holdings), holdings.digest) == (len(model), digest)
    assert {lease.job_id: lease.token for lease in holdings.leases()} == {
        job.job_id: job.token for job in model.values()
    }


def test_newer_lease_of_a_job_replaces_the_older_one() -> None:
    holdings = Holdings()
    older, newer = held(1, 10), held(1, 20)
    holdings.add(older)
    holdings.add(newer)

    assert holdings.get(older.job_id, 10) is None
    assert holdings.get(newer.job_id, 20) is newer
    assert older.state == FORGOTTEN
    holdings.forget(older)
    assert len(holdings) == 1


def test_resume_says_which_leases_have_started() -> None:
    holdings = Holdings()
    reserved, started = held(1, 10), held(2, 10)
    started.state = STARTED
    holdings.add(reserved)
    holdings.add(started)

    assert [lease.started for lease in holdings.leases()] == [False, True]


# --- failures


class Odd(Exception):
    def __str__(self) -> str:
        raise RuntimeError


def raised(error: Exception) -> BaseException:
    try:
        raise error
    except Exception as caught:
        return caught


def test_failure_is_type_message_and_traceback() -> None:
    found = job_error(raised(ValueError("no")))

    assert (found.type, found.message) == ("ValueError", "no")
    assert found.traceback.endswith("ValueError: no\n")
    assert "in raised" in found.traceback


def test_failure_that_cannot_be_shown_is_reported_all_the_same() -> None:
    assert "cannot be made" in job_error(raised(Odd())).message


def test_types_of_other_modules_are_named_with_them() -> None:
    assert type_name(Odd()) == f"{__name__}.Odd"


def test_long_traceback_keeps_both_ends() -> None:
    def deep(depth: int) -> None:
        if not depth:
            raise ValueError("x" * 10_000)
        deep(depth - 1)

    try:
        deep(200)
    except ValueError as error:
        found = job_error(error)

    assert len(found.traceback.encode()) <= TRACEBACK_BYTES_MAX
    assert found.traceback.startswith("Traceback")
    assert found.traceback.endswith("xxx\n")


@given(st.text(), st.integers(40, 200))
def test_cut_text_is_valid_and_short_enough(text: str, bytes_max: int) -> None:
    cut = cut_middle(text, bytes_max)

    assert len(cut.encode()) <= max(bytes_max, 0)
    if len(text.encode("utf-8", "replace")) <= bytes_max:
        assert cut == text.encode("utf-8", "replace").decode()
