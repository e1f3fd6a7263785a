"""`headrace health`: for containers and load balancers, an exit code and a sentence."""

from __future__ import annotations

import asyncio
import os

from headrace.cli.application import noun, run
from headrace.cli.directory import socket_url
from headrace.cli.exits import FAILED, OK
from headrace.cli.options import REMOTE, Remote
from headrace.cli.output import print_json, print_line
from headrace.cli.target import link_to
from headrace.cli.times import duration_option
from headrace.client.target import is_directory
from headrace.model.commands import GetStats
from headrace.model.errors import HeadraceError
from headrace.runtime.env import real_env

app = noun("health")


@app.default
def health(*, timeout: str = "3s", options: Remote = REMOTE) -> int:
    """Ask a server for a sign of life: exit code 0 when it answers, else 1.

    A directory that nobody runs on is not opened: it is not healthy.

    Args:
        timeout: Longest time to wait for the answer.
    """
    fault = run(_fault(options, duration_option(timeout, "timeout")))
    if options.json:
        print_json({"healthy": not fault, "message": fault})
    else:
        print_line(f"not healthy: {fault}" if fault else "healthy")
    return FAILED if fault else OK


async def _fault(options: Remote, timeout_ms: int) -> str:
    """`` when the server has answered a question in time."""
    loaded, env = options.loaded(), real_env()
    url = loaded.settings.client.url
    if is_directory(url):
        url = socket_url(os.path.abspath(os.path.expanduser(url)))
    link = link_to(env, url, loaded)
    try:
        async with asyncio.timeout(timeout_ms / 1_000):
            await link.start()
            await link.call(GetStats())
    except TimeoutError:
        return f"no answer within {timeout_ms} ms."
    except HeadraceError as error:
        return str(error)
    finally:
        await link.close()
    return ""
