"""A server on a directory that an application may be using: it is asked to hand over.

An embedded owner gives the directory up and becomes a client of the server. Another
server does not, and an owner that does not answer cannot: both are `Locked`.
"""

from __future__ import annotations

import asyncio
from typing import Any

from headrace.cli.directory import RETRY_MS, socket_url
from headrace.client.reconnect import Link, LinkOptions
from headrace.model.env import Env
from headrace.model.errors import CannotConnect, HeadraceError, Locked, OutcomeUnknown
from headrace.model.handshake import HandOver
from headrace.model.limits import OWNER_UNRESPONSIVE_MS
from headrace.model.settings import Settings
from headrace.server.compose import RunningServer, serve


async def serve_after(
    env: Env, directory: str, settings: Settings, **callbacks: Any
) -> RunningServer:
    """As `headrace.server.compose.serve`, after an embedded owner has handed over.

    Raises: `Locked` when the owner does not hand over within a few seconds.
    """
    loop = asyncio.get_running_loop()
    deadline_s = loop.time() + OWNER_UNRESPONSIVE_MS / 1_000
    while True:
        try:
            return await serve(env, directory, settings, **callbacks)
        except Locked:
            wait = await _asked_to_hand_over(env, directory)
            if not wait or loop.time() > deadline_s:
                raise
        await asyncio.sleep(RETRY_MS / 1_000)


async def _asked_to_hand_over(env: Env, directory: str) -> bool:
    """Whether the directory may be free soon."""
    link = Link(env, socket_url(directory), LinkOptions(client_name="headrace-serve"))
    try:
        await link.start()
        await link.call(HandOver("a server starts on this directory"))
    except (CannotConnect, OutcomeUnknown):
        return True  # just starting, or just gone
    except HeadraceError:
        return False
    finally:
        await link.close()
    return True
