"""From the call of `.enqueue(...)` to the first line of its handler, with nothing else to do.

Producer and worker are one process with two connections, so one clock reads both ends.
"""

from __future__ import annotations

import asyncio
import time

from harness.bench import QUEUE, Bench
from harness.figures import spread
from harness.scenario import Figures, Goal, Scenario
from harness.worker import working

PAUSE_S = 0.005


async def measure(bench: Bench) -> Figures:
    figures = await bench.surroundings()
    async with bench.server() as server, bench.client(server) as client, bench.app(server) as app:
        started = asyncio.Event()
        started_s = 0.0

        @app.job(queue=QUEUE)
        async def stamp(data: str) -> None:
            nonlocal started_s
            started_s = time.perf_counter()
            started.set()

        async def once() -> float:
            started.clear()
            asked_s = time.perf_counter()
            await stamp.enqueue(bench.text())
            await started.wait()
            return started_s - asked_s

        async def for_seconds(seconds: float) -> list[float]:
            end_s = time.perf_counter() + seconds
            found = []
            while time.perf_counter() < end_s:
                found.append(await once())
                await asyncio.sleep(PAUSE_S)
            return found

        async with working(app):
            await for_seconds(bench.sizes.warmup_s)
            await bench.begin(server, client)
            samples_s = await for_seconds(bench.sizes.measure_s)
            figures |= await bench.end(server, client)
    figures |= spread("start", samples_s)
    figures["starts"] = len(samples_s)
    return figures


SCENARIO = Scenario(
    name="start-latency-idle",
    title="Enqueue to handler start, idle",
    conditions={"durability": "group", "payload_bytes": 100, "in_flight": 1},
    goals=(Goal("start_p50_ms", 2), Goal("start_p99_ms", 10)),
    measure=measure,
    shown=("starts",),
)
