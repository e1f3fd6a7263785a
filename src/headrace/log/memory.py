"""`MemoryLog`: the contract of a log, kept in memory: for tests, and as its shortest reading.

Commit point: the return of `append`. Loss window: everything, when the process ends.
`MemoryStore` is what another log keeps on its disk: a second `MemoryLog` on the same store
is a restart, and `crash` is the end of a process that did not close.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from headrace.log.base import (
    Capabilities,
    Commit,
    Epoch,
    Fenced,
    LogInfo,
    Probe,
    SnapshotInfo,
    TailTooOld,
)
from headrace.model.env import LogEnv
from headrace.model.errors import Locked, invariant
from headrace.model.limits import COMMIT_BODY_BYTES_MAX, SNAPSHOT_BLOCK_BYTES_MAX, SNAPSHOTS_KEPT

FORMAT_VERSION = 1
_ROOM_BYTES = 1 << 60
_ID_BYTES = 16
_NONCE_BYTES = 8


class MemorySnapshot(msgspec.Struct, frozen=True):
    info: SnapshotInfo
    content: tuple[bytes, ...]

    def blocks(self) -> Iterator[bytes]:
        yield from self.content


class MemoryStore:
    """What outlives a `MemoryLog`."""

    def __init__(self, env: LogEnv) -> None:
        self.cluster_id = env.entropy.random_bytes(_ID_BYTES)
        self.node_id = env.entropy.random_bytes(_ID_BYTES)
        self.commits: list[Commit] = []
        self.first_index = 1
        self.last_index = 0
        self.last_commit_id = b""
        self.snapshots: list[MemorySnapshot] = []
        self.epoch_number = 0
        self.holder: MemoryLog | None = None
        self.closed_clean = True
        self.used = False

    def crash(self) -> None:
        """The process that held it is gone, and closed nothing."""
        self.holder = None


class MemoryLog:
    capabilities = Capabilities(durable=False, hot_standby=False)

    def __init__(self, env: LogEnv, store: MemoryStore | None = None) -> None:
        self._env = env
        self.store = store or MemoryStore(env)
        self._epoch: Epoch | None = None
        self._wal_bytes = 0

    def open(self, *, read_only: bool = False) -> LogInfo:
        store = self.store
        if not read_only:
            if store.holder is not None:
                host = self._env.host
                raise Locked(
                    f"this store is in use by process {host.pid()} on host {host.hostname()}.",
                    pid=host.pid(),
                    host=host.hostname(),
                )
            store.holder = self
        info = LogInfo(
            format_version=FORMAT_VERSION,
            cluster_id=store.cluster_id,
            node_id=store.node_id,
            created=not store.used,
            clean=store.closed_clean,
            dropped_bytes=0,
            first_index=store.first_index,
            last_index=store.last_index,
        )
        store.used = store.used or not read_only
        return info

    def lead(self, node: str) -> Epoch:
        invariant(self.store.holder is self, "only a log that is open for writing is led")
        self.store.epoch_number += 1
        self.store.closed_clean = False
        self._epoch = Epoch(self.store.epoch_number, self._env.entropy.random_bytes(_NONCE_BYTES))
        return self._epoch

    def recover(self) -> tuple[MemorySnapshot | None, Iterator[Commit]]:
        snapshot = self.store.snapshots[-1] if self.store.snapshots else None
        return snapshot, self.tail(snapshot.info.index + 1 if snapshot else 1)

    def append(self, epoch: Epoch, commit: Commit) -> int:
        store = self._leading(epoch)
        if commit.commit_id == store.last_commit_id:
            return store.last_index
        invariant(
            commit.first_index == store.last_index + 1,
            "a commit begins where the one before it ended",
            first_index=commit.first_index,
            next_index=store.last_index + 1,
        )
        invariant(
            len(commit.body) <= COMMIT_BODY_BYTES_MAX, "a commit is not larger than its limit"
        )
        store.commits.append(commit)
        store.last_commit_id = commit.commit_id
        store.last_index += commit.record_count
        self._wal_bytes += len(commit.body)
        return store.last_index

    def _leading(self, epoch: Epoch) -> MemoryStore:
        if epoch != self._epoch or self.store.holder is not self:
            held = self._epoch.number if self._epoch else "none"
            raise Fenced(f"epoch {epoch.number} does not lead this log; {held} does.")
        return self.store

    def tail(self, from_index: int) -> Iterator[Commit]:
        if from_index < self.store.first_index:
            raise TailTooOld(
                f"index {from_index} has been truncated; the log begins at "
                f"{self.store.first_index}."
            )
        found = [commit for commit in self.store.commits if commit.first_index >= from_index]
        return iter(found)

    def begin_snapshot(self, epoch: Epoch, index: int) -> MemorySnapshotWriter:
        self._leading(epoch)
        return MemorySnapshotWriter(self, epoch, index, self._wal_bytes)

    def publish_snapshot(
        self, epoch: Epoch, snapshot: MemorySnapshot, begun_at_bytes: int
    ) -> SnapshotInfo:
        """For `MemorySnapshotWriter`."""
        store = self._leading(epoch)
        last = store.snapshots[-1].info if store.snapshots else None
        invariant(snapshot.info.index <= store.last_index, "its index is durable")
        invariant(last is None or last.index <= snapshot.info.index, "snapshots come in order")
        self._wal_bytes -= begun_at_bytes
        if last is not None and last.index == snapshot.info.index:
            return last
        store.snapshots.append(snapshot)
        return snapshot.info

    def truncate(self, epoch: Epoch, before: int) -> int:
        store = self._leading(epoch)
        if len(store.snapshots) >= SNAPSHOTS_KEPT:
            store.snapshots = store.snapshots[-SNAPSHOTS_KEPT:]
            floor = min(before, store.snapshots[0].info.index + 1)
            store.commits = [
                commit
                for commit in store.commits
                if commit.first_index + commit.record_count > floor
            ]
            kept = store.commits[0].first_index if store.commits else store.last_index + 1
            store.first_index = max(store.first_index, kept)
        return store.first_index

    def snapshots(self) -> list[SnapshotInfo]:
        return [snapshot.info for snapshot in self.store.snapshots]

    def wal_bytes(self) -> int:
        return self._wal_bytes

    def room(self) -> int:
        return _ROOM_BYTES

    def idle(self) -> None:
        return

    def probe(self) -> Probe:
        return Probe(
            ok=True,
            message="this log is in memory: nothing survives the end of the process.",
            sync_p50_ms=0.0,
            sync_p99_ms=0.0,
        )

    def close(self) -> None:
        if self.store.holder is self:
            self.store.holder = None
            self.store.closed_clean = True
        self._epoch = None


class MemorySnapshotWriter:
    def __init__(self, log: MemoryLog, epoch: Epoch, index: int, begun_at_bytes: int) -> None:
        self._log = log
        self._epoch = epoch
        self._index = index
        self._begun_at_bytes = begun_at_bytes
        self._blocks: list[bytes] = []

    def write(self, block: bytes) -> bool:
        invariant(
            0 < len(block) <= SNAPSHOT_BLOCK_BYTES_MAX,
            "a block is neither empty nor too large",
            block_bytes=len(block),
        )
        self._blocks.append(block)
        return False

    def publish(self) -> SnapshotInfo:
        size_bytes = sum(map(len, self._blocks))
        info = SnapshotInfo(self._index, self._epoch.number, size_bytes)
        snapshot = MemorySnapshot(info, tuple(self._blocks))
        return self._log.publish_snapshot(self._epoch, snapshot, self._begun_at_bytes)

    def abort(self) -> None:
        self._blocks.clear()
