"""A table of things by id, which can be walked while it changes.

Ids are `bytes` whose last byte is evenly spread; it names one of 256 dicts, so that no
dict ever grows so large that its resize stalls the loop (one dict of 1.4 million
entries: 66 ms; 256 dicts: never over 2 ms).

Walking gives the table as it stood when the walk began (copy on first touch): whoever
changes an entry calls `touch` first, which hands the old image to the walk if the walk
has not come by yet.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

V = TypeVar("V")
R = TypeVar("R")

SHARD_COUNT = 256


class Walk(Generic[V, R]):
    """One pass over a table, in slices; rows are made by `row_of`."""

    __slots__ = (
        "_items",
        "_row_of",
        "_seen",
        "_shard_no",
        "_table",
        "_touched",
        "done",
    )

    def __init__(self, table: Table[V], row_of: Callable[[bytes, V], R]) -> None:
        self._table = table
        self._row_of = row_of
        self._shard_no = -1
        self._items: Iterator[tuple[bytes, V]] = iter(())
        self._seen: list[set[bytes] | None] = [None] * SHARD_COUNT
        self._touched: list[R] = []
        self.done = False

    def touch(self, key: bytes) -> None:
        """The entry of `key` is about to change, to come or to go."""
        shard_no = key[-1]
        if shard_no < self._shard_no:
            return
        seen = self._seen[shard_no]
        if seen is None:
            seen = self._seen[shard_no] = set()
        elif key in seen:
            return
        seen.add(key)
        value = self._table.shards[shard_no].get(key)
        if value is not None:
            self._touched.append(self._row_of(key, value))

    def next_rows(self, rows_max: int) -> list[R]:
        """At most about `rows_max` rows more; empty when the walk is over."""
        rows = self._touched[-rows_max:]
        del self._touched[-rows_max:]
        while len(rows) < rows_max and not self.done:
            self._take_slice(rows, rows_max)
        return rows

    def _take_slice(self, rows: list[R], rows_max: int) -> None:
        seen = self._seen[self._shard_no] if self._shard_no >= 0 else None
        for key, value in self._items:
            if seen is not None:
                if key in seen:
                    continue
                seen.add(key)
            rows.append(self._row_of(key, value))
            if len(rows) >= rows_max:
                return
        self._next_shard()

    def _next_shard(self) -> None:
        if self._shard_no >= 0:
            self._seen[self._shard_no] = None
        self._shard_no += 1
        if self._shard_no == SHARD_COUNT:
            self.done = True
            self._table.walk = None
            return
        if self._seen[self._shard_no] is None:
            self._seen[self._shard_no] = set()
        self._items = iter(list(self._table.shards[self._shard_no].items()))


class Table(Generic[V]):
    """Invariant: while `walk` is set, every change of an entry is preceded by its `touch`."""

    __slots__ = ("shards", "walk")

    def __init__(self) -> None:
        self.shards: list[dict[bytes, V]] = [{} for _ in range(SHARD_COUNT)]
        self.walk: Walk[V, object] | None = None

    def get(self, key: bytes) -> V | None:
        return self.shards[key[-1]].get(key)

    def put(self, key: bytes, value: V) -> None:
        if self.walk is not None:
            self.walk.touch(key)
        self.shards[key[-1]][key] = value

    def remove(self, key: bytes) -> None:
        """The entry is gone. Raises: `KeyError` when there is none."""
        if self.walk is not None:
            self.walk.touch(key)
        del self.shards[key[-1]][key]

    def touch(self, key: bytes) -> None:
        """Call before changing the value of `key` in place."""
        if self.walk is not None:
            self.walk.touch(key)

    def begin_walk(self, row_of: Callable[[bytes, V], R]) -> Walk[V, R]:
        """A walk over the table as it stands now; one at a time."""
        walk: Walk[V, R] = Walk(self, row_of)
        self.walk = walk  # type: ignore[assignment]
        return walk

    def end_walk(self) -> None:
        self.walk = None

    def __len__(self) -> int:
        return sum(map(len, self.shards))

    def items(self) -> Iterator[tuple[bytes, V]]:
        for shard in self.shards:
            yield from shard.items()
