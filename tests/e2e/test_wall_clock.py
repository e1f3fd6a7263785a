"""A wall clock that jumps under real processes: leases and log time do not follow it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from headrace import App
from headrace.model.job import State
from tests.e2e.crash.cluster import Members, Server
from tests.e2e.crash.draining import drained, wait_for_acks
from tests.e2e.crash.judging import judge
from tests.e2e.crash.kills import KEEP_ALL
from tests.e2e.crash.ledger import Ledger
from tests.e2e.crash.member import Part
from tests.e2e.crash.stops import LONG_LEASE_MS
from tests.e2e.crash.wall import HOUR_S, Wall

pytestmark = pytest.mark.proof

DATA_REFUSED = 78
DAY_S = 24 * HOUR_S


def test_wall_clock_that_jumps_under_load_costs_nobody_a_lease(tmp_path: Path, seed: int) -> None:
    wall = Wall(tmp_path)
    server = Server(tmp_path / "data", tmp_path, **KEEP_ALL, **wall.environ)
    server.start()
    journal = tmp_path / "journal"
    part = Part(
        target=server.url, journal=str(journal), seed=seed, producers=3, lease_ms=LONG_LEASE_MS
    )
    members = Members(part, tmp_path)
    try:
        members.begin("producer", produces=True).wait_ready()
        members.begin("worker", works=True).wait_ready()
        for offset_s in (HOUR_S, -HOUR_S, 0):
            wall.move_to(offset_s)
            wait_for_acks(journal, 20)
        server.child.wait_for_event("wall_clock_jumped")
        members.terminate("producer")
        views = asyncio.run(drained(server.url, journal))
        members.terminate("worker")
        assert server.child.terminate() == 0
    finally:
        members.kill_all()
        server.child.kill()

    assert Ledger(server.directory).lost() == []
    judge(journal, server.directory, views)


def test_log_time_never_goes_back_over_starts_with_other_clocks(tmp_path: Path) -> None:
    wall = Wall(tmp_path)
    server = Server(tmp_path / "data", tmp_path, **KEEP_ALL, **wall.environ)
    try:
        server.start()
        job_id = asyncio.run(_enqueue(server.url, delay_ms=HOUR_S * 1_000 // 2))
        assert asyncio.run(_state(server.url, job_id)) == State.SCHEDULED
        for offset_s in (HOUR_S, 0):  # due once the clock said so; never un-due again
            server.child.terminate()
            wall.move_to(offset_s)
            server.start()
            asyncio.run(_until_ready(server.url, job_id))
        server.child.terminate()
        wall.move_to(-2 * DAY_S)
        refused = server.begin()
        assert refused.exit_code() == DATA_REFUSED
        assert "E-CLOCK-PAST" in refused.last_words()
        wall.move_to(0)
        server.start()
        assert server.child.terminate() == 0
    finally:
        server.child.kill()

    assert Ledger(server.directory).went_back == []


async def _enqueue(url: str, *, delay_ms: int) -> bytes:
    async with App(url) as app:
        return (await (await app.client()).enqueue("q", "k", b"1", delay_ms=delay_ms)).job_id


async def _state(url: str, job_id: bytes) -> State:
    async with App(url) as app:
        return State((await (await app.client()).get_job(job_id)).state)


async def _until_ready(url: str, job_id: bytes) -> None:
    async with App(url) as app, asyncio.timeout(30):
        client = await app.client()
        while (await client.get_job(job_id)).state != State.READY:
            await asyncio.sleep(0.02)
