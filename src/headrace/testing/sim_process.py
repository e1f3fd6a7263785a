"""Simulated machines and processes: what runs on them is the code of production.

Theory. Every thread of every process is an event loop of its own on the agenda of one
`SimLoop`. To stop a thread, keep its callbacks; to kill a process, keep them for ever, and let
its disk, network and threads refuse whatever its code still tries. So a process can end,
stand still or be blocked between any two callbacks, and no code in it needs to know.

    loop = SimLoop()
    machine = SimMachine(loop, seed=1)
    server = machine.start("server", lambda env: my_server(env))

The code that starts and breaks things runs on the `SimLoop` itself and belongs to no process.

Must never let code of a dead process change anything that others can see.

Not modelled: blocking threads, child processes and signals. A `main` that returns ends its
process as `os._exit` does: what was to run at exit does not.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any, TypeVar

from headrace.model.env import (
    ChildProcess,
    EnvParts,
    ParentPipe,
)
from headrace.testing.sim_disk import SimCrash, SimDisk
from headrace.testing.sim_env import SimEntropy, SimHost
from headrace.testing.sim_loop import SimLoop, SimLoopClock, SimThreadLoop
from headrace.testing.sim_network import SimNetwork
from headrace.testing.sim_process_disk import DiskOfProcess
from headrace.testing.sim_process_threads import ProcessThreads

T = TypeVar("T")

FIRST_PID = 101
IO_LATENCY_S = 0.0005


class ProcessKilled(Exception):
    """Of `SimProcess.result` and `SimProcess.run`: the process ended before it could answer."""


class SimMachine:
    """One disk, one clock, and the processes that share them."""

    def __init__(
        self,
        loop: SimLoop,
        seed: int = 0,
        *,
        name: str = "sim",
        network: SimNetwork | None = None,
        disk: SimDisk | None = None,
    ) -> None:
        self.loop = loop
        self.name = name
        self.network = network or SimNetwork(loop, seed)
        self.disk = disk or SimDisk()
        self.disk.on_stop = self._stop_all
        self.clock = SimLoopClock(loop.time)
        self.processes: list[SimProcess] = []
        """All that ever ran, dead ones too."""
        self.io_latency_s = IO_LATENCY_S
        """An I/O call takes half to one and a half of it."""
        self.boot_count = 1
        self.errors: list[tuple[str, dict[str, Any]]] = []
        """What no code of a process handled: (process, what asyncio says of it)."""
        self._seed = seed
        self._draw = random.Random(f"machine {name} {seed}")

    def start(self, name: str, main: Callable[[EnvParts], Coroutine[Any, Any, Any]]) -> SimProcess:
        """A process that runs `main` until it returns, raises or is killed."""
        number = len(self.processes)
        process = SimProcess(self, name, FIRST_PID + number, f"{self.name} {number} {self._seed}")
        self.processes.append(process)
        process._start(main)
        return process

    def running(self) -> list[SimProcess]:
        return [process for process in self.processes if process.alive]

    def power_cut(self, rng: random.Random) -> None:
        """The machine is on again, without processes, with what `rng` lets the disk keep.

        Whoever was connected from elsewhere hears nothing of it.
        """
        self._stop_all()
        self.disk.crash(rng)

    def suspend(self, duration_ms: int) -> None:
        """Wall and boot time have gone on, monotonic time has not; for others no time passed."""
        self.clock.suspended_ms += duration_ms

    def shift_wall(self, by_ms: int) -> None:
        """The wall clock was set, forward or back."""
        self.clock.wall_shift_ms += by_ms

    def _stop_all(self) -> None:
        self.boot_count += 1
        for process in self.running():
            process._end(ProcessKilled(f"{process.name}: the power failed"), silently=True)


class SimProcess:
    """One process. Its methods are for the code that runs the simulation."""

    def __init__(self, machine: SimMachine, name: str, pid: int, seed: str) -> None:
        self.machine = machine
        self.name = name
        self.pid = pid
        self.alive = True
        self._pause_count = 0
        self.draw = random.Random(f"process {seed}")
        self.disk = DiskOfProcess(machine.disk)
        self.threads = ProcessThreads(self)
        self.network = machine.network.of_process(machine.name)
        self.env = EnvParts(
            self.disk,
            machine.clock,
            SimEntropy(self.draw.getrandbits(64)),
            ProcessHost(self),
            self.threads,
            self.network,
            ProcessFamily(),
        )
        self.loop = self.threads.new_loop("main")
        self._ended: asyncio.Future[None] = machine.loop.create_future()
        self._outcome: Any = None
        self._failure: BaseException | None = None
        self._tasks: dict[asyncio.Task[Any], None] = {}
        """Its main and what was given to it: asyncio does not hold on to tasks."""

    # --- its end

    @property
    def failure(self) -> BaseException | None:
        """Why it has ended; None while it lives, and when its main has returned."""
        return self._failure

    async def wait(self) -> None:
        """It has ended, in whatever way."""
        await asyncio.shield(self._ended)

    async def result(self) -> Any:
        """What `main` returned. Raises: what it raised; `ProcessKilled`."""
        await self.wait()
        if self._failure is not None:
            raise self._failure
        return self._outcome

    def kill(self) -> None:
        """SIGKILL: no code of it runs any more; peers see their connections end.

        The I/O call under way may still take effect, or some of its system calls may.
        Harmless when repeated. Called by its own code, that code ends with `SimCrash`.
        """
        self._end(ProcessKilled(f"{self.name} was killed"))
        if any(loop.is_current for loop in self.threads.loops):
            raise SimCrash

    # --- standing still

    @property
    def paused(self) -> bool:
        return self._pause_count > 0

    def pause(self) -> None:
        """SIGSTOP: no thread of it runs until `go_on`; time goes on, the kernel works on.

        Of several pauses, each is ended by a `go_on` of its own.
        """
        self._pause_count += 1
        for loop in self.threads.loops:
            loop.hold()

    def go_on(self) -> None:
        """SIGCONT: what was missed runs now, and finds that it is late."""
        self._pause_count -= 1
        for loop in self.threads.loops:
            if not self.paused and loop not in self.threads.blocked:
                loop.go_on()

    def block(self, duration_s: float, thread: str = "main") -> None:
        """Something on that thread blocks its loop for so long; the other threads go on.

        Of several threads of one name (heartbeats), all are blocked; of none, none.
        """
        for loop in [loop for loop in self.threads.loops if loop.name == thread]:
            self._block(loop, duration_s)

    def _block(self, loop: SimThreadLoop, duration_s: float) -> None:
        blocked, until_s = self.threads.blocked, self.machine.loop.time() + duration_s
        blocked[loop] = max(until_s, blocked.get(loop, 0.0))
        loop.hold()
        self.machine.loop.call_later(duration_s, self._unblock, loop)

    def _unblock(self, loop: SimThreadLoop) -> None:
        until_s = self.threads.blocked.get(loop)
        if until_s is not None and until_s <= self.machine.loop.time():
            del self.threads.blocked[loop]
            if not self.paused:
                loop.go_on()

    # --- working in it

    def call(self, callback: Callable[[], object]) -> None:
        """`callback` runs on its main thread, as soon as that runs."""
        self.loop.call_soon(callback)

    def run(self, make: Callable[[], Awaitable[T]]) -> asyncio.Future[T]:
        """What `make()` returns or raises, run on its main thread; for the caller's loop.

        Fails with `ProcessKilled` when the process ends first. Cancelling it stops nothing.
        """
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()

        async def work() -> None:
            try:
                outcome = await make()
            except Exception as error:
                _decide(answer, error=error)
            else:
                _decide(answer, outcome)

        def gone(_: asyncio.Future[None]) -> None:
            _decide(answer, error=ProcessKilled(f"{self.name} has ended"))

        if self.alive:
            self.loop.call_soon(lambda: self._begin(work()))
            self._ended.add_done_callback(gone)
            answer.add_done_callback(lambda _: self._ended.remove_done_callback(gone))
        else:
            gone(self._ended)
        return answer

    # --- inside

    def _start(self, main: Callable[[EnvParts], Coroutine[Any, Any, Any]]) -> None:
        def returned(task: asyncio.Task[Any]) -> None:
            if task.cancelled():
                self._end(ProcessKilled(f"{self.name} cancelled itself"))
            elif (error := task.exception()) is not None:
                self._end(error)
            else:
                self._outcome = task.result()
                self._end(None)

        self.loop.call_soon(lambda: self._begin(main(self.env)).add_done_callback(returned))

    def _begin(self, coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = self.loop.create_task(coroutine)
        self._tasks[task] = None
        task.add_done_callback(self._tasks.pop)
        return task

    def _end(self, failure: BaseException | None, *, silently: bool = False) -> None:
        if not self.alive:
            return
        self.alive = False
        self._failure = failure
        for loop in self.threads.loops:
            loop.end()
        self.threads.finish_some_calls()
        self.disk.end()
        self.network.end(silently=silently)
        self.machine.loop.call_soon(_decide, self._ended)

    def note_error(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """An exception that nobody handled."""
        if not isinstance(context.get("exception"), SimCrash):
            self.machine.errors.append((self.name, context))


class ProcessHost(SimHost):
    """Who a process is, on its machine."""

    def __init__(self, process: SimProcess) -> None:
        super().__init__(pid=process.pid, hostname=process.machine.name)
        self._machine = process.machine

    def boot_id(self) -> str:
        return f"00000000-0000-4000-8000-{self._machine.boot_count:012d}"

    def process_exists(self, pid: int) -> bool:
        return any(process.pid == pid for process in self._machine.running())

    def environ(self) -> Mapping[str, str]:
        return {}


class ProcessFamily:
    """`Processes` of a process that never forks; what it wants done at exit is not done."""

    async def spawn(self, argv: Sequence[str], *, piped: bool) -> ChildProcess:
        raise NotImplementedError("a simulated process starts no other")

    def parent_pipe(self) -> ParentPipe:
        raise NotImplementedError("a simulated process has no parent")

    def rss_bytes(self) -> int:
        return 0

    def after_fork_in_child(self, call: Callable[[], None]) -> None: ...

    def close_inherited(self, directory: str) -> None: ...

    def on_exit(self, call: Callable[[], None]) -> None: ...


def _decide(
    future: asyncio.Future[Any], outcome: Any = None, error: BaseException | None = None
) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(outcome)
    else:
        future.set_exception(error)
