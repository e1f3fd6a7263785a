"""Waiting until everything is done, and looking at all there is."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from pathlib import Path

from headrace import App
from headrace.client.client import Client
from headrace.model.commands import ListJobs
from headrace.model.job import State
from headrace.model.replies import JobView
from headrace.runtime.env import real_env
from tests.e2e.crash.journal import History, Journal
from tests.e2e.crash.watched import WatchedTarget

DRAIN_S = 60
LATER_MS = 60_000
"""Jobs due after this are what nobody lived to cancel."""


async def drained(target: str, journal: Path) -> list[JobView]:
    """Every job there is, page by page and state by state, after nothing was left to run."""
    async with App(target) as app, asyncio.timeout(DRAIN_S):
        app.connections.target = WatchedTarget(app.connections.target, Journal(journal))
        client = await app.client()
        for view in await all_jobs(client, State.SCHEDULED):
            if view.run_at_ms > real_env().clock.wall_ms() + LATER_MS:
                await client.cancel(view.job_id)
        while await _has_live_jobs(client):
            await asyncio.sleep(0.05)
        return [view for state in State for view in await all_jobs(client, state)]


async def all_jobs(client: Client, *states: State) -> list[JobView]:
    found: list[JobView] = []
    cursor, more = b"", True
    while more:
        page = await client.list_jobs(ListJobs(states=states, cursor=cursor, limit=1_000))
        found += page.jobs
        cursor, more = page.cursor, bool(page.cursor)
    return found


async def _has_live_jobs(client: Client) -> bool:
    queues = await client.list_queues()
    return any(one.scheduled + one.blocked + one.ready + one.leased for one in queues)


def wait_until(condition: Callable[[], object]) -> None:
    """It holds. Fails when it takes too long."""
    deadline_s = time.monotonic() + DRAIN_S
    while not condition():
        assert time.monotonic() < deadline_s, "it never came"
        pause(0.01)


def wait_for_acks(journal: Path, more: int) -> None:
    """So many jobs have succeeded beyond those that had when this was called."""
    acked = len(History(journal).ids("acked"))
    wait_until(lambda: len(History(journal).ids("acked")) > acked + more)


def pause(seconds: float) -> None:
    """For moments that are random, or long, on purpose."""
    threading.Event().wait(seconds)
