"""When a long run is to end: its time is over, or somebody asked for it.

A run looks at `is_due` between two cases, ends in good order and keeps what it has done.
"""

from __future__ import annotations

import math
import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopping:
    """Inside the block SIGINT and SIGTERM only set `asked`."""

    def __init__(self, budget_s: float) -> None:
        """`budget_s`: 0 is no limit."""
        self._until_s = time.monotonic() + (budget_s or math.inf)
        self._before: dict[int, Any] = {}
        self.asked = False

    @property
    def is_due(self) -> bool:
        return self.asked or time.monotonic() >= self._until_s

    @property
    def left_s(self) -> float:
        return max(0.0, self._until_s - time.monotonic())

    def __enter__(self) -> Stopping:
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                self._before[number] = signal.signal(number, self._ask)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
