"""Idempotency keys: who enqueues twice with one key gets the first job.

Scope: (queue, kind, key), here as a 16-byte digest, so that long keys cost no memory.
A key is taken until its window, counted from the enqueue, has passed, also after the
job has ended. Keys are bounded like jobs.
"""

from __future__ import annotations

import hashlib
import heapq

import msgspec

from headrace.engine.table import Table, Walk
from headrace.model.rows import KeyRow

_COMPACT_MIN = 64


class TakenKey(msgspec.Struct, gc=False):
    job_id: bytes
    digest: bytes
    """Of the payload: the same key with another payload is a conflict."""
    expires_at_ms: int
    number: int


def scope_of(queue: str, kind: str, key: str) -> bytes:
    """The key's place in the table. NUL cannot occur in queue and kind."""
    text = f"{queue}\0{kind}\0{key}"
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def digest_of(payload: bytes) -> bytes:
    return hashlib.blake2b(payload, digest_size=8).digest()


class Keys:
    """Invariant: every entry of `table` has exactly one live entry in the heap."""

    __slots__ = ("_count", "_heap", "next_number", "table")

    def __init__(self) -> None:
        self.table: Table[TakenKey] = Table()
        self._heap: list[tuple[int, int, bytes]] = []
        self.next_number = 0
        self._count = 0

    def get(self, scope: bytes, now_ms: int) -> TakenKey | None:
        """The holder of the key, unless its window has passed."""
        taken = self.table.get(scope)
        return taken if taken is not None and taken.expires_at_ms > now_ms else None

    def take(self, scope: bytes, job_id: bytes, digest: bytes, expires_at_ms: int) -> None:
        taken = TakenKey(job_id, digest, expires_at_ms, self.next_number)
        self.next_number += 1
        self.load(scope, taken)

    def load(self, scope: bytes, taken: TakenKey) -> None:
        if self.table.get(scope) is None:
            self._count += 1
        self.table.put(scope, taken)
        heapq.heappush(self._heap, (taken.expires_at_ms, taken.number, scope))

    def free(self, scope: bytes, job_id: bytes) -> None:
        """The key is free if this job holds it; its heap entry is passed over later."""
        taken = self.table.get(scope)
        if taken is not None and taken.job_id == job_id:
            self.table.remove(scope)
            self._count -= 1
            if len(self._heap) > 2 * self._count + _COMPACT_MIN:
                self._heap = [entry for entry in self._heap if self._is_live(entry)]
                heapq.heapify(self._heap)

    def _is_live(self, entry: tuple[int, int, bytes]) -> bool:
        taken = self.table.get(entry[2])
        return taken is not None and taken.number == entry[1]

    def _drop_stale(self) -> None:
        while self._heap and not self._is_live(self._heap[0]):
            heapq.heappop(self._heap)

    def live_entries(self) -> int:
        return sum(map(self._is_live, self._heap))

    def next_expiry_ms(self) -> int | None:
        self._drop_stale()
        return self._heap[0][0] if self._heap else None

    def expired(self, now_ms: int, count_max: int) -> int:
        """How many keys have passed their window, at most `count_max`. Frees none."""
        taken: list[tuple[int, int, bytes]] = []
        while len(taken) < count_max:
            at_ms = self.next_expiry_ms()
            if at_ms is None or at_ms > now_ms:
                break
            taken.append(heapq.heappop(self._heap))
        for entry in taken:
            heapq.heappush(self._heap, entry)
        return len(taken)

    def expire(self, count: int) -> None:
        """The first `count` keys in (expiry, number) order are free."""
        for _ in range(count):
            self._drop_stale()
            self.table.remove(heapq.heappop(self._heap)[2])
            self._count -= 1

    def begin_walk(self) -> Walk[TakenKey, KeyRow]:
        return self.table.begin_walk(key_row)

    def __len__(self) -> int:
        return self._count


def key_row(scope: bytes, taken: TakenKey) -> KeyRow:
    return KeyRow(scope, taken.number, taken.job_id, taken.digest, taken.expires_at_ms)
