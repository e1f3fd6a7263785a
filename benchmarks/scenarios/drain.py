"""500,000 jobs that wait already, through `@app.job` of one worker process.

One job is: pushed, its payload decoded and checked, run, acked, the ack durable. It counts
when the server has recorded that it succeeded.
"""

from __future__ import annotations

from harness.bench import QUEUE, Bench
from harness.scenario import Figures, Goal, Scenario
from harness.worker import reached, working

JOBS = 500_000
DROPPED_SHARE = 0.10


async def measure(bench: Bench) -> Figures:
    figures = await bench.surroundings()
    count = bench.sizes.jobs(JOBS)
    async with bench.server() as server, bench.client(server) as client, bench.app(server) as app:

        @app.job(queue=QUEUE)
        async def noop(data: str) -> None:
            return None

        for begin in range(0, count, 100_000):
            many = range(begin, min(begin + 100_000, count))
            await app.enqueue_many(noop.job(bench.text()) for _ in many)
        dropped = int(count * DROPPED_SHARE)
        async with working(app):
            began_s = await reached(client, QUEUE, dropped)
            at_begin = (await client.get_queue(QUEUE)).succeeded_total
            await bench.begin(server, client)
            ended_s = await reached(client, QUEUE, count)
            figures |= await bench.end(server, client)
        figures["jobs_per_s"] = (count - at_begin) / (ended_s - began_s)
    return figures


SCENARIO = Scenario(
    name="drain",
    title="500,000 preloaded jobs through @app.job, one worker process",
    conditions={
        "durability": "group",
        "payload_bytes": 100,
        "concurrency": 100,
        "handler": "async, no-op",
    },
    goals=(Goal("jobs_per_s", 40_000, at_least=True),),
    measure=measure,
    shown=("commit_jobs", "commit_p99_ms", "server_us_a_job", "client_us_a_job"),
)
