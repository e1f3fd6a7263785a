"""5,000,000 jobs through a queue and one worker: the server's memory stays where it was.

Ids are remembered for 120 s after their job has ended, at 24 bytes each, so memory grows
with the rate for that long and not longer. So the jobs come at a steady pace that lets them
last longer than that; once ids have begun to be forgotten, the resident memory is looked at
once a second.
"""

from __future__ import annotations

import asyncio
import statistics
import time

from harness.bench import PAYLOAD_BYTES, QUEUE, Bench
from harness.scenario import Figures, Goal, Scenario
from harness.worker import reached, working

from headrace.model.limits import REMEMBER_MS

JOBS = 5_000_000
STEP = 10_000
PER_S = 28_000
STEPS_AHEAD = 2
"""Of the worker, at most; with fewer it would wait."""
LOOK_S = 1.0
GRACE_S = 10.0


async def measure(bench: Bench) -> Figures:
    figures = await bench.surroundings(STEP)
    steps = max(10, bench.sizes.jobs(JOBS) // STEP)
    settled_s = (REMEMBER_MS / 1e3 + GRACE_S) * min(1.0, bench.sizes.scale)
    rss_mib: list[float] = []
    async with bench.server() as server, bench.client(server) as client, bench.app(server) as app:

        @app.job(queue=QUEUE)
        async def noop(data: str) -> None:
            return None

        async def look() -> None:
            await asyncio.sleep(settled_s)
            while True:
                rss_mib.append(server.usage().rss_bytes / (1 << 20))
                await asyncio.sleep(LOOK_S)

        async with working(app):
            await bench.begin(server, client)
            began_s = time.perf_counter()
            looking = asyncio.create_task(look())
            for step in range(1, steps + 1):
                await asyncio.sleep(began_s + step * STEP / PER_S - time.perf_counter())
                await app.enqueue_many(noop.job(bench.text()) for _ in range(STEP))
                await reached(client, QUEUE, (step - STEPS_AHEAD) * STEP)
            await reached(client, QUEUE, steps * STEP)
            rss_mib.append(server.usage().rss_bytes / (1 << 20))
            looking.cancel()
            figures["jobs_per_s"] = steps * STEP / (time.perf_counter() - began_s)
            figures |= await bench.end(server, client)
    middle = statistics.median(rss_mib)
    figures |= {
        "jobs": steps * STEP,
        "rss_looks": len(rss_mib),
        "rss_median_mib": middle,
        "rss_low_percent": 100 * (min(rss_mib) / middle - 1),
        "rss_high_percent": 100 * (max(rss_mib) / middle - 1),
    }
    return figures


SCENARIO = Scenario(
    name="flat-memory",
    title="5,000,000 jobs through a queue",
    conditions={"durability": "group", "payload_bytes": PAYLOAD_BYTES, "jobs": JOBS},
    goals=(Goal("rss_high_percent", 10), Goal("rss_low_percent", -10, at_least=True)),
    measure=measure,
    shown=("jobs", "rss_median_mib", "rss_looks", "jobs_per_s"),
    is_long=True,
)
