"""A server with one worker connected and nothing to do: processor and memory."""

from __future__ import annotations

import asyncio

from harness.bench import QUEUE, Bench
from harness.scenario import Figures, Goal, Scenario
from harness.worker import working


async def measure(bench: Bench) -> Figures:
    figures = await bench.surroundings()
    async with bench.server() as server, bench.client(server) as client, bench.app(server) as app:

        @app.job(queue=QUEUE)
        async def noop(data: str) -> None:
            return None

        async with working(app):
            await asyncio.sleep(bench.sizes.warmup_s)
            await bench.begin(server, client)
            await asyncio.sleep(bench.sizes.measure_s)
            figures |= await bench.end(server, client)
    return figures


SCENARIO = Scenario(
    name="idle-server",
    title="An idle server with one worker connected",
    conditions={"workers": 1},
    goals=(Goal("server_cpu_percent", 1), Goal("server_rss_mib", 60)),
    measure=measure,
    shown=("client_cpu_percent", "commits"),
)
