"""`Client.enqueue`, one at a time: what one durable call takes."""

from __future__ import annotations

from harness.bench import QUEUE, Bench
from harness.figures import spread
from harness.loops import closed_loop
from harness.scenario import Figures, Goal, Scenario


async def measure(bench: Bench) -> Figures:
    figures = await bench.surroundings()
    async with bench.server() as server, bench.client(server) as client:
        load = await closed_loop(
            lambda: client.enqueue(QUEUE, "noop", bench.payload()),
            1,
            bench.sizes,
            lambda: bench.begin(server, client),
        )
        figures |= await bench.end(server, client)
    figures |= spread("call", load.latencies_s)
    figures["jobs_per_s"] = load.calls_per_s
    figures["times_disk_p50"] = figures["call_p50_ms"] / figures["disk_sync_p50_ms"]
    return figures


SCENARIO = Scenario(
    name="enqueue-one",
    title="Client.enqueue, one at a time",
    conditions={"durability": "group", "payload_bytes": 100, "in_flight": 1, "jobs_per_call": 1},
    goals=(Goal("call_p50_ms", 3, disk_p50_times=True),),
    measure=measure,
    shown=("jobs_per_s", "call_p99_ms", "times_disk_p50"),
)
