"""The log interface: commits in, commits out, never a job in sight.

One conformance suite, `headrace.testing.log_suite`, judges every implementation.
Differences between logs are `Capabilities`, never a test of a log's name.

All methods block; the runtime calls them from one thread at a time (its I/O thread once
the log leads), so an implementation needs no locks of its own. The one exception is
`SnapshotWriter.write`, which runs on a thread of its own beside appends.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import msgspec

from headrace.model.errors import HeadraceError


class Epoch(msgspec.Struct, frozen=True, array_like=True):
    """The active writer of a log: strictly growing number, and a nonce of its own."""

    number: int
    nonce: bytes
    """8 random bytes: two nodes that both believe in the same number still differ."""


class Commit(msgspec.Struct, frozen=True):
    """Records that become durable together: the unit of atomicity and of fsync.

    Invariant: `first_index` is the last index of the commit before, plus one.
    """

    commit_id: bytes
    """16 bytes, unique for ever: repeating an append with the same id is harmless."""

    first_index: int
    """Index of its first record; indices count records, from 1."""

    record_count: int
    """Records in `body`; 0 is allowed (a seal or a marker) and uses up no index."""

    now_ms: int
    """Log time when it was sealed."""

    body: bytes
    """The records, encoded; at most `COMMIT_BODY_BYTES_MAX`. Opaque to every log."""


class SnapshotInfo(msgspec.Struct, frozen=True):
    index: int
    """Last index whose record is part of the state in it."""

    epoch_number: int
    size_bytes: int


class Snapshot(Protocol):
    """A published snapshot, verified before `recover` returned it."""

    @property
    def info(self) -> SnapshotInfo: ...

    def blocks(self) -> Iterator[bytes]:
        """Its blocks, in the order in which they were saved."""


class SnapshotWriter(Protocol):
    """A snapshot on its way. A crash before `publish` has returned leaves nothing visible."""

    def write(self, block: bytes) -> bool:
        """Append one block of at most `SNAPSHOT_BLOCK_BYTES_MAX`.

        True asks the caller to pause for `SNAPSHOT_PAUSE_MS` before the next block, so
        that commits stay fast: a log has no timers of its own. The one call that may run
        on another thread, beside `append`. Raises: `Refused` (the disk is full).
        """

    def publish(self) -> SnapshotInfo:
        """A later `recover` may start from it. Its index must be durable by now.

        Of two snapshots of one index the first stays. Raises: `Fenced`; `Refused` (the disk
        is full; the snapshot is gone).
        """

    def abort(self) -> None:
        """What was written is gone. Harmless after `publish`."""


class LogInfo(msgspec.Struct, frozen=True):
    """What `open` found."""

    format_version: int
    cluster_id: bytes
    node_id: bytes
    created: bool
    """True when `open` made a new, empty log."""

    clean: bool
    """True when the last writer closed it, or when it is new."""

    dropped_bytes: int
    """Bytes of a torn tail that recovery set aside (0 nearly always)."""

    first_index: int = 1
    """The lowest index that `tail` can start from."""

    last_index: int = 0
    """The last durable index; 0 when there is none."""


class Capabilities(msgspec.Struct, frozen=True):
    durable: bool
    """An acknowledged append survives a crash of the process."""

    hot_standby: bool
    """Another node may `tail` while this one leads."""


class Probe(msgspec.Struct, frozen=True):
    """Whether this store keeps what it acknowledges."""

    ok: bool
    message: str
    """What is wrong and what to set; `` when nothing is worth saying."""

    sync_p50_ms: float
    sync_p99_ms: float


class LogError(HeadraceError):
    """A log could not do what was asked."""


class Fenced(LogError):
    """Another epoch leads. Discard the engine: what it holds may not be the truth."""


class Refused(LogError):
    """Certainly not written (for example: the disk is full). Nothing changed."""


class Lost(LogError):
    """Cannot be known whether it was written. Discard the engine, recover, and look."""


class TailTooOld(LogError):
    """The index asked for has been truncated; start from a snapshot."""


class Log(Protocol):
    """Where commits become durable. Each implementation names its commit point and loss window."""

    capabilities: Capabilities

    def open(self, *, read_only: bool = False) -> LogInfo:
        """The log is this process's (locked), or is open for reading without a lock.

        Raises: `Locked` with pid and host of the holder; `FormatNewer`; `LogCorrupt`
        and its relatives when what is stored cannot be trusted.
        """

    def lead(self, node: str) -> Epoch:
        """An epoch above every earlier one is durable and ours."""

    def recover(self) -> tuple[Snapshot | None, Iterator[Commit]]:
        """The newest valid snapshot, and every commit after it, verified, in order.

        The iterator raises what `open` may raise, when it meets damage.
        """

    def append(self, epoch: Epoch, commit: Commit) -> int:
        """The commit is durable; returns the index of its last record.

        Repeating the last append (same `commit_id`) returns the same index and writes
        nothing. Raises: `Fenced`, `Refused`, `Lost`.
        """

    def tail(self, from_index: int) -> Iterator[Commit]:
        """Durable commits whose records begin at or after `from_index`. Raises: `TailTooOld`."""

    def begin_snapshot(self, epoch: Epoch, index: int) -> SnapshotWriter:
        """A writer for a snapshot of state at `index`; nothing is visible until it publishes."""

    def truncate(self, epoch: Epoch, before: int) -> int:
        """Records below `before` may be forgotten; returns the first index kept.

        Keeps two snapshots and every commit after the older of them, whatever is asked.
        """

    def snapshots(self) -> list[SnapshotInfo]:
        """Published snapshots, oldest first."""

    def wal_bytes(self) -> int:
        """Bytes of commits written since the newest snapshot: when to take the next."""

    def room(self) -> int:
        """Bytes that commits may still take before new jobs must be refused (<= 0: refuse now).

        Below it lies what acks, a snapshot and two segments need.
        """

    def idle(self) -> None:
        """Nothing waits for the disk: work that may be done at leisure has been done.

        The runtime calls it when the last commit of a burst is durable.
        """

    def probe(self) -> Probe:
        """Whether acknowledged appends survive here; measured, and changes nothing."""

    def close(self) -> None:
        """Everything appended is durable, the end is marked clean, the lock is free."""
