"""The threads of one simulated process: event loops of its own, and I/O threads.

Must never wait for another thread: there is only one real one, which is this.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from headrace.testing.sim_disk import SimCrash
from headrace.testing.sim_loop import SimThread, SimThreadLoop

if TYPE_CHECKING:
    from headrace.testing.sim_process import SimProcess

T = TypeVar("T")

CALLS_AFTER_DEATH_MAX = 3
"""System calls of the I/O under way that the kernel may still finish for a dead process."""


class ProcessThreads:
    """`Threads` of one process."""

    def __init__(self, process: SimProcess) -> None:
        self._process = process
        self.loops: list[SimThreadLoop] = []
        """Of its threads that have not ended, the main one first."""
        self.blocked: dict[SimThreadLoop, float] = {}
        """Until when."""
        self.io_by_name: dict[str, ProcessIoThread] = {}
        """The newest of each name."""

    def new_loop(self, name: str) -> SimThreadLoop:
        loop = self._process.machine.loop.thread(name)
        loop.set_exception_handler(self._process.note_error)
        if self._process.paused:
            loop.hold()
        self.loops.append(loop)
        return loop

    def end_loop(self, loop: SimThreadLoop) -> None:
        loop.end()
        self.blocked.pop(loop, None)
        if loop in self.loops:
            self.loops.remove(loop)

    def finish_some_calls(self) -> None:
        """The process died: the system calls of an I/O call under way may still happen."""
        process = self._process
        for thread in self.io_by_name.values():
            call = thread.interrupted()
            if call is not None:
                process.disk.calls_left = process.draw.randint(0, CALLS_AFTER_DEATH_MAX)
                try:
                    call()
                except (Exception, SimCrash):
                    continue

    def io_thread(self, name: str, loop: asyncio.AbstractEventLoop) -> ProcessIoThread:
        thread = ProcessIoThread(self._process, name, loop)
        self.io_by_name[name] = thread
        return thread

    def loop_thread(self, name: str) -> SimLoopThread:
        return SimLoopThread(self._process, self.new_loop(name))

    def start(self, name: str, target: Callable[[], None]) -> NoReturn:
        raise NotImplementedError(f"{name}: a thread that blocks cannot be simulated")


class ProcessIoThread(SimThread):
    """An I/O thread on a loop of its own: a blocked owner does not keep it from its work."""

    def __init__(self, process: SimProcess, name: str, owner: asyncio.AbstractEventLoop) -> None:
        self._own_loop = process.threads.new_loop(name)
        super().__init__(self._own_loop, process.draw)
        self._process = process
        self._owner = owner
        self._undelivered: Callable[[], None] | None = None

    @property
    def busy(self) -> bool:
        return super().busy or self._undelivered is not None

    def close(self) -> None:
        super().close()
        self._deliver()
        self._process.threads.end_loop(self._own_loop)

    def _start(self) -> None:
        self.latency_s = self._process.machine.io_latency_s
        super()._start()

    def _end(self) -> None:
        assert self._call is not None
        (call, done), self._call = self._call, None
        self._timer = None
        result: Any = None
        failure: Exception | None = None
        try:
            result = call()
        except Exception as error:
            failure = error
        self._undelivered = functools.partial(done, result, failure)
        self._owner.call_soon(self._deliver)

    def _deliver(self) -> None:
        deliver, self._undelivered = self._undelivered, None
        if deliver is not None:
            deliver()


class SimLoopThread:
    """A thread with an event loop; the contract is in `headrace.model.env.LoopThread`."""

    def __init__(self, process: SimProcess, loop: SimThreadLoop) -> None:
        self.loop = loop
        self._process = process
        self._stopped = False

    @property
    def is_current(self) -> bool:
        return self.loop.is_current

    def call(self, callback: Callable[[], object]) -> None:
        if not self._stopped:
            self.loop.call_soon(callback)

    def submit(self, coroutine: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        future: _Submitted[T] = _Submitted()
        if self._stopped:
            coroutine.close()
            future.cancel()
            return future
        task = self.loop.create_task(coroutine)
        task.add_done_callback(future.take_over)
        future.add_done_callback(lambda _: self._cancel(task, future))
        return future

    def stop(self, timeout_s: float = 0.0) -> None:
        """Never waits: a simulated thread that did would wait for itself."""
        if not self._stopped:
            self._stopped = True
            self.loop.call_soon(self._cancel_all)

    def _cancel(self, task: asyncio.Task[T], future: _Submitted[T]) -> None:
        if future.cancelled() and not task.done():
            self.loop.call_soon(task.cancel)

    def _cancel_all(self) -> None:
        tasks = self.loop.tasks()
        for task in tasks:
            task.cancel()
        if tasks:
            gathered = asyncio.gather(*tasks, return_exceptions=True)
            gathered.add_done_callback(lambda _: self._finish())
        else:
            self._finish()

    def _finish(self) -> None:
        self._process.network.close_all_of(self.loop)
        self._process.threads.end_loop(self.loop)


class _Submitted(concurrent.futures.Future[T]):
    """The future of a coroutine on another simulated thread: nobody may block for it."""

    def take_over(self, task: asyncio.Task[T]) -> None:
        if self.cancelled():
            return
        if task.cancelled():
            self.cancel()
        elif (error := task.exception()) is not None:
            self.set_exception(error)
        else:
            self.set_result(task.result())

    def result(self, timeout: float | None = None) -> T:
        self._must_be_done()
        return super().result(timeout)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        self._must_be_done()
        return super().exception(timeout)

    def _must_be_done(self) -> None:
        if not self.done():
            raise RuntimeError("simulated code waits for another thread by blocking its own")
