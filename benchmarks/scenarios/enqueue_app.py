"""`.enqueue(...)` of an `@app.job`, 1,000 calls in flight: arguments bound and checked."""

from __future__ import annotations

from harness.bench import QUEUE, Bench
from harness.figures import spread
from harness.loops import closed_loop
from harness.scenario import Figures, Goal, Scenario

CALLERS = 1_000


async def measure(bench: Bench) -> Figures:
    figures = await bench.surroundings()
    async with bench.server() as server, bench.client(server) as client, bench.app(server) as app:

        @app.job(queue=QUEUE)
        async def noop(data: str) -> None:
            return None

        load = await closed_loop(
            lambda: noop.enqueue(bench.text()),
            CALLERS,
            bench.sizes,
            lambda: bench.begin(server, client),
        )
        figures |= await bench.end(server, client)
    figures |= spread("call", load.latencies_s)
    figures["jobs_per_s"] = load.calls_per_s
    return figures


SCENARIO = Scenario(
    name="enqueue-app",
    title="@app.job .enqueue, 1,000 in flight",
    conditions={
        "durability": "group",
        "payload_bytes": 100,
        "in_flight": CALLERS,
        "jobs_per_call": 1,
    },
    goals=(Goal("jobs_per_s", 25_000, at_least=True),),
    measure=measure,
    shown=("call_p50_ms", "call_p99_ms", "commit_jobs", "server_us_a_job", "client_us_a_job"),
)
