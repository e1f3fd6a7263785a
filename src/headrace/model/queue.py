"""Queue settings: what holds for all jobs of one queue."""

from __future__ import annotations

import msgspec

from headrace.model import limits
from headrace.model.job import RetryPolicy

DURABILITY_ASYNC = 0
"""Replies to enqueue and ack leave before the commit is durable."""
DURABILITY_GROUP = 1
"""Replies leave when the commit, shared with others, is durable."""
DURABILITY_SYNC = 2
"""The commit is sealed right after the command."""

DURABILITY_WORDS = ("async", "group", "sync")


class QueueSettings(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Fields are only appended. Changes hold from the next command on."""

    paused: bool = False
    """Nothing is claimed; everything else goes on."""
    durability: int = DURABILITY_GROUP
    retry: RetryPolicy = RetryPolicy()
    """For jobs that bring no policy of their own."""
    payload_bytes_max: int = limits.PAYLOAD_BYTES_DEFAULT
    succeeded_age_ms: int = limits.SUCCEEDED_AGE_MS
    """Age, count and bytes up to which succeeded and cancelled jobs are kept."""
    succeeded_count: int = limits.SUCCEEDED_COUNT
    succeeded_bytes: int = limits.SUCCEEDED_BYTES
    dead_age_ms: int = limits.DEAD_AGE_MS
    dead_count: int = limits.DEAD_COUNT
    dead_bytes: int = limits.DEAD_BYTES
