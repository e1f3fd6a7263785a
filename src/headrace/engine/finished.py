"""Final jobs, kept whole in their queue's ring.

A final job is packed to one `bytes`. Its queue's ring keeps it until retention (age,
count, bytes) drops it; its id stays known for a while in any case (`remembered`).

A ring is a queue of ends; an entry whose job has been revived or deleted is passed over.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import msgspec

from headrace.engine.table import Table
from headrace.model.rows import Finished

_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(Finished)


def pack(finished: Finished) -> bytes:
    return _ENCODER.encode(finished)


def unpack(packed: bytes) -> Finished:
    return _DECODER.decode(packed)


_COMPACT_MIN = 64


class RingEntry(msgspec.Struct, gc=False):
    job_id: bytes
    packed: bytes
    state: int
    ended_no: int
    ended_at_ms: int


class Ring:
    """Final jobs of one queue, oldest first.

    Invariant: `count` and `size_bytes` are of its live entries, those whose `packed` is
    the very object in the table of ended jobs.
    """

    __slots__ = ("count", "entries", "size_bytes")

    def __init__(self) -> None:
        self.entries: deque[RingEntry] = deque()
        self.count = 0
        self.size_bytes = 0

    def add(self, entry: RingEntry) -> None:
        self.entries.append(entry)
        self.count += 1
        self.size_bytes += len(entry.packed)

    def leave(self, packed: bytes, ended: Ended) -> None:
        """A job was revived or deleted, and `ended` has it no more.

        Its entry holds all its bytes, so the ring is rebuilt when most entries are such.
        """
        self.count -= 1
        self.size_bytes -= len(packed)
        if len(self.entries) > 2 * self.count + _COMPACT_MIN:
            self.entries = deque(live_entries(self, ended))

    def take_oldest(self, ended: Ended) -> RingEntry:
        """The first live entry, no longer in the ring. Raises: `IndexError` without one."""
        while True:
            entry = self.entries.popleft()
            if ended.get(entry.job_id) is entry.packed:
                self.count -= 1
                self.size_bytes -= len(entry.packed)
                return entry


Ended = Table[bytes]
"""Id → the packed `Finished`, as long as its queue keeps it."""


def live_entries(ring: Ring, ended: Ended) -> Iterator[RingEntry]:
    """Its live entries, oldest first."""
    return (entry for entry in ring.entries if ended.get(entry.job_id) is entry.packed)
