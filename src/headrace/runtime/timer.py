"""One timer that stands only while something is due."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Timer:
    """At most one callback ahead; setting it earlier moves it, later does not."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        call: Callable[[], None],
        failed: Callable[[BaseException], None],
    ) -> None:
        """`failed` gets what `call` raises: the loop would only log it, and go on."""
        self._loop = loop
        self._call = call
        self._failed = failed
        self._handle: asyncio.TimerHandle | None = None
        self.at_s = 0.0

    def within(self, delay_s: float) -> None:
        """`call` comes after `delay_s` at the latest."""
        at_s = self._loop.time() + max(0.0, delay_s)
        if self._handle is not None:
            if self.at_s <= at_s:
                return
            self._handle.cancel()
        self.at_s = at_s
        self._handle = self._loop.call_at(at_s, self._fire)

    def cancel(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    @property
    def is_set(self) -> bool:
        return self._handle is not None

    def _fire(self) -> None:
        self._handle = None
        try:
            self._call()
        except Exception as bug:
            self._failed(bug)
