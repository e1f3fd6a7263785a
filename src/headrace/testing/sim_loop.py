"""Event loops whose time is simulated, and I/O threads that live on them.

Theory. One agenda holds what is to happen, of all simulated threads, in order of time. When
nothing is ready it does not sleep but moves the clock to the next timer. So a test of an
hour takes as long as its callbacks, no test waits for anything, and the same seed gives the
same run.

`SimLoop` is the loop that a test runs. `SimLoop.thread(name)` gives further loops that have
no run of their own: their callbacks run from the same agenda, with that loop as the running
one, as on a thread of theirs. A thread can be stopped: what becomes ready for it then is kept
in order, and runs when it goes on, or never. Whatever belongs to a thread that never goes on
is kept until the end, so that no collector runs code of the dead.

`SimThread` stands for an I/O thread: a call takes simulated time, during which the loop
goes on, and it can be held for as long as a test likes.

Must never make a system call, start a thread or read a real clock.
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
import random
import weakref
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn, TypeVar, TypeVarTuple, Unpack

from headrace.model.errors import invariant
from headrace.testing.sim_disk import SimCrash, SimDisk
from headrace.testing.sim_env import SimEntropy, SimHost

T = TypeVar("T")
Args = TypeVarTuple("Args")

NS_PER_S = 1_000_000_000
_START_WALL_MS = 1_767_225_600_000
_START_MONO_S = 1_000.0
_LATENCY_S = 0.0005
_PURGE_TIMERS_MIN = 256
_PASSES_AT_ONE_TIME_MAX = 100_000
"""So many rounds without any time passing are an endless loop."""

_Ready = tuple["SimThreadLoop", asyncio.Handle]


class _Agenda:
    """What is to happen, of all threads: now in order, later by time and then in order."""

    def __init__(self) -> None:
        self.now_s = _START_MONO_S
        self.ready: deque[_Ready] = deque()
        self.current: SimThreadLoop | None = None
        """The thread whose callback runs, or ran last."""
        self._timers: list[tuple[float, int, SimThreadLoop, asyncio.Handle]] = []
        self._timer_count = 0
        self._cancelled_count = 0
        self._passes_at_this_time = 0

    def add_timer(self, when_s: float, thread: SimThreadLoop, handle: asyncio.Handle) -> None:
        self._timer_count += 1
        heapq.heappush(self._timers, (when_s, self._timer_count, thread, handle))

    def note_cancelled(self) -> None:
        """Memory of cancelled timers is given back once they are the most of all."""
        self._cancelled_count += 1
        if self._cancelled_count > _PURGE_TIMERS_MIN + len(self._timers) // 2:
            self._timers = [timer for timer in self._timers if not timer[3].cancelled()]
            heapq.heapify(self._timers)
            self._cancelled_count = 0

    def collect(self) -> None:
        """Something is ready, at the earliest time at which anything is."""
        timers = self._timers
        while timers and timers[0][3].cancelled():
            heapq.heappop(timers)
        if self.ready:
            self._passes_at_this_time += 1
            if self._passes_at_this_time > _PASSES_AT_ONE_TIME_MAX:
                raise RuntimeError("time stands still: callbacks call each other for ever")
        elif not timers:
            raise RuntimeError("nothing is left that could ever happen: a test waits in vain")
        elif timers[0][0] > self.now_s:
            self.now_s = timers[0][0]
            self._passes_at_this_time = 0
        while timers and timers[0][0] <= self.now_s:
            _, _, thread, handle = heapq.heappop(timers)
            self.ready.append((thread, handle))

    def run_ready(self) -> None:
        """Everything that is ready now ran once, or waits until its thread goes on."""
        ready = self.ready
        for _ in range(len(ready)):
            thread, handle = ready.popleft()
            if handle.cancelled():
                continue
            if thread.is_stopped:
                thread.parked.append(handle)
                continue
            if thread is not self.current:
                self.current = thread
                asyncio._set_running_loop(thread)
            handle._run()


class SimThreadLoop(asyncio.BaseEventLoop):
    """The event loop of one simulated thread."""

    def __init__(self, name: str, agenda: _Agenda) -> None:
        self._ended = False
        super().__init__()
        self.name = name
        self.is_stopped = False
        """Nothing runs on it for now."""
        self.parked: list[asyncio.Handle] = []
        """What became ready while it was stopped."""
        self._agenda = agenda
        self._kept: list[asyncio.Task[Any]] = []
        self._task_count = 0
        self._task_numbers: weakref.WeakKeyDictionary[asyncio.Task[Any], int] = (
            weakref.WeakKeyDictionary()
        )

    # --- stopping

    def hold(self) -> None:
        """Nothing runs on it any more, until `go_on`."""
        self.is_stopped = True

    def go_on(self) -> None:
        """What was missed runs in order, first what was ready or read, then what timed out:
        so does a loop whose process was stopped."""
        if self._ended or not self.is_stopped:
            return
        self.is_stopped = False
        missed, self.parked = self.parked, []
        missed.sort(key=lambda handle: isinstance(handle, asyncio.TimerHandle))
        self._agenda.ready.extendleft((self, handle) for handle in reversed(missed))

    def end(self) -> None:
        """Nothing will ever run on it again; nothing of it is collected before `bury`."""
        if not self._ended:
            self.is_stopped = self._ended = True
            self._kept = self.tasks()

    def bury(self) -> None:
        """Its tasks are gone, with what they wanted to do last, and without a word."""
        self.end()
        super().close()
        for task in self._kept:
            _close_coroutine(task)
        self._kept.clear()
        self.parked.clear()

    @property
    def has_ended(self) -> bool:
        return self._ended

    @property
    def is_current(self) -> bool:
        """Its code runs now."""
        return self._agenda.current is self

    def tasks(self) -> list[asyncio.Task[Any]]:
        """That have not ended, oldest first."""
        return sorted(asyncio.all_tasks(self), key=lambda task: self._task_numbers.get(task, 0))

    # --- what asyncio and callers use

    def time(self) -> float:
        return self._agenda.now_s

    def call_soon(
        self,
        callback: Callable[[Unpack[Args]], object],
        *args: *Args,
        context: contextvars.Context | None = None,
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._agenda.ready.append((self, handle))
        return handle

    call_soon_threadsafe = call_soon

    def call_at(
        self,
        when: float,
        callback: Callable[[Unpack[Args]], object],
        *args: *Args,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        self._agenda.add_timer(when, self, handle)
        return handle

    def call_io_at(self, when: float, callback: Callable[[], None]) -> None:
        """As `call_at`, for what a socket would bring: it comes before what timed out."""
        self._agenda.add_timer(when, self, asyncio.Handle(callback, (), self, None))

    def create_task(self, coro: Any, **options: Any) -> asyncio.Task[Any]:
        if self._ended:
            coro.close()
            raise RuntimeError("Event loop is closed")
        task: asyncio.Task[Any] = super().create_task(coro, **options)
        self._task_count += 1
        self._task_numbers[task] = self._task_count
        return task

    def is_closed(self) -> bool:
        return self._ended or super().is_closed()

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if not self._ended:
            super().call_exception_handler(context)

    def run_in_executor(
        self, executor: object, func: Callable[[Unpack[Args]], T], *args: *Args
    ) -> NoReturn:
        raise NotImplementedError(
            f"{func!r} wants a real thread, which a simulated one cannot wait for"
        )

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        self._agenda.note_cancelled()


class SimLoop(SimThreadLoop):
    """A loop that is never idle: when nothing is ready it is the time of the next timer."""

    def __init__(self) -> None:
        super().__init__("test", _Agenda())
        self._threads: list[SimThreadLoop] = []

    def thread(self, name: str) -> SimThreadLoop:
        """A further loop on the same agenda, for as long as this one lives."""
        thread = SimThreadLoop(name, self._agenda)
        self._threads.append(thread)
        return thread

    def sleep_through(self, duration_s: float) -> None:
        """The process stands still: time passes, and no callback has run in it."""
        self._agenda.now_s += duration_s

    def run_forever(self) -> None:
        self._agenda.current = self
        super().run_forever()

    def close(self) -> None:
        """Nothing of any thread is left, of this one neither."""
        for thread in (self, *self._threads):
            thread.bury()
        self._threads.clear()
        self._agenda.ready.clear()

    def _run_once(self) -> None:
        self._agenda.collect()
        self._agenda.run_ready()


def _close_coroutine(task: asyncio.Task[Any]) -> None:
    """It is closed, even if it awaits something in its `finally`."""
    coroutine: Any = task.get_coro()
    for _ in range(100):
        try:
            coroutine.close()
        except (Exception, SimCrash, asyncio.CancelledError):
            continue
        return


class SimLoopClock:
    """The three clocks of one time; suspends and wall jumps are added to it."""

    def __init__(self, now_s: Callable[[], float]) -> None:
        self._now_s = now_s
        self._start_s = now_s()
        self.wall_shift_ms = 0
        """How far the wall clock has been set forward, or back."""
        self.suspended_ms = 0
        """How long the machine slept: wall and boot time ran on, monotonic time did not."""

    def wall_ms(self) -> int:
        since_start_ms = int((self._now_s() - self._start_s) * 1000)
        return _START_WALL_MS + since_start_ms + self.suspended_ms + self.wall_shift_ms

    def mono_ns(self) -> int:
        return int(self._now_s() * NS_PER_S)

    def boot_ns(self) -> int:
        return self.mono_ns() + self.suspended_ms * 1_000_000


class SimThread:
    """One I/O thread: calls take effect when they end, `latency_s` after they were taken."""

    def __init__(self, loop: asyncio.AbstractEventLoop, draw: random.Random) -> None:
        self._loop = loop
        self._draw = draw
        self._call: tuple[Callable[[], Any], Callable[..., None]] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False
        self.held = False
        self.call_count = 0
        self.latency_s = _LATENCY_S
        """Each call takes half to one and a half of it."""

    @property
    def busy(self) -> bool:
        return self._call is not None

    def submit(
        self, call: Callable[[], T], done: Callable[[T | None, BaseException | None], None]
    ) -> None:
        invariant(not self._closed, "a closed I/O thread gets no call")
        invariant(not self.busy, "an I/O thread has one call at a time")
        self._call = (call, done)
        self.call_count += 1
        if not self.held:
            self._start()

    def hold(self) -> None:
        """The call under way, and all to come, do not end before `let_go`."""
        self.held = True
        if self._timer is not None:
            self._timer.cancel()

    def let_go(self) -> None:
        self.held = False
        if self._call is not None:
            self._start()

    def interrupted(self) -> Callable[[], Any] | None:
        """The call under way, for a test that ends the process in the middle of it."""
        return None if self._call is None else self._call[0]

    def give_way(self) -> None: ...

    def close(self) -> None:
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        if self._call is not None:
            self._end()

    def _start(self) -> None:
        self._timer = self._loop.call_later(
            self.latency_s * self._draw.uniform(0.5, 1.5), self._end
        )

    def _end(self) -> None:
        assert self._call is not None
        (call, done), self._call = self._call, None
        self._timer = None
        try:
            result = call()
        except (Exception, SimCrash) as error:
            done(None, error)
        else:
            done(result, None)


class SimThreads:
    """I/O threads by name, for a test to hold them."""

    def __init__(self, seed: int) -> None:
        self._draw = random.Random(seed)
        self.by_name: dict[str, SimThread] = {}

    def io_thread(self, name: str, loop: asyncio.AbstractEventLoop) -> SimThread:
        thread = self.by_name[name] = SimThread(loop, self._draw)
        return thread

    def start(self, name: str, target: Callable[[], None]) -> Callable[[float], bool]:
        raise NotImplementedError("simulated code has no threads of its own")


class SimNodeEnv:
    """What a node and its log take of the world, on simulated time."""

    def __init__(self, loop: SimLoop, seed: int = 0) -> None:
        self.loop = loop
        self.clock = SimLoopClock(loop.time)
        self.entropy = SimEntropy(seed)
        self.threads = SimThreads(seed)
        self.disk = SimDisk()
        self.host = SimHost()


def run_simulated(main: Callable[[SimNodeEnv], Awaitable[T]], *, seed: int = 0) -> T:
    """What `main` returns, run from beginning to end on simulated time."""
    loop = SimLoop()
    try:
        return loop.run_until_complete(_call(main, SimNodeEnv(loop, seed)))
    finally:
        loop.close()


async def _call(main: Callable[[SimNodeEnv], Awaitable[T]], env: SimNodeEnv) -> T:
    return await main(env)
