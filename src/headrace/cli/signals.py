"""SIGTERM and Ctrl-C as a call on the loop, on every system that has them."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable


def on_stop_signal(loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> None:
    """From here on each of these signals makes one `call` on the loop, and nothing else.

    Windows has no `add_signal_handler`; there the interpreter's own handler wakes the loop.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        try:
            loop.add_signal_handler(number, call)
        except NotImplementedError:
            signal.signal(number, lambda *_: loop.call_soon_threadsafe(call))
