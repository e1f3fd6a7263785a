"""Snapshots while the node serves: when, in which slices, and how they become visible.

Theory. A snapshot is the state at the last index of a commit being sealed, when memory
equals it exactly (`begin`, at the end of a turn). The engine's walk copies on first
touch, so commands go on meanwhile. Rows are taken in slices of SNAPSHOT_SLICE_US with
the loop between; blocks are written by a thread of their own, at most
SNAPSHOT_BLOCKS_AHEAD of them ahead, paced by the log. Publishing and truncating are
calls to the log like commits, made between two of them, once the index is durable.

Must never publish before the index is durable, and never take the node down: a
snapshot that fails is given up, reported, and tried again later. Only a log that has lost
its way with it ends the term, as it would with the next commit.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import msgspec

from headrace.codec.rows import encode_rows
from headrace.log.base import Fenced, Lost, SnapshotInfo, SnapshotWriter
from headrace.model.env import IoThread
from headrace.model.limits import (
    SNAPSHOT_AGE_MS_MAX,
    SNAPSHOT_BLOCK_BYTES,
    SNAPSHOT_BLOCKS_AHEAD,
    SNAPSHOT_PAUSE_MS,
    SNAPSHOT_RETRY_MS,
    SNAPSHOT_SLICE_PAUSE_MS,
    SNAPSHOT_SLICE_US,
    SNAPSHOT_WAL_BYTES_MIN,
)
from headrace.model.rows import EndedRow, JobRow, RememberedRow, Row
from headrace.runtime.committer import Committer
from headrace.runtime.term import Term

NS_PER_MS = 1_000_000
_ROWS_A_STEP = 64
"""Rows between two looks at the clock."""
_ROW_BYTES = 200
"""About what a row takes beside what its weight counts."""


class SnapshotOptions(msgspec.Struct, frozen=True):
    """When the next snapshot is due, whichever comes first. Both need something new."""

    wal_bytes: int = SNAPSHOT_WAL_BYTES_MIN
    """And at least the size of the last snapshot."""
    age_ms: int = SNAPSHOT_AGE_MS_MAX


class Snapshots:
    """At most one snapshot at a time."""

    def __init__(
        self,
        term: Term,
        committer: Committer,
        thread: IoThread,
        options: SnapshotOptions,
        last_bytes: int,
    ) -> None:
        self._engine = term.engine
        self._log = term.log
        self._epoch = term.epoch
        self._committer = committer
        self._thread = thread
        self._clock = term.clock
        self._loop = term.loop
        self._options = options
        self._stats = term.stats
        self._report = term.report
        self._last_bytes = last_bytes
        self.wal_bytes = 0
        """Of the log since the newest snapshot, as of the last commit."""
        self._last_ns = term.clock.mono_ns()
        self._not_before_ns = 0
        self._run: _Run | None = None

    @property
    def running(self) -> bool:
        return self._run is not None

    def is_due(self) -> bool:
        """Enough was written, or enough time has passed, since the last one."""
        if self._run is not None or self.wal_bytes == 0:
            return False
        now_ns = self._clock.mono_ns()
        if now_ns < self._not_before_ns:
            return False
        return (
            self.wal_bytes > max(self._options.wal_bytes, self._last_bytes)
            or now_ns - self._last_ns > self._options.age_ms * NS_PER_MS
        )

    def begin(self) -> None:
        """A snapshot of the state as it is now is on its way.

        Only at the end of a turn, when all records of the engine are with the committer:
        a commit ends here, so that recovery goes on with the next one.
        """
        self._committer.seal_here()
        run = self._run = _Run(self._engine.begin_snapshot(), self._clock.mono_ns())
        self._committer.call(
            lambda: self._log.begin_snapshot(self._epoch, run.walk.index),
            lambda writer, error: self._writer_ready(run, writer, error),
        )

    def stop(self) -> None:
        """The snapshot under way is given up; nothing of it stays."""
        run = self._run
        if run is not None:
            self._give_up(run, None)

    def _writer_ready(
        self, run: _Run, writer: SnapshotWriter | None, error: BaseException | None
    ) -> None:
        run.writer = writer
        _end_term_on(error)
        if error is not None:
            self._give_up(run, error)
        elif run is not self._run:
            self._abort(run)
        else:
            self._slice(run)

    # --- rows to blocks

    def _slice_later(self, run: _Run, delay_s: float) -> None:
        if not run.slice_ahead:
            run.slice_ahead = True
            self._loop.call_later(delay_s, self._slice, run)

    def _slice(self, run: _Run) -> None:
        """About SNAPSHOT_SLICE_US of work, then the loop has its turn."""
        run.slice_ahead = False
        if run is not self._run or run.walked or len(run.blocks) >= SNAPSHOT_BLOCKS_AHEAD:
            return
        try:
            self._walk(run)
        except Exception as error:
            self._give_up(run, error)
            return
        self._write(run)
        if not run.walked:
            self._slice_later(run, SNAPSHOT_SLICE_PAUSE_MS / 1000)

    def _walk(self, run: _Run) -> None:
        until_ns = self._clock.mono_ns() + SNAPSHOT_SLICE_US * 1_000
        while len(run.blocks) < SNAPSHOT_BLOCKS_AHEAD and not run.walked:
            if not run.make_block():
                run.take(run.walk.next_rows(_ROWS_A_STEP))
            if self._clock.mono_ns() >= until_ns:
                return

    # --- blocks to the log

    def _write(self, run: _Run) -> None:
        """The next block is being written, or the snapshot is complete."""
        if run.writing or run is not self._run:
            return
        if run.blocks:
            writer, block = run.writer, run.blocks.popleft()
            assert writer is not None
            run.writing = True
            self._thread.submit(
                lambda: writer.write(block),
                lambda pause, error: self._written(run, pause, error),
            )
        elif run.walked:
            self._publish_when_durable(run)

    def _written(self, run: _Run, pause: bool | None, error: BaseException | None) -> None:
        run.writing = False
        if run is not self._run:
            self._abort(run)
        elif error is not None:
            self._give_up(run, error)
        else:
            self._loop.call_later(SNAPSHOT_PAUSE_MS / 1000 if pause else 0, self._write, run)
            self._slice_later(run, 0)

    def _publish_when_durable(self, run: _Run) -> None:
        if run.publishing:
            return
        if self._committer.durable_index < run.walk.index:
            self._loop.call_later(SNAPSHOT_PAUSE_MS / 1000, self._write, run)
            return
        run.publishing = True
        writer = run.writer
        assert writer is not None
        self._committer.call(
            lambda: self._publish(writer), lambda done, error: self._published(run, done, error)
        )

    def _publish(self, writer: SnapshotWriter) -> tuple[SnapshotInfo, int]:
        info = writer.publish()
        self._log.truncate(self._epoch, info.index)
        return info, self._log.wal_bytes()

    def _published(
        self, run: _Run, done: tuple[SnapshotInfo, int] | None, error: BaseException | None
    ) -> None:
        _end_term_on(error)
        if error is not None:
            self._give_up(run, error)
            return
        assert done is not None
        info, self.wal_bytes = done
        self._run = None
        self._last_bytes = info.size_bytes
        self._last_ns = self._clock.mono_ns()
        self._stats.snapshots += 1
        self._report(
            "snapshot_published",
            index=info.index,
            size_bytes=info.size_bytes,
            duration_ms=(self._last_ns - run.began_ns) // NS_PER_MS,
        )

    # --- giving up

    def _give_up(self, run: _Run, error: BaseException | None) -> None:
        if run is not self._run:
            return
        self._run = None
        self._not_before_ns = self._clock.mono_ns() + SNAPSHOT_RETRY_MS * NS_PER_MS
        run.walk.cancel()
        if error is not None:
            self._stats.snapshots_failed += 1
            self._report("snapshot_failed", index=run.walk.index, error=str(error))
        if not run.writing:
            self._abort(run)

    def _abort(self, run: _Run) -> None:
        """What was written is gone; the writer's own thread has ended its call by now."""
        writer, run.writer = run.writer, None
        if writer is not None:
            self._committer.call(writer.abort, _ignore)


class _Run:
    """One snapshot on its way."""

    def __init__(self, walk: Any, began_ns: int) -> None:
        self.walk = walk
        self.began_ns = began_ns
        self.writer: SnapshotWriter | None = None
        self.blocks: deque[bytes] = deque()
        self.walked = False
        """All rows are in blocks."""
        self.slice_ahead = False
        self.writing = False
        self.publishing = False
        self._rows: deque[Any] = deque()
        self._block: list[Any] = []
        self._block_bytes = 0

    def take(self, rows: list[Any]) -> None:
        """The walk's next rows; none: it is at its end."""
        self._rows.extend(rows)
        if not rows:
            self._encode()
            self.walked = True

    def make_block(self) -> bool:
        """One more block of the rows taken; False when they do not fill one."""
        while self._rows:
            row = self._rows.popleft()
            self._block.append(row)
            self._block_bytes += weight_of(row)
            if self._block_bytes >= SNAPSHOT_BLOCK_BYTES:
                self._encode()
                return True
        return False

    def _encode(self) -> None:
        if self._block:
            self.blocks.append(encode_rows(self._block))
            self._block = []
            self._block_bytes = 0


def weight_of(row: Row) -> int:
    """About the bytes of a row, without encoding it: blocks end after the row that fills them."""
    if type(row) is JobRow:
        return len(row.payload) + len(row.cold or b"") + _ROW_BYTES
    if type(row) is EndedRow:
        return len(row.packed)
    if type(row) is RememberedRow:
        return len(row.ids) + len(row.values)
    return _ROW_BYTES


def _end_term_on(error: BaseException | None) -> None:
    """Raises what no later call to this log can cure; the committer ends the term with it."""
    if isinstance(error, Lost | Fenced):
        raise error


def _ignore(result: object, error: BaseException | None) -> None:
    """An abort that fails leaves a file that the next start removes."""
