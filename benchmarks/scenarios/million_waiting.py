"""1,000,000 waiting jobs: what they weigh, what claims cost beside them, snapshot, recovery.

1. In a fresh server, rounds of 1,000 jobs claimed from a queue that holds 1,000.
2. 1,000,000 jobs, and the growth of the server's resident memory, payloads left aside.
3. The same rounds of claims from that queue, and by turns with them from a queue of 1,000
   beside it, which shows what is due to the queue and what to a full memory.
4. The server is killed; the next one takes a snapshot after a second while jobs come in,
   and says how late its loop ran a timer of 1 ms meanwhile.
5. Killed again: how long the third one takes until it leads.
"""

from __future__ import annotations

import asyncio
import statistics
import time

from harness.bench import PAYLOAD_BYTES, QUEUE, Bench, preload, settle
from harness.scenario import Figures, Goal, Scenario

from headrace.client.client import Client
from headrace.model.commands import Ack
from headrace.model.replies import PushedGroup

JOBS = 1_000_000
SMALL = 1_000
ROUNDS = 20
CALLS = 10
SMALL_QUEUE = "small"


async def measure(bench: Bench) -> Figures:
    figures = await bench.surroundings(SMALL)
    count = max(2 * ROUNDS * SMALL, bench.sizes.jobs(JOBS))
    async with bench.server() as server, bench.client(server) as client:
        await preload(client, "warm", "noop", bench.payloads, SMALL)
        await bench.begin(server, client)
        small_s = await _small_rounds(bench, client, ROUNDS)
        rss_bytes = server.usage().rss_bytes
        await preload(client, QUEUE, "noop", bench.payloads, count)
        await settle(2.0)
        grown_bytes = server.usage().rss_bytes - rss_bytes
        figures["bytes_a_job"] = grown_bytes / count - PAYLOAD_BYTES
        beside_s, large_s = [], []
        for _ in range(ROUNDS):
            beside_s += await _small_rounds(bench, client, 1)
            large_s.append(await _claim_round(client, QUEUE))
        figures |= await bench.end(server, client)
        await server.kill()
    alone, beside, large = (SMALL / statistics.median(s) for s in (small_s, beside_s, large_s))
    figures |= {
        "claims_per_s_alone": alone,
        "claims_per_s_beside": beside,
        "claims_per_s": large,
        "claim_rate_ratio": large / alone,
        "claim_rate_ratio_beside": large / beside,
    }
    figures |= await _snapshot(bench)
    figures |= await _recovery(bench)
    return figures


async def _small_rounds(bench: Bench, client: Client, count: int) -> list[float]:
    rounds = []
    for _ in range(count):
        await preload(client, SMALL_QUEUE, "noop", bench.payloads, SMALL)
        rounds.append(await _claim_round(client, SMALL_QUEUE))
    return rounds


async def _claim_round(client: Client, queue: str) -> float:
    """Seconds in which 1,000 jobs are claimed, by calls at one time; their acks apart."""
    began_s = time.perf_counter()
    claims = [client.claim([queue], ["noop"], jobs_max=SMALL // CALLS) for _ in range(CALLS)]
    answers: list[list[PushedGroup]] = await asyncio.gather(*claims)
    seconds = time.perf_counter() - began_s
    groups = [group for answer in answers for group in answer]
    leases = [(job.job_id, group.token, None) for group in groups for job in group.jobs]
    assert len(leases) == SMALL
    await client.call(Ack(leases))
    return seconds


async def _snapshot(bench: Bench) -> Figures:
    settings = {"log.snapshot_age_ms": 1_000, "stalls": 1}
    async with bench.server(**settings) as server, bench.client(server) as client:
        taken = asyncio.create_task(server.event("snapshot_published"))
        while not taken.done():
            await preload(client, QUEUE, "noop", bench.payloads, 100)
            await asyncio.sleep(0.01)
        published = taken.result()
        await server.kill()
    return {
        "snapshot_s": published["duration_ms"] / 1e3,
        "snapshot_mib": published["size_bytes"] / (1 << 20),
        "stall_p50_ms": published["stall_p50_ms"],
        "stall_p99_ms": published["stall_p99_ms"],
        "stall_max_ms": published["stall_max_ms"],
    }


async def _recovery(bench: Bench) -> Figures:
    began_s = time.perf_counter()
    async with bench.server() as server:
        ready_s = time.perf_counter() - began_s
        leads = await server.event("node_leads")
    return {
        "recovery_s": leads["seconds"],
        "recovery_records": leads["record_count"],
        "start_to_ready_s": ready_s,
    }


SCENARIO = Scenario(
    name="million-waiting",
    title="1,000,000 waiting jobs",
    conditions={"durability": "group", "payload_bytes": PAYLOAD_BYTES, "jobs": JOBS},
    goals=(
        Goal("bytes_a_job", 700),
        Goal("claim_rate_ratio", 0.8, at_least=True),
        Goal("recovery_s", 10),
        Goal("stall_p99_ms", 10),
    ),
    measure=measure,
    shown=(
        "claims_per_s",
        "claim_rate_ratio_beside",
        "snapshot_s",
        "stall_max_ms",
        "start_to_ready_s",
    ),
)
