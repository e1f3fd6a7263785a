"""Load: callers that each ask again as soon as they have their answer, or a fixed pace."""

from __future__ import annotations

import asyncio
import time
from array import array
from collections.abc import Awaitable, Callable

import msgspec

from harness.bench import Sizes

Ask = Callable[[], Awaitable[object]]


class Load(msgspec.Struct):
    """What the answered calls of the measured time took."""

    seconds: float
    latencies_s: array[float]

    @property
    def calls_per_s(self) -> float:
        return len(self.latencies_s) / self.seconds


async def closed_loop(
    ask: Ask, callers: int, sizes: Sizes, on_warm: Callable[[], Awaitable[None]]
) -> Load:
    """`callers` at a time; `on_warm` is awaited when the warm-up is over, with the load on."""
    latencies_s: array[float] = array("d")
    clock = time.perf_counter
    end_s = clock() + 1e9
    begin_s = end_s

    async def caller() -> None:
        while (asked_s := clock()) < end_s:
            await ask()
            now_s = clock()
            if begin_s <= asked_s and now_s <= end_s:
                latencies_s.append(now_s - asked_s)

    async with asyncio.TaskGroup() as group:
        for _ in range(callers):
            group.create_task(caller())
        await asyncio.sleep(sizes.warmup_s)
        await on_warm()
        begin_s = clock()
        end_s = begin_s + sizes.measure_s
        await asyncio.sleep(sizes.measure_s)
    return Load(sizes.measure_s, latencies_s)


async def paced(
    ask: Ask, per_s: float, seconds: float, in_flight_max: int = 50_000
) -> tuple[int, int]:
    """Calls at a steady rate whatever their answers take; (made, left out at the bound)."""
    made = left_out = 0
    running: set[asyncio.Task[object]] = set()
    loop = asyncio.get_running_loop()
    began_s = time.perf_counter()
    while (passed_s := time.perf_counter() - began_s) < seconds:
        due = int(passed_s * per_s) - made - left_out
        for _ in range(due):
            if len(running) >= in_flight_max:
                left_out += 1
                continue
            task = loop.create_task(_awaited(ask))
            running.add(task)
            task.add_done_callback(running.discard)
            made += 1
        await asyncio.sleep(0.001)
    if running:
        await asyncio.wait(running)
    return made, left_out


async def _awaited(ask: Ask) -> object:
    return await ask()
