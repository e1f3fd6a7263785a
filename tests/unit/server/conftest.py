"""The server's own loop: what users run is what is tested here."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Mapping

import pytest


@pytest.hookimpl(optionalhook=True)  # older pytest-asyncio: the plain loop of asyncio
def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    if sys.platform == "win32":
        return {"asyncio": asyncio.new_event_loop}
    import uvloop

    return {"uvloop": uvloop.new_event_loop}
