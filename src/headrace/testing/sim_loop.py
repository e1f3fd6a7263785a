"""An event loop whose time is simulated, and I/O threads that live on it.

Theory. The loop asks its selector to sleep until the next timer; this selector does not
sleep but moves the clock there. So a test of an hour takes as long as its callbacks, no
test waits for anything, and the same seed gives the same run.

`SimThread` stands for an I/O thread: a call takes simulated time, during which the loop
goes on, and it can be held for as long as a test likes.
"""

from __future__ import annotations

import asyncio
import random
import selectors
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from headrace.model.errors import invariant
from headrace.testing.sim_disk import SimDisk
from headrace.testing.sim_env import SimEntropy, SimHost

T = TypeVar("T")

NS_PER_S = 1_000_000_000
_START_WALL_MS = 1_767_225_600_000
_START_MONO_S = 1_000.0
_LATENCY_S = 0.0005


class _JumpingSelector(selectors.SelectSelector):
    """Never sleeps: tells the loop how long it would have slept."""

    def __init__(self) -> None:
        super().__init__()
        self.slept_s = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        ready = super().select(0)
        if not ready:
            if timeout is None:
                raise RuntimeError("nothing is left that could ever happen: a test waits in vain")
            self.slept_s += max(0.0, timeout)
        return ready


class SimLoop(asyncio.SelectorEventLoop):
    """A loop that is never idle: when nothing is ready it is the time of the next timer."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return _START_MONO_S + self._jumping.slept_s

    def sleep_through(self, duration_s: float) -> None:
        """The process stands still: time passes, and no callback has run in it."""
        self._jumping.slept_s += duration_s


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
        invariant(self._call is None, "an I/O thread has one call at a time")
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
        except BaseException as error:
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
