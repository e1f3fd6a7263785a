"""What the engine is told once, when it is made."""

from __future__ import annotations

import msgspec

from headrace.model import limits
from headrace.model.queue import QueueSettings


class EngineOptions(msgspec.Struct, frozen=True):
    """Bounds and defaults of one engine. Two engines replay alike whatever these are."""

    default_queue: QueueSettings = QueueSettings()
    """Of queues that nobody has configured."""
    jobs_max: int = limits.JOBS_MAX_DEFAULT
    payload_memory_bytes: int = limits.PAYLOAD_MEMORY_BYTES_DEFAULT
    finished_bytes: int = limits.FINISHED_NODE_BYTES
    verify: bool = False
    """Check every invariant after every command: tests only, it walks all state."""
