"""`Client.enqueue`, 1,000 calls in flight, each awaited by its own caller."""

from __future__ import annotations

from harness.bench import QUEUE, Bench
from harness.figures import spread
from harness.loops import closed_loop
from harness.scenario import Figures, Goal, Scenario

CALLERS = 1_000


async def measure(bench: Bench) -> Figures:
    figures = await bench.surroundings()
    async with bench.server() as server, bench.client(server) as client:
        load = await closed_loop(
            lambda: client.enqueue(QUEUE, "noop", bench.payload()),
            CALLERS,
            bench.sizes,
            lambda: bench.begin(server, client),
        )
        figures |= await bench.end(server, client)
    figures |= spread("call", load.latencies_s)
    figures["jobs_per_s"] = load.calls_per_s
    return figures


SCENARIO = Scenario(
    name="enqueue-in-flight",
    title="Client.enqueue, 1,000 in flight",
    conditions={
        "durability": "group",
        "payload_bytes": 100,
        "in_flight": CALLERS,
        "jobs_per_call": 1,
    },
    goals=(Goal("jobs_per_s", 60_000, at_least=True),),
    measure=measure,
    shown=("call_p50_ms", "call_p99_ms", "commit_jobs", "server_us_a_job", "client_us_a_job"),
)
