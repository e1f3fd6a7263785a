"""Slots: how many run, what is announced when, deadlines, stops and stuck handlers."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from headrace.client import slots as slots_module
from headrace.client.held import RESERVED, SETTLED, STARTED, HeldJob
from headrace.client.running import Handler
from headrace.client.slots import STOP_CANCEL, STOP_DRAIN, STOP_TIMEOUT, Slot, Slots
from headrace.model.replies import PushedGroup, PushedJob

Run = Callable[[int], Awaitable[None]]
PROCESS_JOB = 1_000
"""Jobs from this number on need a process, where a bench has any."""


def held(number: int, timeout_ms: int = 0) -> HeldJob:
    group = PushedGroup(number, "q", "k", "application/json", timeout_ms, 3, [])
    pushed = PushedJob(number.to_bytes(16, "big"), 1, b"")
    return HeldJob(pushed, group, cast(Handler, None))


class Bench:
    """Slots around handlers that are given by number, and everything they did."""

    def __init__(self, concurrency: int, run: Run, process_count: int = 0) -> None:
        self.announced: list[list[int]] = []
        self.ran: list[int] = []
        self.stops: list[str] = []
        self.overrun: list[tuple[int, str]] = []
        self.running = 0
        self.running_max = 0
        self._run = run
        self.slots = Slots(
            concurrency,
            self._attempt,
            self._announce,
            self._note_overrun,
            needs_process=lambda job: process_count > 0 and job.token >= PROCESS_JOB,
            process_count=process_count,
        )

    def add(self, *numbers: int, timeout_ms: int = 0) -> list[HeldJob]:
        jobs = [held(number, timeout_ms) for number in numbers]
        self.slots.add(jobs)
        return jobs

    async def _attempt(self, job: HeldJob, slot: Slot) -> None:
        assert job.token in {number for chunk in self.announced for number in chunk}
        self.running += 1
        self.running_max = max(self.running_max, self.running)
        try:
            await self._run(job.token)
        except asyncio.CancelledError:
            assert slot.task is not None
            slot.task.uncancel()
            self.stops.append(slot.stopped_by)
        finally:
            self.running -= 1
            self.ran.append(job.token)

    def _announce(self, jobs: list[HeldJob]) -> None:
        assert all(job.state == STARTED for job in jobs)
        self.announced.append([job.token for job in jobs])

    def _note_overrun(self, job: HeldJob, stopped_by: str) -> None:
        self.overrun.append((job.token, stopped_by))


@asynccontextmanager
async def bench(concurrency: int, run: Run, process_count: int = 0) -> AsyncIterator[Bench]:
    made = Bench(concurrency, run, process_count)
    try:
        yield made
    finally:
        await made.slots.close()


async def noop(number: int) -> None:
    pass


async def passes(count: int = 20) -> None:
    """The loop has gone round so often."""
    for _ in range(count):
        await asyncio.sleep(0)


async def test_jobs_run_in_the_order_they_came() -> None:
    async with bench(100, noop) as b:
        b.add(*range(1_000))
        await passes(100)

        assert b.ran == list(range(1_000))


async def test_jobs_that_end_at_once_share_one_runner_and_one_announcement() -> None:
    async with bench(100, noop) as b:
        b.add(*range(64))
        await passes()

        assert b.announced == [list(range(64))]
        assert len(b.slots._slots) <= 3


async def test_at_most_concurrency_handlers_run() -> None:
    async def waits(number: int) -> None:
        await passes(3)

    async with bench(7, waits) as b:
        b.add(*range(50))
        await passes(200)

        assert sorted(b.ran) == list(range(50))
        assert b.running_max == 7


async def test_no_more_jobs_are_announced_than_can_start() -> None:
    go_on = asyncio.Event()

    async def waits(number: int) -> None:
        await go_on.wait()

    async with bench(3, waits) as b:
        jobs = b.add(*range(5))
        await passes()

        assert b.announced == [[0, 1, 2]]
        assert [job.state for job in jobs[3:]] == [RESERVED, RESERVED]
        go_on.set()
        await passes()
        assert sorted(b.ran) == list(range(5))


async def test_job_that_was_given_back_while_it_waited_is_passed_over() -> None:
    async with bench(2, noop) as b:
        jobs = b.add(1, 2, 3)
        jobs[1].state = SETTLED
        await passes()

        assert b.ran == [1, 3]


async def test_job_that_is_settled_between_its_announcement_and_its_start_never_runs() -> None:
    async with bench(10, noop) as b:
        [job] = b.add(1)
        while not b.announced:
            await asyncio.sleep(0)
        job.state = SETTLED
        await passes()

        assert b.ran == []


async def test_deadline_stops_the_handler_and_the_slot_goes_on() -> None:
    async def endless(number: int) -> None:
        if number == 1:
            await asyncio.Event().wait()

    async with bench(1, endless) as b:
        b.add(1, timeout_ms=20)
        b.add(2)
        async with asyncio.timeout(5):
            while b.ran != [1, 2]:
                await asyncio.sleep(0.005)

        assert b.stops == [STOP_TIMEOUT]


async def test_earlier_deadline_of_a_later_job_is_kept() -> None:
    never = asyncio.Event()

    async def endless(number: int) -> None:
        await never.wait()

    async with bench(2, endless) as b:
        b.add(1, timeout_ms=60_000)
        b.add(2, timeout_ms=20)
        async with asyncio.timeout(5):
            while b.ran != [2]:
                await asyncio.sleep(0.005)


async def test_handler_that_does_not_stop_is_overrun_until_it_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(slots_module, "KILL_AFTER_MS", 20)
    let_go = asyncio.Event()

    async def stubborn(number: int) -> None:
        while not let_go.is_set():
            try:
                await let_go.wait()
            except asyncio.CancelledError:
                continue

    async with bench(1, stubborn) as b:
        b.add(1, timeout_ms=10)
        async with asyncio.timeout(5):
            while b.slots.stuck_count == 0:
                await asyncio.sleep(0.005)
        assert b.overrun == [(1, STOP_TIMEOUT)]
        await asyncio.wait_for(b.slots.empty(), 1)  # a drain does not wait for it
        assert b.slots.busy_count == 1  # but its slot is taken

        let_go.set()
        await passes()
        assert (b.slots.stuck_count, b.slots.busy_count) == (0, 0)


async def test_stop_is_for_the_job_that_runs_and_for_no_other() -> None:
    async def waits(number: int) -> None:
        await asyncio.Event().wait()

    async with bench(2, waits) as b:
        first, second = b.add(1, 2)
        await passes()

        assert b.slots.stop(first, STOP_CANCEL)
        await passes()

        assert (b.ran, b.stops) == ([1], [STOP_CANCEL])
        assert not b.slots.stop(first, STOP_CANCEL)
        assert b.slots.stop(second, STOP_CANCEL)


async def test_drain_gives_back_what_has_not_started() -> None:
    go_on = asyncio.Event()

    async def waits(number: int) -> None:
        await go_on.wait()

    async with bench(1, waits) as b:
        jobs = b.add(1, 2, 3)
        await passes()

        assert b.slots.drain() == jobs[1:]
        b.add(4)
        go_on.set()
        await asyncio.wait_for(b.slots.empty(), 5)
        await passes()
        assert b.ran == [1]


async def test_close_lets_handlers_clean_up() -> None:
    started, cleaned = asyncio.Event(), []

    async def cleans_up(number: int) -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            await passes(200)
            cleaned.append(number)

    async with bench(1, cleans_up) as b:
        b.add(1)
        await started.wait()

    assert (cleaned, b.stops) == ([1], [STOP_DRAIN])


async def test_each_job_begins_in_the_context_of_the_worker() -> None:
    variable: contextvars.ContextVar[int] = contextvars.ContextVar("variable", default=0)
    seen: list[int] = []

    async def sets(number: int) -> None:
        seen.append(variable.get())
        variable.set(number)

    async with bench(1, sets) as b:
        b.add(1, 2, 3)
        await passes()

    assert seen == [0, 0, 0]


async def test_handler_that_cancels_its_own_task_does_not_end_the_slot() -> None:
    async def cancels_itself(number: int) -> None:
        task: Any = asyncio.current_task()
        task.cancel()

    async with bench(1, cancels_itself) as b:
        b.add(1)
        await passes()
        b.add(2)
        await passes()

        assert b.ran == [1, 2]


async def test_slots_give_the_loop_back_between_chunks() -> None:
    turns = 0

    async def counts_turns() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    async with bench(100, noop) as b:
        counting = asyncio.create_task(counts_turns())
        b.add(*range(6_400))
        while len(b.ran) < 6_400:
            await asyncio.sleep(0)
        counting.cancel()

    assert turns >= 100


async def test_drain_between_announcement_and_start_leaves_nothing_to_wait_for() -> None:
    async with bench(4, noop) as b:
        jobs = b.add(1, 2)
        while not b.announced:
            await asyncio.sleep(0)

        assert b.slots.drain() == jobs
        await asyncio.wait_for(b.slots.empty(), 5)
        assert b.ran == []


async def test_handler_that_swallows_its_stop_leaves_nothing_to_the_next_one() -> None:
    running = asyncio.Event()
    cancels_left: list[int] = []

    async def swallows(number: int) -> None:
        task: Any = asyncio.current_task()
        if number == 2:
            cancels_left.append(task.cancelling())
            return
        running.set()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()

    async with bench(1, swallows) as b:
        (first,) = b.add(1)
        await running.wait()
        assert b.slots.stop(first, STOP_CANCEL)
        b.add(2)
        await passes()

    assert cancels_left == [0]


async def test_jobs_given_back_while_every_slot_is_stuck_do_not_pile_up() -> None:
    running, end = asyncio.Event(), asyncio.Event()

    async def sticks(number: int) -> None:
        running.set()
        await end.wait()

    async with bench(1, sticks) as b:
        b.add(0)
        await running.wait()
        last: list[HeldJob] = []
        for number in range(1, 20_001):
            last = b.add(2 * number, 2 * number + 1)
            last[0].state = SETTLED  # one of them stands behind it
            for job in b.slots.last_waiting(2)[1:]:
                job.state = SETTLED
        kept = len(b.slots._waiting)
        end.set()
        await passes()

    assert kept <= 2_000
    assert b.ran == [0, last[1].token]


async def test_job_that_needs_a_process_starts_when_one_is_free_and_holds_up_no_other() -> None:
    ends = {number: asyncio.Event() for number in (1, 1_000, 1_001, 1_002)}

    async def waits(number: int) -> None:
        await ends[number].wait()

    async with bench(10, waits, process_count=1) as b:
        first, second, third, other = b.add(1_000, 1_001, 1_002, 1)
        await passes()
        assert b.announced == [[1_000, 1]]
        assert b.slots.last_waiting(5) == [third, second]

        second.state = SETTLED
        ends[1_000].set()
        await passes()
        assert b.announced == [[1_000, 1], [1_002]]
        assert b.ran == [1_000]

        b.add(1_001)
        await passes()
        assert [job.token for job in b.slots.drain()] == [1_001]
        for end in ends.values():
            end.set()
        await asyncio.wait_for(b.slots.empty(), 5)
        assert (first.state, other.state, third.state) == (STARTED,) * 3
