"""The real I/O thread: hand-off, delivery exactly once, and its end."""

from __future__ import annotations

import asyncio
import errno
import select
import threading
from collections.abc import Iterator

import pytest

from headrace.model.env import Env, IoThread
from headrace.model.errors import InvariantViolated
from headrace.runtime.env import real_env

WAIT_S = 10.0
"""Only a hung test waits this long."""


@pytest.fixture
def env() -> Env:
    return real_env()


class Outcomes:
    """Collects what `done` was given, and tells the loop's tests when it came."""

    def __init__(self) -> None:
        self.seen: list[tuple[object, BaseException | None]] = []
        self.came = asyncio.Event()

    def __call__(self, result: object, error: BaseException | None) -> None:
        self.seen.append((result, error))
        self.came.set()


@pytest.fixture
async def io(env: Env) -> Iterator[IoThread]:  # type: ignore[misc]
    thread = env.threads.io_thread("test-io", asyncio.get_running_loop())
    yield thread
    thread.close()


async def wait_for(event: asyncio.Event) -> None:
    await asyncio.wait_for(event.wait(), WAIT_S)


async def test_call_runs_on_its_thread_and_done_on_the_loop(io: IoThread) -> None:
    outcomes = Outcomes()
    delivered_on: list[str] = []

    def done(result: str | None, error: BaseException | None) -> None:
        delivered_on.append(threading.current_thread().name)
        outcomes(result, error)

    io.submit(lambda: threading.current_thread().name, done)
    await wait_for(outcomes.came)

    assert outcomes.seen == [("test-io", None)]
    assert delivered_on == [threading.current_thread().name]


async def test_error_of_a_call_is_handed_to_done(io: IoThread) -> None:
    outcomes = Outcomes()
    failure = OSError(errno.EIO, "disk")

    def call() -> None:
        raise failure

    io.submit(call, outcomes)
    await wait_for(outcomes.came)
    assert outcomes.seen == [(None, failure)]


async def test_submit_returns_once_the_thread_has_the_call(io: IoThread) -> None:
    started, go_on = threading.Event(), threading.Event()

    def call() -> int:
        started.set()
        assert go_on.wait(WAIT_S)
        return 7

    outcomes = Outcomes()
    io.submit(call, outcomes)
    assert started.wait(WAIT_S)
    io.give_way()
    assert outcomes.seen == []
    with pytest.raises(InvariantViolated):
        io.submit(call, outcomes)
    go_on.set()
    await wait_for(outcomes.came)
    assert outcomes.seen == [(7, None)]


async def test_give_way_delivers_without_the_loop_turning(io: IoThread) -> None:
    outcomes = Outcomes()
    io.submit(lambda: 1, outcomes)
    while not outcomes.seen:
        io.give_way()
    assert outcomes.seen == [(1, None)]


async def test_late_callback_of_one_call_does_not_end_the_next(io: IoThread) -> None:
    """`give_way` wins the first race; its scheduled callback then meets call two."""
    first, second = Outcomes(), Outcomes()
    go_on = threading.Event()
    io.submit(lambda: 1, first)
    while not first.seen:
        io.give_way()
    io.submit(lambda: go_on.wait(WAIT_S), second)
    for _ in range(10):
        await asyncio.sleep(0)
    assert second.seen == []
    go_on.set()
    await wait_for(second.came)

    assert first.seen == [(1, None)]
    assert second.seen == [(True, None)]


async def test_each_of_many_calls_is_done_once_in_order(io: IoThread) -> None:
    seen: list[int] = []
    finished = asyncio.Event()

    def submit(number: int) -> None:
        def done(result: int | None, error: BaseException | None) -> None:
            assert error is None
            assert result == number
            seen.append(number)
            if number == 2_000:
                finished.set()
            else:
                submit(number + 1)

        io.submit(lambda: number, done)

    submit(1)
    while not finished.is_set():
        io.give_way()
        await asyncio.sleep(0)
    assert seen == list(range(1, 2_001))


async def test_close_waits_for_the_call_and_delivers_it(env: Env) -> None:
    thread = env.threads.io_thread("closing", asyncio.get_running_loop())
    outcomes = Outcomes()
    go_on = threading.Event()
    thread.submit(lambda: go_on.wait(WAIT_S), outcomes)
    threading.Timer(0.01, go_on.set).start()
    thread.close()
    thread.close()

    assert outcomes.seen == [(True, None)]
    assert "closing" not in [thread.name for thread in threading.enumerate()]
    with pytest.raises(InvariantViolated):
        thread.submit(lambda: None, outcomes)
    await asyncio.sleep(0)
    assert len(outcomes.seen) == 1


def test_close_after_the_loop_is_closed_still_ends_the_thread(env: Env) -> None:
    loop = asyncio.new_event_loop()
    thread = env.threads.io_thread("orphan", loop)
    seen: list[object] = []
    loop.close()
    thread.submit(lambda: 5, lambda result, error: seen.append((result, error)))
    thread.close()
    assert seen == [(5, None)]


def test_started_thread_can_be_joined_with_a_deadline(env: Env) -> None:
    go_on = threading.Event()
    join = env.threads.start("background", lambda: (go_on.wait(WAIT_S), None)[1])
    assert not join(0.001)
    go_on.set()
    assert join(WAIT_S)


async def test_busy_loop_does_not_starve_the_thread(io: IoThread) -> None:
    """A call that blocks four times wants the interpreter back four times. With the hand-off
    it gets it within a turn or two, without it only after a switch interval of 5 ms."""
    written = Outcomes()
    turns = 0

    def block() -> None:
        for _ in range(4):
            select.select([], [], [], 0.0002)

    for commit in range(1, 31):
        io.submit(block, written)
        while len(written.seen) < commit:
            for _ in range(10_000):
                pass
            turns += 1
            io.give_way()

    assert turns < 30 * 40
