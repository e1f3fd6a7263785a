"""From `.enqueue(...)` to the handler's first line at half of the load that the path can take.

First the most that producer and worker in one process get through together, jobs in equal
out; then half of that at a steady pace. Latency counts from the call, so a late producer
does not hide a late server.
"""

from __future__ import annotations

import time
from array import array

from harness.bench import QUEUE, Bench, settle
from harness.figures import spread
from harness.loops import closed_loop, paced
from harness.scenario import Figures, Goal, Scenario
from harness.worker import reached, working

CALLERS = 1_000
_STAMP_CHARACTERS = 20


async def measure(bench: Bench) -> Figures:
    figures = await bench.surroundings()
    sizes = bench.sizes
    async with bench.server() as server, bench.client(server) as client, bench.app(server) as app:
        samples_s: array[float] = array("d")
        measured_from_s = float("inf")

        @app.job(queue=QUEUE)
        async def stamp(data: str) -> None:
            asked_s = int(data[:_STAMP_CHARACTERS]) / 1e9
            if asked_s >= measured_from_s:
                samples_s.append(time.perf_counter() - asked_s)

        async def ask() -> object:
            stamped = f"{time.perf_counter_ns():0{_STAMP_CHARACTERS}d}"
            return await stamp.enqueue(stamped + bench.text()[_STAMP_CHARACTERS:])

        async def begin() -> None:
            nonlocal finished, began_s
            finished = (await client.get_queue(QUEUE)).succeeded_total
            began_s = time.perf_counter()

        finished, began_s = 0, 0.0
        async with working(app):
            await closed_loop(ask, CALLERS, sizes, begin)
            view = await client.get_queue(QUEUE)
            most_per_s = (view.succeeded_total - finished) / (time.perf_counter() - began_s)
            await reached(client, QUEUE, view.enqueued_total)
            await settle()
            half = most_per_s / 2
            await paced(ask, half, sizes.warmup_s)
            await bench.begin(server, client)
            measured_from_s = time.perf_counter()
            made, left_out = await paced(ask, half, sizes.measure_s)
            figures |= await bench.end(server, client)
            await reached(client, QUEUE, (await client.get_queue(QUEUE)).enqueued_total)
    figures |= spread("start", samples_s)
    figures |= {
        "load_max_per_s": most_per_s,
        "load_per_s": made / sizes.measure_s,
        "left_out": left_out,
    }
    return figures


SCENARIO = Scenario(
    name="start-latency-loaded",
    title="Enqueue to handler start at half of the maximum load",
    conditions={"durability": "group", "payload_bytes": 100, "in_flight": "paced"},
    goals=(Goal("start_p99_ms", 25),),
    measure=measure,
    shown=("start_p50_ms", "load_per_s", "load_max_per_s"),
)
