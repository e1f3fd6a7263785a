"""`FileLog`: the log in a directory of files.

Commit point: `fdatasync` of the active segment. Loss window: none; a commit is
acknowledged after that sync, and survives whatever the disk survives.

`open` looks and changes nothing but LOCK (and makes an empty log where none is); `lead`
mends what an unclean end left and takes a new epoch; after a failed write or sync the log
is poisoned: every later call raises, for the kernel may have dropped the pages it could
not write (`mending`).

Theory and format: `recovery_table`, `segment_format`, spec/wal-format.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from headrace.log.base import (
    Capabilities,
    Commit,
    Epoch,
    Fenced,
    LogInfo,
    Lost,
    Probe,
    Refused,
    SnapshotInfo,
    TailTooOld,
)
from headrace.log.file.current import Current, SegmentRef, SnapshotRef, write_current
from headrace.log.file.directory import check_directory, is_new, make_directories
from headrace.log.file.disk_io import reading
from headrace.log.file.layout import Layout, advise_copy
from headrace.log.file.lock import DirectoryLock
from headrace.log.file.mending import remove_leftovers, renew_tail
from headrace.log.file.probing import probe_disk
from headrace.log.file.recovery import Found, look, look_again, read_commits
from headrace.log.file.segment_format import FLAG_RECOVERED, NO_COMMIT_ID, commit_bytes
from headrace.log.file.segment_reader import SegmentEnd, SegmentFiles
from headrace.log.file.segment_writer import marker
from headrace.log.file.snapshot_file import FileSnapshot, SnapshotHeader
from headrace.log.file.snapshot_shelf import (
    drop_snapshots,
    newest_snapshot,
    publish_snapshot,
    remove_unlisted_snapshots,
    truncate,
)
from headrace.log.file.snapshot_writer import FileSnapshotWriter
from headrace.log.file.wal_writer import NO_SEGMENT, WalWriter, refusing_full_disk
from headrace.model.env import LogEnv
from headrace.model.errors import (
    DiskFailed,
    LogCorrupt,
    LogTailLost,
    NoSnapshot,
    SyncFailed,
    UnsafeDirectory,
    invariant,
)
from headrace.model.limits import (
    COMMIT_BODY_BYTES_MAX,
    DISK_RESERVE_BYTES,
    SEGMENT_BYTES_DEFAULT,
    SEGMENT_BYTES_FLOOR,
)

ROOM_SEGMENTS = 2
"""Segments that must find room when new jobs are refused."""
_ID_BYTES = 16
_NONCE_BYTES = 8


class FileLog:
    capabilities = Capabilities(durable=True, hot_standby=False)

    def __init__(
        self,
        env: LogEnv,
        directory: str,
        *,
        segment_bytes: int = SEGMENT_BYTES_DEFAULT,
        machine_version: int = 1,
    ) -> None:
        """`directory` is an absolute path; `machine_version` is noted in what is written."""
        invariant(directory.startswith("/"), "the path is absolute", directory=directory)
        invariant(
            segment_bytes >= SEGMENT_BYTES_FLOOR, "segments have room", segment_bytes=segment_bytes
        )
        self._env = env
        self._disk = env.disk
        self._layout = Layout(directory.rstrip("/") or "/")
        self._segment_bytes = segment_bytes
        self._machine_version = machine_version
        self._lock: DirectoryLock | None = None
        self._found: Found | None = None
        """What `open` saw; until `lead` it is what the log consists of."""
        self._writer: WalWriter | None = None
        self._epoch: Epoch | None = None
        self._snapshot_writers: list[FileSnapshotWriter] = []
        """Those on their way, and perhaps some that have ended."""
        self._last_commit_id = NO_COMMIT_ID
        self._wal_bytes = 0
        self._poison: Lost | None = None

    # --- opening and closing

    def open(self, *, read_only: bool = False) -> LogInfo:
        invariant(self._found is None and self._writer is None, "the log is not open yet")
        try:
            found, created = (self._look_live(), False) if read_only else self._take()
            self._found = found
            self._last_commit_id = found.last_commit_id
            self._wal_bytes = self._wal_bytes_on_disk()
        except OSError as error:
            self.abandon()
            raise DiskFailed(
                f"cannot open {self._layout.root}: {error.strerror or error}.",
                hint="Check that this user may write there, and the disk (`dmesg`).",
            ) from error
        except BaseException:
            self.abandon()
            raise
        cluster_id, node_id = found.current.ids
        return LogInfo(
            format_version=found.current.format,
            cluster_id=cluster_id,
            node_id=node_id,
            created=created,
            clean=found.clean,
            dropped_bytes=len(found.torn),
            first_index=self._first_index,
            last_index=self._end.index,
        )

    def _take(self) -> tuple[Found, bool]:
        """The directory is ours and what it holds is known; True when it was new."""
        layout = self._layout
        with refusing_full_disk(layout):
            if self._disk.stat(layout.root) is None:
                make_directories(self._env, layout)
            check_directory(self._env, layout)
            self._lock = DirectoryLock(self._env, layout)
            created = is_new(self._disk, layout)
            make_directories(self._env, layout)
            if created:
                write_current(self._disk, layout, self._new_current())
        return look(self._disk, layout), created

    def _new_current(self) -> Current:
        entropy = self._env.entropy
        return Current(
            cluster_id=entropy.random_bytes(_ID_BYTES).hex(),
            node_id=entropy.random_bytes(_ID_BYTES).hex(),
        )

    def _look_live(self) -> Found:
        try:
            return look_again(self._disk, self._layout)
        except FileNotFoundError as error:
            raise UnsafeDirectory(
                f"{self._layout.root} holds no headrace data: {error.filename} is missing.",
                hint="Check the path.",
            ) from error

    def close(self) -> None:
        try:
            if self._writer is not None and self._poison is None:
                self._writer.finish()
        except (OSError, Refused):
            # Every commit is durable already. Without the mark the next start is an unclean
            # one, which costs it a copy of the tail and nothing else.
            pass
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Descriptors and lock are free and nothing was written: as a killed process leaves it."""
        writer, lock = self._writer, self._lock
        self._writer = self._lock = self._found = self._epoch = None
        while self._snapshot_writers:
            self._snapshot_writers.pop().release()
        if writer is not None:
            writer.close()
        if lock is not None:
            lock.release()

    # --- leading

    def lead(self, node: str) -> Epoch:
        invariant(self._lock is not None, "only a log that is open for writing is led")
        self._check_alive()
        with self._writing():
            if self._found is None:
                return self._take_epoch(node)
            try:
                return self._start(node, self._found)
            except Refused:
                self._forget_start()
                raise

    def _forget_start(self) -> None:
        """`lead` may be called again, on what is there now."""
        if self._writer is not None:
            self._writer.close()
        self._writer = self._epoch = None
        self._found = look(self._disk, self._layout)

    def _start(self, node: str, found: Found) -> Epoch:
        with refusing_full_disk(self._layout):
            writer = self._writer = WalWriter(
                self._env,
                self._layout,
                found.current,
                found.end or NO_SEGMENT,
                segment_bytes=self._segment_bytes,
                machine_version=self._machine_version,
            )
        remove_leftovers(self._disk, self._layout, found)
        remove_unlisted_snapshots(self._disk, self._layout, found.current)
        epoch = self._take_epoch(node, found)
        if found.tail is not None and found.clean:
            writer.resume(found.segments[-1], found.tail)
        else:
            self._start_fresh(epoch, found, writer)
        self._found = None
        return epoch

    def _take_epoch(self, node: str, found: Found | None = None) -> Epoch:
        assert self._writer is not None
        current = self._writer.current
        number = max(current.epoch_number, found.epoch_max if found else 0) + 1
        epoch = Epoch(number, self._env.entropy.random_bytes(_NONCE_BYTES))
        self._writer.publish(
            epoch_number=number,
            epoch_nonce=epoch.nonce.hex(),
            leader=node,
            clean=False,
            segments=found.segments if found else current.segments,
        )
        self._epoch = epoch
        return epoch

    def _start_fresh(self, epoch: Epoch, found: Found, writer: WalWriter) -> None:
        """Commits go to a new segment; the end of an unclean log is sealed before it."""
        now_ms = self._env.clock.wall_ms()
        if found.tail is not None:
            ref = found.segments[-1]
            with refusing_full_disk(self._layout):
                end = renew_tail(self._disk, self._layout, ref, found.tail, epoch, now_ms)
            writer.continue_from(end)
        writer.rotate(epoch, now_ms)
        if found.tail is not None:
            said = msgspec.json.encode(
                {
                    "boot_id": self._env.host.boot_id(),
                    "epoch": epoch.number,
                    "dropped_bytes": len(found.torn),
                }
            )
            writer.append(epoch, marker(writer.last_index + 1, now_ms, said), FLAG_RECOVERED)

    # --- writing

    def append(self, epoch: Epoch, commit: Commit) -> int:
        writer = self._leading(epoch)
        if commit.commit_id == self._last_commit_id:
            return writer.last_index
        _check_commit(commit, writer.last_index + 1)
        with self._writing():
            writer.append(epoch, commit)
        self._last_commit_id = commit.commit_id
        self._wal_bytes += commit_bytes(len(commit.body))
        return writer.last_index

    def begin_snapshot(self, epoch: Epoch, index: int) -> FileSnapshotWriter:
        writer = self._leading(epoch)
        cluster_id, node_id = writer.current.ids
        header = SnapshotHeader(
            machine_version=self._machine_version,
            index=index,
            epoch_number=epoch.number,
            cluster_id=cluster_id,
            node_id=node_id,
            salt=self._env.entropy.random_bytes(_ID_BYTES),
            created_at_ms=self._env.clock.wall_ms(),
        )
        begun_at_bytes = self._wal_bytes

        def make_visible(ref: SnapshotRef) -> SnapshotRef:
            leading = self._leading(epoch)
            with self._writing():
                visible = publish_snapshot(self._disk, self._layout, leading, ref)
            self._wal_bytes -= begun_at_bytes
            return visible

        with self._writing():
            begun = FileSnapshotWriter(self._disk, self._layout, header, make_visible)
        self._snapshot_writers = [one for one in self._snapshot_writers if one.is_open]
        self._snapshot_writers.append(begun)
        return begun

    def truncate(self, epoch: Epoch, before: int) -> int:
        writer = self._leading(epoch)
        with self._writing():
            truncate(self._disk, self._layout, writer, before)
        return self._first_index

    def idle(self) -> None:
        if self._writer is not None:
            self._check_alive()
            with self._writing():
                self._writer.idle()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Within it an `OSError` is `Lost`, and nothing is ever written again."""
        try:
            yield
        except OSError as error:
            failed = SyncFailed(
                f"the disk of {self._layout.root} failed: {error.strerror or error}.",
                hint="Check the disk (`dmesg`), then start again: recovery tells what survived.",
            )
            failed.__cause__ = error
            self._poison = Lost(
                f"{failed.message} It cannot be known what was written.", hint=failed.hint
            )
            raise self._poison from failed

    def _check_alive(self) -> None:
        if self._poison is not None:
            raise Lost(self._poison.message, hint=self._poison.hint) from self._poison.__cause__

    def _leading(self, epoch: Epoch) -> WalWriter:
        self._check_alive()
        if self._writer is None or epoch != self._epoch:
            held = self._epoch.number if self._epoch else "none"
            raise Fenced(f"epoch {epoch.number} does not lead this log; {held} does.")
        return self._writer

    # --- reading

    def recover(self) -> tuple[FileSnapshot | None, Iterator[Commit]]:
        self._check_alive()
        ref, damaged = newest_snapshot(self._disk, self._layout, self._current)
        index = ref.index if ref else 0
        if self._segments and self._segments[0].first_index > index + 1:
            raise NoSnapshot(
                f"no snapshot in {self._layout.snapshots} can be used for the log, which begins "
                f"at index {self._first_index}.",
                hint=advise_copy(self._layout.root),
            )
        if index > self._end.index:
            raise LogTailLost(
                f"the log in {self._layout.wal} ends at index {self._end.index}, but the "
                f"snapshot of index {index} was published after that index was durable.",
                hint=advise_copy(self._layout.root),
            )
        if self._writer is not None and damaged:
            with self._writing():
                drop_snapshots(self._disk, self._layout, self._writer, damaged)
        snapshot = FileSnapshot(self._disk, ref.path(self._layout), ref) if ref else None
        return snapshot, self._commits_after(index)

    def _commits_after(self, index: int) -> Iterator[Commit]:
        """All of them: a snapshot of an index inside a commit would leave some out."""
        expected, end_index = index + 1, self._end.index
        for commit in self._read(expected):
            if commit.first_index != expected:
                break
            expected += commit.record_count
            yield commit
        if expected != end_index + 1:
            raise LogCorrupt(
                f"the log in {self._layout.wal} has no commit that begins at index {expected}, "
                f"though it ends at index {end_index}.",
                hint=advise_copy(self._layout.root),
            )

    def tail(self, from_index: int) -> Iterator[Commit]:
        self._check_alive()
        if from_index < self._first_index:
            raise TailTooOld(
                f"index {from_index} has been truncated; the log begins at {self._first_index}."
            )
        return self._read(from_index)

    def _read(self, from_index: int) -> Iterator[Commit]:
        files = SegmentFiles(self._disk, self._layout, self._current.ids)
        return read_commits(files, self._segments, from_index, self._end.commit_no)

    def snapshots(self) -> list[SnapshotInfo]:
        return [ref.info() for ref in self._current.snapshots]

    # --- measures

    def wal_bytes(self) -> int:
        return self._wal_bytes

    def _wal_bytes_on_disk(self) -> int:
        """Used bytes of the segments after the one that holds the newest snapshot's index."""
        snapshots = self._current.snapshots
        index = snapshots[-1].index if snapshots else 0
        total = 0
        for ref in self._segments[:-1]:
            found = self._disk.stat(ref.path(self._layout))
            total += found.size_bytes if found and ref.first_index > index else 0
        return total + self._end.offset

    def room(self) -> int:
        snapshots = self._current.snapshots
        snapshot_bytes = (snapshots[-1].size_bytes if snapshots else 0) + self._wal_bytes
        needed = snapshot_bytes + ROOM_SEGMENTS * self._segment_bytes + DISK_RESERVE_BYTES
        with reading(self._layout.root):
            return self._disk.free_bytes(self._layout.root) - needed

    def probe(self) -> Probe:
        return probe_disk(self._env, self._layout)

    # --- what the log consists of, before and after `lead`

    @property
    def _current(self) -> Current:
        if self._writer is not None:
            return self._writer.current
        invariant(self._found is not None, "the log is open")
        assert self._found is not None
        return self._found.current

    @property
    def _segments(self) -> tuple[SegmentRef, ...]:
        return self._found.segments if self._found else self._current.segments

    @property
    def _end(self) -> SegmentEnd:
        if self._writer is not None:
            return self._writer.end
        return (self._found.end if self._found else None) or NO_SEGMENT

    @property
    def _first_index(self) -> int:
        return self._segments[0].first_index if self._segments else self._end.index + 1


def _check_commit(commit: Commit, next_index: int) -> None:
    invariant(
        commit.first_index == next_index,
        "a commit begins where the one before it ended",
        first_index=commit.first_index,
        next_index=next_index,
    )
    invariant(
        len(commit.body) <= COMMIT_BODY_BYTES_MAX,
        "a commit is not larger than its limit",
        body_bytes=len(commit.body),
    )
    invariant(
        len(commit.commit_id) == _ID_BYTES and commit.commit_id != NO_COMMIT_ID,
        "a commit has an id",
    )
