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


class RingEntry(msgspec.Struct, gc=False):
    job_id: bytes
    packed: bytes
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

    def leave(self, packed: bytes) -> None:
        """A live entry's job was revived or deleted."""
        self.count -= 1
        self.size_bytes -= len(packed)

    def drop_head(self) -> None:
        """The first entry, live or not, is no longer in the ring."""
        self.entries.popleft()


Ended = Table[bytes]
"""Id → the packed `Finished`, as long as its queue keeps it."""


def live_entries(ring: Ring, ended: Ended) -> Iterator[RingEntry]:
    """Its live entries, oldest first."""
    return (entry for entry in ring.entries if ended.get(entry.job_id) is entry.packed)
