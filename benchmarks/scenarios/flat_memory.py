"""5,000,000 jobs through a queue: the server's memory stays where it was.

Bulk enqueue, claims and acks of 1,000 by raw calls, so that 5,000,000 take minutes. The
resident memory is looked at after every 2 % from a tenth of the way on.
"""

from __future__ import annotations

import asyncio
import statistics
import time

from harness.bench import PAYLOAD_BYTES, QUEUE, Bench, preload
from harness.scenario import Figures, Goal, Scenario

from headrace.client.client import Client
from headrace.model.commands import Ack

JOBS = 5_000_000
STEP = 10_000
CLAIM_JOBS = 1_000


async def measure(bench: Bench) -> Figures:
    figures = await bench.surroundings(CLAIM_JOBS)
    steps = max(10, bench.sizes.jobs(JOBS) // STEP)
    rss_mib: list[float] = []
    async with bench.server() as server, bench.client(server) as client:
        await bench.begin(server, client)
        began_s = time.perf_counter()
        for step in range(steps):
            await preload(client, QUEUE, "noop", bench.payloads, STEP)
            await _take_out(client)
            if step * 10 >= steps and step % max(1, steps // 50) == 0:
                rss_mib.append(server.usage().rss_bytes / (1 << 20))
        figures["jobs_per_s"] = steps * STEP / (time.perf_counter() - began_s)
        figures |= await bench.end(server, client)
    middle = statistics.median(rss_mib)
    figures |= {
        "jobs": steps * STEP,
        "rss_median_mib": middle,
        "rss_low_percent": 100 * (min(rss_mib) / middle - 1),
        "rss_high_percent": 100 * (max(rss_mib) / middle - 1),
    }
    return figures


async def _take_out(client: Client) -> None:
    """Everything that was put in is claimed and acked, two calls at a time."""

    async def claim_and_ack() -> None:
        for _ in range(STEP // CLAIM_JOBS // 2):
            groups = await client.claim([QUEUE], ["noop"], jobs_max=CLAIM_JOBS)
            leases = [(job.job_id, group.token, None) for group in groups for job in group.jobs]
            await client.call(Ack(leases))

    await asyncio.gather(claim_and_ack(), claim_and_ack())


SCENARIO = Scenario(
    name="flat-memory",
    title="5,000,000 jobs through a queue",
    conditions={"durability": "group", "payload_bytes": PAYLOAD_BYTES, "jobs": JOBS},
    goals=(Goal("rss_high_percent", 10), Goal("rss_low_percent", -10, at_least=True)),
    measure=measure,
    shown=("jobs", "rss_median_mib", "jobs_per_s"),
    is_long=True,
)
