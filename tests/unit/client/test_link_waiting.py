"""Calls of a link that wait: for a server that is gone, and because they were asked to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from headrace.model import commands
from headrace.model.errors import CannotConnect
from headrace.model.replies import JobReply
from headrace.server.compose import RunningServer
from headrace.server.edge import EdgeLimits
from tests.unit.client.test_link import Proxy, Seen, answer, enqueue
from tests.unit.server.harness import DEADLINE_S, new_id, running, short_directory


@pytest_asyncio.fixture
async def server() -> AsyncIterator[RunningServer]:
    with short_directory() as directory:
        async with running(directory) as server:
            yield server


async def test_calls_that_have_ended_are_not_kept_while_no_server_is_there(
    server: RunningServer,
) -> None:
    proxy = Proxy()
    await proxy.open(server)
    seen = Seen()
    link = seen.link(proxy.url)
    await link.start()
    proxy.target = ("127.0.0.1", 1)
    proxy.cut()
    await seen.until(lambda: bool(seen.losses))
    waits = link.call(commands.Flush())
    for _ in range(10):
        with pytest.raises(CannotConnect):
            await answer(link.call(enqueue(new_id()), timeout_ms=1))
    link._tick()

    assert link.calls_pending == 1
    await link.close()
    await proxy.close()
    with pytest.raises(CannotConnect):
        await waits


async def test_time_that_the_server_was_asked_to_wait_is_not_held_against_it(
    server: RunningServer,
) -> None:
    link = Seen().link(server.urls[0])
    await link.start()
    job_id = new_id()
    await answer(link.call(enqueue(job_id)))

    waited = await answer(link.call(commands.WaitJob(job_id, 100), timeout_ms=90))
    claimed = await answer(
        link.call(commands.Claim(("q",), ("other",), 1, wait_ms=100), timeout_ms=90)
    )

    assert isinstance(waited, JobReply)
    assert claimed.groups == []
    await link.close()


async def test_server_whose_window_is_empty_is_refused_and_not_waited_for() -> None:
    with short_directory() as directory:
        async with running(directory, limits=EdgeLimits(in_flight_max=0)) as server:
            with pytest.raises(CannotConnect, match="in_flight_max is 0"):
                await asyncio.wait_for(Seen().link(server.urls[0]).start(), DEADLINE_S)
