"""Mistakes in the file log: syncs and their order, recovery, full and failing disks, the lock."""

from __future__ import annotations

from proof.mutants.catchers import (
    EXPLORER,
    LOG_FAULTS,
    LOG_SUITE,
    N_LOOP,
    RECOVERY_TABLE,
    WAL,
    pointed,
)
from proof.mutants.mutant import Mutant

_DAMAGE = "recovery/test_damage.py"
_FAULTS = "recovery/test_faults.py"

SYNCS = (
    Mutant(
        name="no-sync-after-append",
        mistake="A commit is acknowledged from the page cache.",
        shipped_by="NATS JetStream (nats#7564): 14 % of acknowledged messages lost to Jepsen",
        path="log/file/segment_writer.py",
        old="        self._disk.fdatasync(self._fd)\n        self.offset +=",
        new="        self.offset +=",
        breaks="I1, I13, contract 1",
        catchers=(EXPLORER, WAL, LOG_SUITE),
    ),
    Mutant(
        name="sync-tried-again",
        mistake="A failed fdatasync is repeated, and its second answer believed.",
        shipped_by="PostgreSQL until 10.7 (fsyncgate); every store of Rebello et al., ATC 2020",
        path="log/file/segment_writer.py",
        old="        self._disk.fdatasync(self._fd)\n        self.offset +=",
        new="""\
        try:
            self._disk.fdatasync(self._fd)
        except OSError:
            self._disk.fdatasync(self._fd)
        self.offset +=""",
        breaks="I1, I13",
        catchers=(pointed(_FAULTS, "test_failed_sync_is_never_repeated"), LOG_FAULTS),
    ),
    Mutant(
        name="writes-on-after-a-failed-sync",
        mistake="After a failed sync the log takes the next commit as if nothing had been.",
        shipped_by="Redis, LevelDB (Rebello et al., ATC 2020)",
        path="log/file/log.py",
        old="""\
            self._poison = Lost(
                f"{failed.message} It cannot be known what was written.", hint=failed.hint
            )
            raise self._poison from failed
""",
        new="""\
            lost = Lost(
                f"{failed.message} It cannot be known what was written.", hint=failed.hint
            )
            raise lost from failed
""",
        breaks="I1, I13",
        catchers=(
            N_LOOP,
            LOG_FAULTS,
        ),
    ),
    Mutant(
        name="watermark-before-data",
        mistake="The watermark names a commit before it is durable: a torn tail stops the start.",
        path="log/file/wal_writer.py",
        old="        active.write(epoch, commit, flags)\n        self._note_durable(active)\n",
        new="""\
        self._mark(Watermark(active.commit_no + 1, active.index + commit.record_count))
        self._watermark.sync()
        active.write(epoch, commit, flags)
""",
        breaks="I15",
        catchers=(
            EXPLORER,
            WAL,
        ),
    ),
    Mutant(
        name="watermark-in-one-slot",
        mistake="The watermark is written over itself: a torn write leaves none.",
        path="log/file/watermark.py",
        old="            self._slot = 1 - self._slot\n",
        new="",
        breaks="I15",
        catchers=(pointed("unit/log/test_small_files.py", "test_last_synced_watermark"),),
    ),
    Mutant(
        name="renamed-before-synced",
        mistake="A small file is renamed into its place before its content is durable.",
        shipped_by="the ext4 zero-length files of 2009; rename without fsync in many stores",
        path="log/file/disk_io.py",
        old="            offset += len(chunk)\n        disk.fdatasync(fd)\n",
        new="            offset += len(chunk)\n",
        breaks="I1, I15",
        catchers=(
            EXPLORER,
            WAL,
        ),
    ),
    Mutant(
        name="segment-name-not-synced",
        mistake="A new segment takes commits before its name is durable.",
        shipped_by="etcd#6368: acknowledged data lost",
        path="log/file/wal_writer.py",
        old="        self._disk.fsync_dir(self._layout.wal)\n        size_bytes,",
        new="        size_bytes,",
        breaks="I1, contract 1",
        catchers=(
            EXPLORER,
            WAL,
        ),
    ),
    Mutant(
        name="rename-not-synced",
        mistake="CURRENT is replaced and its directory not synced: the old one comes back.",
        shipped_by="etcd#6368",
        path="log/file/disk_io.py",
        old='    disk.rename(f"{directory}/{name}{TEMPORARY}", f"{directory}/{name}")\n'
        "    disk.fsync_dir(directory)\n",
        new='    disk.rename(f"{directory}/{name}{TEMPORARY}", f"{directory}/{name}")\n',
        breaks="I1, I15",
        catchers=(
            EXPLORER,
            WAL,
        ),
    ),
    Mutant(
        name="new-directories-not-synced",
        mistake="The directories of a new log are gone after a crash, and all commits with them.",
        shipped_by="etcd#6368",
        path="log/file/directory.py",
        old="    env.disk.fsync_dir(layout.root)\n",
        new="",
        breaks="I1, contract 1",
        catchers=(
            EXPLORER,
            WAL,
        ),
    ),
    Mutant(
        name="header-synced-after-its-name",
        mistake="A segment gets its name before its header is durable.",
        path="log/file/wal_writer.py",
        old="""\
        self._disk.fdatasync(fd)
        self._disk.rename(self._layout.spare, path)
        self._disk.fsync_dir(self._layout.wal)
""",
        new="""\
        self._disk.rename(self._layout.spare, path)
        self._disk.fsync_dir(self._layout.wal)
""",
        breaks="I1, I15",
        catchers=(
            EXPLORER,
            WAL,
        ),
    ),
    Mutant(
        name="snapshot-visible-before-synced",
        mistake="A snapshot counts before its bytes are durable.",
        shipped_by="etcd's snapshots written in place",
        path="log/file/snapshot_writer.py",
        old="        self._put(self._trailer())\n        self._sync()\n",
        new="        self._put(self._trailer())\n",
        breaks="I12, I15",
        catchers=(
            EXPLORER,
            WAL,
        ),
    ),
    Mutant(
        name="found-seal-not-synced",
        mistake="A seal read from the cache of a killed process is taken for durable.",
        shipped_by="Rebello et al., ATC 2020",
        path="log/file/mending.py",
        old="        if tail.sealed:\n            disk.fdatasync(fd)\n",
        new="        if tail.sealed:\n            pass\n",
        breaks="I1, I15",
        catchers=(EXPLORER, WAL, pointed(_FAULTS, "test_seal_read_from_the_cache")),
    ),
)

RECOVERY = (
    Mutant(
        name="cut-at-the-first-bad-checksum",
        mistake="A bad commit with good ones behind it is taken for a torn tail: all are dropped.",
        shipped_by="NATS JetStream: 49.7 % of acknowledged messages lost to one flipped bit",
        path="log/file/recovery_table.py",
        old="        (_Y, _Y, _Y, _N, _N, _Y, _Y, _any, _any, _any),\n        Verdict.BAD_COMMIT,",
        new="        (_Y, _Y, _Y, _N, _N, _Y, _Y, _any, _any, _any),\n        Verdict.CUT,",
        reached_at="    return _look_up(SEGMENT_CASES, msgspec.structs.astuple(facts))",
        breaks="I1, contract 1",
        catchers=(WAL, RECOVERY_TABLE),
    ),
    Mutant(
        name="lost-tail-not-missed",
        mistake="A log that ends before its watermark is started as if it had always been so.",
        shipped_by="raft-wal: loss of the whole tail file is not detectable",
        path="log/file/recovery_table.py",
        old="        (_Y, _Y, _Y, _N, _N, _Y, _N, _Y, _any, _any),\n        Verdict.TAIL_LOST,",
        new="        (_Y, _Y, _Y, _N, _N, _Y, _N, _Y, _any, _any),\n        Verdict.CUT,",
        reached_at="    return _look_up(SEGMENT_CASES, msgspec.structs.astuple(facts))",
        breaks="I1, I15",
        catchers=(WAL, RECOVERY_TABLE),
    ),
    Mutant(
        name="commits-behind-a-gap-deleted",
        mistake="A segment with commits that CURRENT does not list is deleted.",
        shipped_by="Prometheus's repair of its WAL",
        path="log/file/recovery_table.py",
        old="        (_Y, _Y, _Y, _Y),\n        StrayVerdict.ADOPT,",
        new="        (_Y, _Y, _Y, _Y),\n        StrayVerdict.DELETE,",
        reached_at="    return _look_up(STRAY_CASES, msgspec.structs.astuple(facts))",
        breaks="I1",
        catchers=(RECOVERY_TABLE,),
    ),
    Mutant(
        name="wrong-predecessor-accepted",
        mistake="A commit counts although it does not follow the one before it.",
        shipped_by="RocksDB before track_and_verify_wals",
        path="log/file/segment_reader.py",
        old="            and stored.prev_crc == self.crc\n",
        new="",
        breaks="I15",
        catchers=(pointed("unit/log/test_segment_format.py", "test_cursor_tells"),),
    ),
    Mutant(
        name="wrong-segment-accepted",
        mistake="A segment counts although it does not continue the one before it.",
        shipped_by="RocksDB before track_and_verify_wals",
        path="log/file/recovery.py",
        old="    return named and (before is None or links(header, before))",
        new="    return named",
        breaks="I15",
        catchers=(pointed(_DAMAGE, "test_segment_between_two_others"),),
    ),
    Mutant(
        name="salt-ignored",
        mistake="Checksums do not depend on the segment: old bytes or a payload pass for commits.",
        shipped_by="LevelDB names the problem; RocksDB met it with recycled files",
        path="log/file/segment_format.py",
        old="        return zlib.crc32(self.salt)",
        new="        return 0",
        breaks="I2, I15",
        catchers=(pointed(_DAMAGE, "test_payload_that_holds_bytes_of_a_log"),),
    ),
    Mutant(
        name="content-checksum-ignored",
        mistake="A commit with a good header counts whatever its content has become.",
        path="log/file/segment_format.py",
        old="    if zlib.crc32(body, zlib.crc32(commit_id, seed)) != content_crc:\n"
        "        return None\n",
        new="",
        breaks="I2, I15",
        catchers=(WAL,),
    ),
    Mutant(
        name="snapshot-digest-ignored",
        mistake="A damaged snapshot is loaded.",
        shipped_by="NATS JetStream: a damaged snapshot deleted a stream",
        path="log/file/snapshot_file.py",
        old="    if digest.digest() != trailer.digest or trailer.file_bytes != ref.size_bytes:\n",
        new="    if trailer.file_bytes != ref.size_bytes:\n",
        breaks="I12, I15",
        catchers=(pointed("unit/log/test_snapshot_file.py", "test_any_byte_changed"),),
    ),
    Mutant(
        name="old-tail-written-on",
        mistake="After an unclean end commits go on in the old segment, trusting the page cache.",
        shipped_by="Rebello et al., ATC 2020",
        path="log/file/log.py",
        old="        if found.tail is not None and found.clean:\n",
        new="        if found.tail is not None:\n",
        breaks="I1, I15",
        catchers=(WAL, pointed(_FAULTS, "test_start_after_a_failed_sync")),
    ),
    Mutant(
        name="cache-trusted-after-a-crash",
        mistake="The tail of an unclean log is read from the page cache, not from the medium.",
        shipped_by="Rebello et al., ATC 2020",
        path="log/file/recovery.py",
        old="    from_medium = not live and not current.clean\n",
        new="    from_medium = False\n",
        breaks="I1, I13",
        catchers=(pointed(_FAULTS, "test_start_after_a_failed_sync"),),
    ),
    Mutant(
        name="last-commit-not-replayed",
        mistake="Replay ends one commit early.",
        path="log/file/recovery.py",
        old="                if stored.commit_no > end_commit_no:\n",
        new="                if stored.commit_no >= end_commit_no:\n",
        breaks="I1, contract 1",
        catchers=(WAL, LOG_SUITE),
    ),
)

KEEPING = (
    Mutant(
        name="older-snapshot-without-its-log",
        mistake="Segments go that the older of two snapshots still needs.",
        path="log/file/snapshot_shelf.py",
        old="    floor = min(before, snapshots[0].index + 1)\n",
        new="    floor = min(before, snapshots[-1].index + 1)\n",
        breaks="I15",
        catchers=(LOG_SUITE, pointed(_DAMAGE, "test_truncation_keeps_every_commit")),
    ),
    Mutant(
        name="deleted-before-unlisted",
        mistake="Segments go while CURRENT still lists them: a crash stops the next start.",
        shipped_by="what raft-wal's meta-first rule is for",
        path="log/file/snapshot_shelf.py",
        old="""\
    writer.publish(segments=segments, snapshots=snapshots)
    for segment in current.segments[:behind]:
        remove_if_there(disk, segment.path(layout))
""",
        new="""\
    for segment in current.segments[:behind]:
        remove_if_there(disk, segment.path(layout))
    writer.publish(segments=segments, snapshots=snapshots)
""",
        breaks="I15",
        catchers=(EXPLORER, WAL, pointed(_FAULTS, "test_crash_at_each_call")),
    ),
    Mutant(
        name="short-write-taken-for-whole",
        mistake="A write that stopped halfway counts as done.",
        path="log/file/disk_io.py",
        old="    if written < sum(map(len, buffers)):\n",
        new="    if written < 0:\n",
        breaks="I1",
        catchers=(pointed(_FAULTS, "test_short_write_is_continued"), LOG_FAULTS),
    ),
    Mutant(
        name="full-disk-taken-for-success",
        mistake="ENOSPC is swallowed where room for a new segment is reserved.",
        shipped_by="sidekiq#5558, bull#416: a full store drops jobs",
        path="log/file/wal_writer.py",
        old="""\
            raise
        raise Refused(
            f"the disk of {layout.root} is full: {error.strerror}.",
""",
        new="""\
            raise
        return
        raise Refused(
            f"the disk of {layout.root} is full: {error.strerror}.",
""",
        breaks="I1",
        catchers=(
            N_LOOP,
            LOG_FAULTS,
        ),
    ),
    Mutant(
        name="lock-not-taken",
        mistake="Two processes write to one directory.",
        shipped_by="every store without a lock; what etcd flocks its files for",
        path="log/file/lock.py",
        old="        if not self._disk.try_lock(self._fd):\n",
        new="        if False:\n",
        breaks="I4, contract 3",
        catchers=(LOG_SUITE, pointed("recovery/test_directory.py", "test_second_")),
    ),
    Mutant(
        name="old-leader-may-write",
        mistake="An epoch that leads no longer may still append.",
        path="log/file/log.py",
        old="        if self._writer is None or epoch != self._epoch:\n",
        new="        if self._writer is None:\n",
        breaks="I4, contract 3",
        catchers=(LOG_SUITE,),
    ),
)

MUTANTS = SYNCS + RECOVERY + KEEPING
