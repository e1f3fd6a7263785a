"""A thread with an event loop of its own: whoever waits for it is told how it ended."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Iterator

import pytest

from headrace.model.env import LoopThread
from headrace.runtime.env import real_env

WAIT_S = 10.0
"""Only a hung test waits this long."""


@pytest.fixture
def thread() -> Iterator[LoopThread]:
    made = real_env().threads.loop_thread("test-loop")
    yield made
    made.stop(WAIT_S)


async def name_of_thread() -> str:
    await asyncio.sleep(0)
    return threading.current_thread().name


async def for_ever(began: threading.Event) -> None:
    began.set()
    await asyncio.Event().wait()


def test_coroutine_runs_on_the_thread_and_its_future_has_the_result(thread: LoopThread) -> None:
    assert thread.submit(name_of_thread()).result(WAIT_S) == "test-loop"


def test_error_of_a_coroutine_is_that_of_its_future(thread: LoopThread) -> None:
    async def fail() -> None:
        raise KeyError("gone")

    with pytest.raises(KeyError, match="gone"):
        thread.submit(fail()).result(WAIT_S)


async def test_loop_of_the_caller_can_await_the_future(thread: LoopThread) -> None:
    assert await asyncio.wrap_future(thread.submit(name_of_thread())) == "test-loop"


def test_calls_run_in_their_order(thread: LoopThread) -> None:
    seen: list[int] = []
    for number in range(100):
        thread.call(lambda number=number: seen.append(number))
    thread.submit(asyncio.sleep(0)).result(WAIT_S)

    assert seen == list(range(100))


def test_thread_knows_itself(thread: LoopThread) -> None:
    async def here() -> bool:
        return thread.is_current

    assert thread.submit(here()).result(WAIT_S)
    assert not thread.is_current


def test_cancelled_future_cancels_its_coroutine(thread: LoopThread) -> None:
    began, cancelled = threading.Event(), threading.Event()

    async def wait() -> None:
        try:
            await for_ever(began)
        finally:
            cancelled.set()

    future = thread.submit(wait())
    assert began.wait(WAIT_S)
    future.cancel()
    assert cancelled.wait(WAIT_S)


def test_what_runs_or_comes_when_the_loop_ends_is_cancelled(thread: LoopThread) -> None:
    began = threading.Event()
    running = thread.submit(for_ever(began))
    assert began.wait(WAIT_S)
    thread.stop(WAIT_S)
    late = thread.submit(name_of_thread())
    thread.call(lambda: pytest.fail("a stopped loop runs nothing"))

    for future in (running, late):
        with pytest.raises(concurrent.futures.CancelledError):
            future.result(WAIT_S)


def test_future_that_was_submitted_just_before_the_end_is_decided() -> None:
    for _ in range(50):
        made = real_env().threads.loop_thread("test-loop")
        future = made.submit(for_ever(threading.Event()))
        made.stop()
        with pytest.raises(concurrent.futures.CancelledError):
            future.result(WAIT_S)


def test_loop_may_stop_itself() -> None:
    made = real_env().threads.loop_thread("test-loop")
    ended = made.submit(name_of_thread())
    ended.add_done_callback(lambda _: made.stop(WAIT_S))

    assert ended.result(WAIT_S) == "test-loop"
    made.stop(WAIT_S)
