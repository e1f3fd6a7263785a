"""A handler that blocks the loop of its worker: the worker keeps its leases, and is seen."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from headrace import App, State
from headrace.client.client import Client
from headrace.model.ids import id_to_text
from headrace.model.replies import SessionView
from tests.e2e.crash.cluster import CLI, ROOT, Child
from tests.e2e.sdk_kit import serving, working

pytestmark = pytest.mark.proof

LEASE_MS = 2_000
DEADLINE_S = 60
OTHERS = 20

BLOCKING = """
import os, threading
from headrace import App

app = App(os.environ["BLOCKING_DATA"])

@app.job(queue="blocking")
async def block(until: str) -> int:
    while not os.path.exists(until):
        threading.Event().wait(0.01)
    return 42
"""


async def test_blocked_worker_keeps_its_lease_is_shown_stalled_and_harms_nobody(
    tmp_path: Path,
) -> None:
    (tmp_path / "blocking_jobs.py").write_text(BLOCKING)
    until = tmp_path / "go on"
    async with serving(tmp_path / "data") as url, App(url) as app:

        @app.job()
        async def double(number: int) -> int:
            return 2 * number

        blocked = Child(
            [sys.executable, "-c", CLI, "worker", "blocking_jobs:app", "--lease", f"{LEASE_MS}ms"],
            tmp_path / "worker.log",
            BLOCKING_DATA=url,
            PYTHONPATH=f"{ROOT}/src:{tmp_path}",
        )
        try:
            await asyncio.to_thread(blocked.wait_ready)
            async with asyncio.timeout(DEADLINE_S), working(app):
                client = await app.client()
                accepted = await client.enqueue(
                    "blocking", "block", b'{"until":"%s"}' % bytes(until)
                )
                first = await _stalled_for(client, blocked.pid, 2 * LEASE_MS)
                jobs = await app.enqueue_many(double.job(number) for number in range(OTHERS))
                results = [await job.result("30s") for job in jobs]
                token = (await client.get_job(accepted.job_id)).token
                until.touch()
                view = await app.handle(id_to_text(accepted.job_id)).wait("30s")
        finally:
            blocked.kill()

    assert first.running == 1
    assert results == [2 * number for number in range(OTHERS)]
    assert (view.state, view.attempt, view.crash_count) == (State.SUCCEEDED, 1, 0)
    assert view.token == token


async def _stalled_for(client: Client, pid: int, lag_ms: int) -> SessionView:
    """The worker's loop has not moved for so long, as far as the server heard."""
    while True:
        found = [one for one in await client.list_sessions() if one.pid == pid]
        if found and found[0].stalled and found[0].loop_lag_ms > lag_ms:
            return found[0]
        await asyncio.sleep(0.05)
