"""Every data structure beside a naive twin that does the same in the plainest way."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.engine import remembered as remembered_module
from headrace.engine.finished import Ring, RingEntry, live_entries
from headrace.engine.job import CANCELLED, GONE, LEASED, READY, SCHEDULED, Job, Spec, encode_cold
from headrace.engine.keys import Keys
from headrace.engine.lanes import KindLanes, first_jobs
from headrace.engine.remembered import Remembered, Remembrance, Slice
from headrace.engine.start_by import StartBys
from headrace.engine.table import Table
from headrace.engine.timers import Timers
from headrace.model.errors import InvariantViolated
from headrace.model.ids import make_job_id
from headrace.model.job import JobExtra, JobSpec
from headrace.model.rows import Cold
from tests.unit.engine.story import Story

SPEC = Spec(JobSpec("q", "k"), "q", "k", 0, 0)

steps = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 1 << 30)), max_size=200)


def job_of(number: int, priority: int = 100) -> Job:
    return Job(number.to_bytes(16, "big"), SPEC, b"", READY, priority, number, 0)


@given(steps)
def test_lane_serves_like_a_sorted_list(plan: list[tuple[int, int]]) -> None:
    """Jobs come, are claimed in order, come back, and leave from the middle."""
    lanes = KindLanes("q", "k")
    twin: list[Job] = []
    away: list[Job] = []
    number = 0
    for choice, at in plan:
        if choice < 4:
            number += 1
            job = job_of(number, 100 + at % 2)
            lanes.add(job)
            twin.append(job)
        elif choice < 6 and twin:
            for job in first_jobs([lanes], 1 + at % 3):
                lanes.leave(job)
                job.state = LEASED
                twin.remove(job)
                away.append(job)
        elif choice < 8 and away:
            job = away.pop(at % len(away))
            job.state = READY
            lanes.add(job)
            twin.append(job)
        elif twin:
            job = twin.pop(at % len(twin))
            lanes.leave(job)
            if choice == 8:
                job.state = CANCELLED
            else:
                moved = job.successor()
                moved.priority = 100 + at % 2
                lanes.add(moved)
                twin.append(moved)
        twin.sort(key=lambda job: (-job.priority, job.number))

        assert [id(job) for job in first_jobs([lanes], 5)] == [id(job) for job in twin[:5]]
        assert lanes.count() == len(twin)
        assert [id(job) for job in first_jobs([lanes], 1000)] == [id(job) for job in twin]


@given(steps)
def test_lanes_of_several_kinds_serve_like_one_sorted_list(plan: list[tuple[int, int]]) -> None:
    kinds = [KindLanes("q", name) for name in "abc"]
    twin: list[tuple[int, int, KindLanes, Job]] = []
    for number, (choice, at) in enumerate(plan, start=1):
        if choice < 7 or not twin:
            lanes, job = kinds[choice % 3], job_of(number, at % 3)
            lanes.add(job)
            twin.append((-job.priority, number, lanes, job))
        else:
            *_, lanes, job = twin.pop(at % len(twin))
            lanes.leave(job)
            job.state = GONE
        twin.sort(key=lambda entry: entry[:2])

        assert first_jobs(kinds, 4) == [job for *_, job in twin[:4]]


@given(steps)
def test_timers_are_due_like_a_sorted_list(plan: list[tuple[int, int]]) -> None:
    timers = Timers(lambda job, number: job.state == SCHEDULED and job.number == number)
    twin: list[tuple[int, int, Job]] = []
    for number, (choice, at) in enumerate(plan, start=1):
        if choice < 6 or not twin:
            job = job_of(number)
            job.state = SCHEDULED
            timers.add(at % 50, number, job)
            twin.append((at % 50, number, job))
        elif choice < 8:
            job = timers.first()
            assert job is twin.pop(0)[2]
            job.state = GONE
            timers.leave()
        else:
            job = twin.pop(at % len(twin))[2]
            job.state = GONE
            timers.leave()
        twin.sort(key=lambda entry: entry[:2])

        assert timers.count == len(twin)
        assert timers.next_at_ms() == (twin[0][0] if twin else None)
        assert timers.due(25, 3) == min(3, sum(at_ms <= 25 for at_ms, *_ in twin))
        assert {id(job) for job in timers.live_jobs()} == {id(job) for *_, job in twin}


@given(st.integers(1, 40), st.integers(1, 7))
def test_scan_of_timers_comes_by_every_job(count: int, slice_size: int) -> None:
    timers = Timers(lambda job, number: job.state == SCHEDULED)
    for number in range(count):
        job = job_of(number)
        job.state = SCHEDULED
        timers.add(number, number, job)
    seen: set[int] = set()
    for _ in range(count // slice_size + 2):
        found = timers.scan(slice_size)
        assert len(found) <= slice_size
        seen.update(job.number for job in found)

    assert seen == set(range(count))


@given(steps)
def test_walk_gives_the_table_as_it_was_when_it_began(plan: list[tuple[int, int]]) -> None:
    table: Table[list[int]] = Table()
    twin: dict[bytes, int] = {}
    walk = None
    begun: dict[bytes, int] = {}
    walked: list[tuple[bytes, int]] = []
    for choice, at in plan:
        key = bytes([at % 7, at % 2 * 60])
        if choice < 4:
            table.put(key, [at])
            twin[key] = at
        elif choice == 4 and key in twin:
            table.remove(key)
            del twin[key]
        elif choice == 5 and key in twin:
            table.touch(key)
            value = table.get(key)
            assert value is not None
            value[0] = twin[key] = at
        elif choice == 6 and walk is None:
            begun, walked = dict(twin), []
            walk = table.begin_walk(lambda key, value: (key, value[0]))
        elif choice == 7 and walk is not None:
            table.end_walk()
            walk = None
        elif walk is not None:
            rows = walk.next_rows(1 + at % 4)
            assert len(rows) <= 1 + at % 4
            walked += rows
            if not rows:
                walk = None
                assert sorted(walked) == sorted(begun.items())

        assert {key: value[0] for key, value in table.items()} == twin
        assert len(table) == len(twin)
    if walk is not None:
        while rows := walk.next_rows(3):
            walked += rows
        assert sorted(walked) == sorted(begun.items())


@given(steps)
def test_keys_are_taken_and_freed_like_a_dict(plan: list[tuple[int, int]]) -> None:
    keys = Keys()
    twin: dict[bytes, tuple[bytes, int, int]] = {}
    now_ms = 0
    for choice, at in plan:
        scope, job_id = bytes([at % 6]), bytes([at % 5])
        if choice < 5:
            if scope not in twin or twin[scope][1] <= now_ms:
                twin[scope] = (job_id, now_ms + at % 20, keys.next_number)
                keys.take(scope, job_id, b"d", now_ms + at % 20)
        elif choice < 7:
            keys.free(scope, job_id)
            if scope in twin and twin[scope][0] == job_id:
                del twin[scope]
        elif choice < 9:
            now_ms += at % 9
        else:
            due = sorted((at_ms, no, scope) for scope, (_, at_ms, no) in twin.items())
            due = [entry for entry in due if entry[0] <= now_ms][:2]
            assert keys.expired(now_ms, 2) == len(due)
            keys.expire(len(due))
            for *_, gone in due:
                del twin[gone]

        assert len(keys) == len(twin)
        assert keys.live_entries() == len(twin)
        taken = keys.get(scope, now_ms)
        expected = twin.get(scope)
        if expected is None or expected[1] <= now_ms:
            assert taken is None
        else:
            assert taken is not None
            assert taken.job_id == expected[0]


@given(steps)
def test_ring_keeps_like_a_list_and_drops_the_bytes_of_those_that_left(
    plan: list[tuple[int, int]],
) -> None:
    ring = Ring()
    ended: Table[bytes] = Table()
    twin: list[RingEntry] = []
    for number, (choice, at) in enumerate(plan, start=1):
        if choice < 5 or not twin:
            job_id = number.to_bytes(16, "big")
            packed = bytes(1 + at % 9)
            entry = RingEntry(job_id, packed, CANCELLED, number, number)
            ended.put(job_id, packed)
            ring.add(entry)
            twin.append(entry)
        elif choice < 7:
            entry = ring.take_oldest(ended)
            assert entry is twin.pop(0)
            ended.remove(entry.job_id)
        else:
            entry = twin.pop(at % len(twin))
            ended.remove(entry.job_id)
            ring.leave(entry.packed, ended)

        assert list(live_entries(ring, ended)) == twin
        assert ring.count == len(twin)
        assert ring.size_bytes == sum(len(entry.packed) for entry in twin)
        assert len(ring.entries) <= 2 * ring.count + 65


@given(steps)
def test_remembered_ids_are_known_for_their_time_and_no_less(
    plan: list[tuple[int, int]],
) -> None:
    remembered = Remembered()
    twin: dict[bytes, tuple[int, int, int]] = {}
    now_ms = 1_000_000
    for number, (choice, at) in enumerate(plan, start=1):
        if choice < 6:
            # Clocks of clients differ, and an id may end twice.
            job_id = make_job_id(now_ms - 500 + at % 1_000, 1, (at % 40).to_bytes(8, "big"))
            remembered.add(job_id, number, 5 + at % 3, now_ms)
            twin[job_id] = (number, 5 + at % 3, now_ms)
        elif choice < 9:
            now_ms += at % 8_000
        else:
            before_ms = now_ms - 20_000
            count = remembered.ended_by(before_ms, 1_000)
            remembered.forget(count)

        for job_id, (token, state, ended_at_ms) in twin.items():
            found = remembered.get(job_id)
            if ended_at_ms > now_ms - 20_000:
                assert found is not None
            if found is not None and found.token == token:
                assert found.state == state
    loaded = Remembered()
    for row in remembered.rows():
        loaded.load(row)

    assert loaded.rows() == remembered.rows()
    assert len(loaded) == len(remembered)


@given(steps)
def test_start_by_takes_each_late_job_once(plan: list[tuple[int, int]]) -> None:
    jobs: Table[Job] = Table()
    watch = StartBys(jobs)
    twin: dict[bytes, int] = {}
    now_ms = 0
    for number, (choice, at) in enumerate(plan, start=1):
        if choice < 5 or not twin:
            job = job_of(number)
            job.cold = encode_cold(Cold(extra=JobExtra(start_by_ms=1 + now_ms + at % 30)))
            jobs.put(job.job_id, job)
            watch.watch(job)
            twin[job.job_id] = 1 + now_ms + at % 30
        else:
            job_id = sorted(twin)[at % len(twin)]
            found: Any = jobs.get(job_id)
            if choice < 7:  # leased and given back: it has two entries now
                found.state = LEASED
                watch.next_at_ms()
                found.state = READY
                watch.watch(found)
            elif choice < 8:  # it has started once: nothing binds it any more
                found.attempt = 1
                del twin[job_id]
            else:
                now_ms += at % 20
                late = watch.take_late(now_ms, 1_000)
                due = {job_id for job_id, at_ms in twin.items() if at_ms <= now_ms}
                assert sorted(late) == sorted(due)
                for gone in late:
                    jobs.remove(gone)
                    del twin[gone]


def test_walk_shows_what_stood_in_the_shard_that_it_is_walking() -> None:
    table: Table[list[int]] = Table()
    for number in range(4):
        table.put(bytes([number, 7]), [number])
    walk = table.begin_walk(lambda key, value: value[0])
    rows = walk.next_rows(1)
    for number in range(4):
        key = bytes([number, 7])
        table.touch(key)
        value = table.get(key)
        assert value is not None
        value[0] = 99
    while found := walk.next_rows(1):
        rows += found

    assert sorted(rows) == [0, 1, 2, 3]


def test_ids_of_wrong_clocks_are_looked_for_in_few_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """One client an hour ahead makes every slice a candidate for every new job."""
    monkeypatch.setattr(remembered_module, "SLICE_IDS", 64)
    remembered = Remembered()
    now_ms = 1_700_000_000_000
    dice = random.Random(1)
    known = []
    for number in range(64 * 200):
        ahead_ms = 3_600_000 if number % 64 == 0 else 0
        known.append(make_job_id(now_ms + number // 64 + ahead_ms, 1, dice.randbytes(8)))
        remembered.add(known[-1], number, 5, now_ms + number // 64)
    searched = 0
    find = Slice.find

    def counting(self: Slice, job_id: bytes) -> Remembrance | None:
        nonlocal searched
        searched += 1
        return find(self, job_id)

    monkeypatch.setattr(Slice, "find", counting)
    for round_no in range(2):
        searched = 0
        for _ in range(400):
            assert remembered.get(make_job_id(now_ms + 190, 1, dice.randbytes(8))) is None
        assert searched < 400 * 200 if round_no == 0 else searched < 400

    for number, job_id in enumerate(known):
        found = remembered.get(job_id)
        assert found is not None
        assert found.token == number


def test_table_counts_what_it_holds() -> None:
    table: Table[int] = Table()
    for number in range(1_000):
        table.put(number.to_bytes(2, "big"), number)

    assert len(table) == 1_000
    assert all(table.get(number.to_bytes(2, "big")) == number for number in range(1_000))


def test_second_snapshot_is_refused_while_one_is_under_way() -> None:
    story = Story()
    story.enqueue(3)
    walk = story.engine.begin_snapshot()
    with pytest.raises(InvariantViolated, match="one snapshot"):
        story.engine.begin_snapshot()
    before = story.engine.digest()
    walk.next_rows(2)
    walk.cancel()

    rows = 0
    walk = story.engine.begin_snapshot()
    while found := walk.next_rows(2):
        rows += len(found)
    walk.cancel()

    assert rows == 3 + 2
    assert story.engine.digest() == before
