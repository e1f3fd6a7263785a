"""What the engine keeps of a queue besides its jobs."""

from __future__ import annotations

from headrace.engine.finished import Ring
from headrace.engine.job import DEAD, LEASED, READY, SCHEDULED
from headrace.engine.lanes import KindLanes
from headrace.model.queue import QueueSettings
from headrace.model.records import RING_DEAD, RING_SUCCEEDED
from headrace.model.rows import QueueRow

STATE_COUNT = 8

TOTAL_ENQUEUED = 0
TOTAL_SUCCEEDED = 1
TOTAL_FAILED = 2
TOTAL_DEAD = 3
TOTAL_CANCELLED = 4
TOTAL_COUNT = 5


class Queue:
    """Settings, counts and rings of one queue.

    Invariant: `counts[s]` is how many of its jobs are in the waiting or leased state s.
    """

    __slots__ = (
        "configured",
        "counts",
        "default",
        "kinds",
        "name",
        "payload_bytes",
        "rings",
        "totals",
    )

    def __init__(self, name: str, default: QueueSettings) -> None:
        self.name = name
        self.configured: QueueSettings | None = None
        self.default = default
        self.kinds: dict[str, KindLanes] = {}
        self.counts = [0] * STATE_COUNT
        self.totals = [0] * TOTAL_COUNT
        self.payload_bytes = 0
        """Of its waiting and leased jobs: payload, headers, errors, log lines."""
        self.rings = (Ring(), Ring())

    @property
    def settings(self) -> QueueSettings:
        return self.configured or self.default

    @property
    def paused(self) -> bool:
        return self.configured is not None and self.configured.paused

    def ring_of(self, final_state: int) -> Ring:
        return self.rings[RING_DEAD if final_state == DEAD else RING_SUCCEEDED]

    def is_idle(self) -> bool:
        return not (self.counts[READY] or self.counts[LEASED] or self.counts[SCHEDULED])

    def row(self) -> QueueRow:
        return QueueRow(self.name, self.configured, tuple(self.totals))
