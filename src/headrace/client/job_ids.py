"""Job ids made on this side: UUIDv7, so that a repeated call names the same job.

Randomness is drawn for many ids at a time. After a fork both processes would draw the
same ones: a maker belongs to one client, and a forked child makes its clients anew.
"""

from __future__ import annotations

from headrace.model.env import Env
from headrace.model.ids import make_job_id

_IDS_PER_DRAW = 256
_BYTES_PER_ID = 8


class JobIdMaker:
    """Not for use by two threads at a time."""

    def __init__(self, env: Env) -> None:
        self._wall_ms = env.clock.wall_ms
        self._random_bytes = env.entropy.random_bytes
        self._drawn = b""
        self._position = 0

    def make(self, slot: int) -> bytes:
        """An id never seen before, of the present moment, for queues of this slot."""
        if self._position == len(self._drawn):
            self._drawn = self._random_bytes(_IDS_PER_DRAW * _BYTES_PER_ID)
            self._position = 0
        position = self._position
        self._position = end = position + _BYTES_PER_ID
        return make_job_id(self._wall_ms(), slot, self._drawn[position:end])
