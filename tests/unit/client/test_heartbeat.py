"""Heartbeats: they must not end while their worker lives."""

from __future__ import annotations

import asyncio
from functools import partial

from headrace.client.heartbeat import HeartbeatThread, Vitals
from headrace.client.reconnect import Link
from headrace.client.target import AnyLink, LinkEvents, ServerTarget
from headrace.model.commands import OpenSession
from headrace.model.errors import Internal
from headrace.runtime.env import real_env
from tests.unit.server.harness import DEADLINE_S, running, short_directory

SESSION = b"s" * 16


class Made(ServerTarget):
    """A target that remembers its links."""

    def __init__(self, url: str) -> None:
        super().__init__(real_env(), url, None)
        self.links: list[Link] = []

    def make_link(self, events: LinkEvents) -> AnyLink:
        link = super().make_link(events)
        assert isinstance(link, Link)
        self.links.append(link)
        return link


async def test_heartbeat_whose_link_has_failed_goes_on_over_another() -> None:
    with short_directory() as directory:
        async with running(directory) as server, asyncio.timeout(DEADLINE_S):
            target = Made(server.urls[0])
            owner = target.make_link(LinkEvents())
            await owner.start()
            await owner.call(OpenSession(SESSION, "w", "h", 1, "b", ("k",), ("q",), 1))
            beaten = asyncio.Event()
            loop = asyncio.get_running_loop()

            def vitals() -> Vitals:
                loop.call_soon_threadsafe(beaten.set)
                return Vitals(0, 0, 0, 0)

            news: list[None] = []
            told = partial(news.append, None)
            thread = HeartbeatThread(real_env(), target, SESSION, 20, vitals, told, told)
            thread.start()
            await beaten.wait()
            link = target.links[1]
            failed = Internal("The directory could not be taken over.")
            link._loop.call_soon_threadsafe(lambda: link._fail(failed, tell=True))
            while len(target.links) < 3 or not thread.beat_count:
                beaten.clear()
                await beaten.wait()
            before = thread.beat_count
            while thread.beat_count == before:
                beaten.clear()
                await beaten.wait()
            await asyncio.wrap_future(thread.stop())
            await owner.close()
            assert not news
