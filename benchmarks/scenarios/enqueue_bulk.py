"""`Client.enqueue_many`: calls of 1,000 jobs, 4 in flight."""

from __future__ import annotations

import time

from harness.bench import QUEUE, Bench
from harness.scenario import Figures, Goal, Scenario

from headrace.client.client import Client
from headrace.model.commands import NewJob
from headrace.model.ids import slot_of_queue
from headrace.model.job import JobSpec
from headrace.model.limits import BULK_CALLS_MAX, BULK_JOBS


async def measure(bench: Bench) -> Figures:
    figures = await bench.surroundings(BULK_JOBS)
    async with bench.server() as server, bench.client(server) as client:
        await _enqueue_for(bench, client, bench.sizes.warmup_s)
        await bench.begin(server, client)
        began_s = time.perf_counter()
        count = await _enqueue_for(bench, client, bench.sizes.measure_s)
        figures["jobs_per_s"] = count / (time.perf_counter() - began_s)
        figures |= await bench.end(server, client)
    return figures


async def _enqueue_for(bench: Bench, client: Client, seconds: float) -> int:
    """One `enqueue_many` of as many jobs as fit the time; how many it took."""
    spec, slot = JobSpec(QUEUE, "noop"), slot_of_queue(QUEUE)
    end_s = time.perf_counter() + seconds

    def jobs():  # type: ignore[no-untyped-def]
        while time.perf_counter() < end_s:
            for _ in range(BULK_JOBS):
                yield spec, slot, NewJob(b"", 0, bench.payload())

    return len(await client.enqueue_many(jobs()))


SCENARIO = Scenario(
    name="enqueue-bulk",
    title="Client.enqueue_many, calls of 1,000, 4 in flight",
    conditions={
        "durability": "group",
        "payload_bytes": 100,
        "in_flight": BULK_CALLS_MAX,
        "jobs_per_call": BULK_JOBS,
    },
    goals=(Goal("jobs_per_s", 200_000, at_least=True),),
    measure=measure,
    shown=("commit_jobs", "commit_p99_ms", "server_us_a_job", "client_us_a_job"),
)
