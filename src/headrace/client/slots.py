"""Runner slots: a fixed number of long-lived tasks, each of which runs job after job.

Theory. A task a job costs more than the handlers of small jobs do, and stepping coroutines
by hand breaks `asyncio.timeout`, TaskGroup and anyio, which want a real task. So each slot
is a task that awaits one handler after the other, started when it is first needed.

- Jobs become *started* a chunk at a time, never more than there are free slots; the server
  is told before the first step of their handlers: in the pass of the loop before it.
- Slots wake each other, two at a time while jobs are left: a chunk of jobs that finish at
  once costs one or two wakes, a chunk of jobs that wait has its slots running after a few
  passes.
- A job that runs in a child process starts when one is free; until then it waits unstarted,
  and jobs behind it that need none go first.
- Deadlines: one timer for all slots. It is set for the earliest deadline seen; when it
  fires, it looks at every slot and at what is due next. No timer a job.
- A slot is stopped by cancelling its task, which then *uncancels* itself and goes on. A
  handler that does not stop within KILL_AFTER_MS is *overrun*: its job is settled without
  it and the slot is shown as stuck until it ends.
- Each slot remembers its context; a handler that changes context variables leaves them to
  nobody, since its task is replaced.

Must never start a handler that was not announced, and never run one while draining.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from collections import deque
from collections.abc import Callable, Coroutine
from itertools import chain, islice
from typing import Any

from headrace.client.held import RESERVED, STARTED, HeldJob
from headrace.model.limits import KILL_AFTER_MS, WORKER_YIELD_JOBS, WORKER_YIELD_US

STOP_TIMEOUT = "timeout"
STOP_CANCEL = "cancel"
STOP_LOST = "lost"
"""The lease is somebody else's now."""
STOP_DRAIN = "drain"
"""The worker must end."""

_WAKES_AT_A_TIME = 2
_DEADLINE_GRAIN_S = 0.002
_CLOSE_S = 0.2
_SWEEP_JOBS_MIN = 1_000


class Slot:
    """One runner and what it runs."""

    __slots__ = ("deadline_s", "held", "overrun", "stopped_by", "task")

    def __init__(self) -> None:
        self.task: asyncio.Task[None] | None = None
        self.held: HeldJob | None = None
        self.deadline_s = 0.0
        """By the loop's clock; 0 is none. After a stop: when it counts as overrun."""
        self.stopped_by = ""
        self.overrun = False
        """Its job is settled and its handler runs on."""


Attempt = Callable[[HeldJob, Slot], Coroutine[Any, Any, None]]


class Slots:
    """At most `concurrency` attempts at a time. All methods belong to one loop."""

    def __init__(
        self,
        concurrency: int,
        attempt: Attempt,
        announce: Callable[[list[HeldJob]], None],
        on_overrun: Callable[[HeldJob, str], None],
        *,
        needs_process: Callable[[HeldJob], bool] = lambda held: False,
        process_count: int = 0,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._concurrency = concurrency
        self._attempt = attempt
        self._announce_to = announce
        self._on_overrun = on_overrun
        self._needs_process = needs_process
        self._processes_free = process_count
        self._context = contextvars.copy_context()
        self._waiting: deque[HeldJob] = deque()
        self._held_up: deque[HeldJob] = deque()
        """Their turn had come, and no process was free for them."""
        self._sweep_at = _SWEEP_JOBS_MIN
        self._announced: deque[HeldJob] = deque()
        self._idle: list[asyncio.Future[None]] = []
        self._slots: dict[Slot, None] = {}
        """Oldest first: in what order they are stopped must not depend on their addresses."""
        self._busy_count = 0
        self._waking_count = 0
        self._pump_is_due = False
        self._draining = False
        self._closing = False
        self._overrun_count = 0
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at_s = 0.0
        self._pass_began_s = 0.0
        self._empty = asyncio.Event()
        self._empty.set()

    # --- what the worker calls

    def add(self, jobs: list[HeldJob]) -> None:
        """They run in this order, as slots become free."""
        self._waiting.extend(jobs)
        if len(self._waiting) + len(self._held_up) > self._sweep_at:
            self._sweep()
        self._pump_soon()

    def last_waiting(self, count: int) -> list[HeldJob]:
        """Up to `count` jobs that have not started, those furthest from it first."""
        last_first = chain(reversed(self._waiting), reversed(self._held_up))
        waiting = (held for held in last_first if held.state == RESERVED)
        return list(islice(waiting, max(count, 0)))

    @property
    def busy_count(self) -> int:
        """Slots with a handler that has not ended."""
        return self._busy_count

    @property
    def is_hungry(self) -> bool:
        """A slot is free, and no job is here for it."""
        return not self._waiting and self._busy_count < self._concurrency

    @property
    def stuck_count(self) -> int:
        return self._overrun_count

    def stop(self, held: HeldJob, reason: str) -> bool:
        """Its handler is asked to stop, once; False when none of ours runs it."""
        for slot in self._slots:
            if slot.held is held:
                if not slot.stopped_by:
                    self._stop(slot, reason)
                return True
        return False

    def drain(self) -> list[HeldJob]:
        """No further handler starts; the jobs that have not started are given back."""
        self._draining = True
        waiting = chain(self._held_up, self._waiting)
        left = [held for held in waiting if held.state == RESERVED]
        left += [held for held in self._announced if held.state == STARTED]
        self._held_up.clear()
        self._waiting.clear()
        self._announced.clear()
        self._note_empty()
        return left

    def stop_all(self, reason: str) -> None:
        for slot in list(self._slots):
            if slot.held is not None and not slot.stopped_by:
                self._stop(slot, reason)

    async def empty(self) -> None:
        """No handler runs, overrun ones left aside."""
        await self._empty.wait()

    async def close(self) -> None:
        """All runners have ended; handlers were stopped and had KILL_AFTER_MS to clean up."""
        self._closing = self._draining = True
        self.stop_all(STOP_DRAIN)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(KILL_AFTER_MS / 1_000):
                await self._empty.wait()
        tasks = [slot.task for slot in self._slots if slot.task is not None]
        for slot in self._slots:
            if slot.held is None and slot.task is not None:
                slot.task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=_CLOSE_S)
        if self._timer is not None:
            self._timer.cancel()

    def mark_overrun(self, slot: Slot) -> None:
        """Its job is settled without its handler, which still takes the slot."""
        if slot.held is not None and not slot.overrun:
            slot.overrun = True
            slot.deadline_s = 0.0
            self._overrun_count += 1
            self._on_overrun(slot.held, slot.stopped_by)
            self._note_empty()

    def _sweep(self) -> None:
        """What was given back while it waited is forgotten.

        Slots pass over it when its turn comes, which never does while all of them are stuck.
        """
        self._waiting = _only_reserved(self._waiting)
        self._held_up = _only_reserved(self._held_up)
        left = len(self._waiting) + len(self._held_up)
        self._sweep_at = max(_SWEEP_JOBS_MIN, 2 * left)

    # --- starting

    def _pump_soon(self) -> None:
        if not self._pump_is_due and self._waiting and not self._draining:
            self._pump_is_due = True
            self._loop.call_soon(self._pump)

    def _pump(self) -> None:
        """As many as fit are announced; their handlers start in the next pass."""
        self._pump_is_due = False
        free = self._concurrency - self._busy_count - len(self._announced)
        room = min(free, WORKER_YIELD_JOBS)
        chunk: list[HeldJob] = []
        while self._waiting and len(chunk) < room:
            held = self._waiting.popleft()
            if held.state == RESERVED and self._takes_process(held):
                held.state = STARTED
                chunk.append(held)
        if not chunk:
            return
        self._announce_to(chunk)
        self._announced.extend(chunk)
        self._empty.clear()
        self._loop.call_soon(self._wake)

    def _takes_process(self, held: HeldJob) -> bool:
        """It has one, or needs none. Announced without one it would only wait, while its
        timeout runs here and on the server."""
        if self._needs_process(held):
            if not self._processes_free:
                self._held_up.append(held)
                return False
            self._processes_free -= 1
        return True

    def _free_process(self, held: HeldJob) -> None:
        if self._needs_process(held):
            self._processes_free += 1
            while self._held_up:
                first = self._held_up.popleft()
                if first.state == RESERVED:
                    self._waiting.appendleft(first)
                    return

    def _wake(self) -> None:
        """More runners, while there are jobs for them; each wakes more when it has one."""
        self._pass_began_s = self._loop.time()
        self._wake_more()

    def _wake_more(self) -> None:
        while self._waking_count < _WAKES_AT_A_TIME and len(self._announced) > self._waking_count:
            while self._idle:
                future = self._idle.pop()
                if not future.done():
                    self._waking_count += 1
                    future.set_result(None)
                    break
            else:
                if len(self._slots) >= self._concurrency:
                    return
                self._waking_count += 1
                self._start_runner()

    def _start_runner(self) -> None:
        slot = Slot()
        self._slots[slot] = None
        slot.task = self._loop.create_task(
            self._serve(slot), name="headrace-slot", context=self._context.copy()
        )

    # --- one slot

    async def _serve(self, slot: Slot) -> None:
        own_context = contextvars.copy_context()
        self._waking_count -= 1
        try:
            while not self._closing:
                while self._announced:
                    await self._run_one(slot, self._announced.popleft())
                    if contextvars.copy_context() != own_context:
                        return
                    if self._loop.time() - self._pass_began_s > WORKER_YIELD_US / 1e6:
                        await self._let_others()
                self._pump_soon()
                if not self._closing:  # else nobody is left who would wake or cancel it
                    await self._woken(slot)
        finally:
            self._slots.pop(slot, None)
            self._pump_soon()
            if self._announced:
                self._loop.call_soon(self._wake)

    async def _run_one(self, slot: Slot, held: HeldJob) -> None:
        if held.state != STARTED:  # it was cancelled in the pass in between
            self._free_process(held)
            self._note_empty()
            return
        self._busy_count += 1
        slot.held = held
        if self._announced:
            self._wake_more()
        if held.group.timeout_ms:
            self._set_deadline(slot, self._loop.time() + held.group.timeout_ms / 1_000)
        try:
            await self._attempt(held, slot)
        finally:
            self._busy_count -= 1
            self._free_process(held)
            self._overrun_count -= slot.overrun
            if slot.stopped_by:
                _forget_cancels(slot)
            slot.held, slot.overrun = None, False
            slot.deadline_s, slot.stopped_by = 0.0, ""
            self._note_empty()

    async def _woken(self, slot: Slot) -> None:
        while True:
            future: asyncio.Future[None] = self._loop.create_future()
            self._idle.append(future)
            try:
                await future
            except asyncio.CancelledError:
                if self._closing or slot.task is None:
                    raise
                slot.task.uncancel()  # a handler that cancelled its own task and returned
                if future.cancelled():
                    continue
            self._waking_count -= 1
            return

    async def _let_others(self) -> None:
        await asyncio.sleep(0)
        self._pass_began_s = self._loop.time()

    def _note_empty(self) -> None:
        if self._busy_count == self._overrun_count and not self._announced:
            self._empty.set()

    # --- deadlines

    def _stop(self, slot: Slot, reason: str) -> None:
        slot.stopped_by = reason
        if slot.held is not None and slot.held.context is not None:
            slot.held.context.mark_cancelled()
        self._set_deadline(slot, self._loop.time() + KILL_AFTER_MS / 1_000)
        if slot.task is not None:
            slot.task.cancel()

    def _set_deadline(self, slot: Slot, deadline_s: float) -> None:
        slot.deadline_s = deadline_s
        if self._timer is None or deadline_s < self._timer_at_s:
            if self._timer is not None:
                self._timer.cancel()
            self._timer_at_s = deadline_s
            self._timer = self._loop.call_at(deadline_s, self._look_at_deadlines)

    def _look_at_deadlines(self) -> None:
        self._timer = None
        now_s = self._loop.time()
        earliest: tuple[float, Slot] | None = None
        for slot in list(self._slots):
            if slot.held is None or not slot.deadline_s:
                continue
            if slot.deadline_s > now_s + _DEADLINE_GRAIN_S:
                if earliest is None or slot.deadline_s < earliest[0]:
                    earliest = (slot.deadline_s, slot)
            elif slot.stopped_by:
                self.mark_overrun(slot)
            else:
                self._stop(slot, STOP_TIMEOUT)
        if earliest is not None:
            self._set_deadline(earliest[1], earliest[0])


def _only_reserved(jobs: deque[HeldJob]) -> deque[HeldJob]:
    return deque(held for held in jobs if held.state == RESERVED)


def _forget_cancels(slot: Slot) -> None:
    """A handler that swallowed its stop must not leave it to the next one's TaskGroup."""
    while slot.task is not None and slot.task.cancelling():
        slot.task.uncancel()
