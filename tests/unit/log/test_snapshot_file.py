"""A snapshot file: every byte of it is vouched for."""

from __future__ import annotations

import pytest

from headrace.log.file.current import SnapshotRef
from headrace.log.file.layout import Layout
from headrace.log.file.snapshot_file import (
    SNAPSHOT_HEADER_BYTES,
    TRAILER_BYTES,
    SnapshotHeader,
    check_snapshot,
    read_blocks,
)
from headrace.log.file.snapshot_writer import FileSnapshotWriter
from headrace.model.errors import InvariantViolated, LogCorrupt
from headrace.model.limits import SNAPSHOT_BLOCK_BYTES_MAX, SNAPSHOT_SYNC_BYTES
from headrace.testing.sim_disk import SimDisk

LAYOUT = Layout("/data")
IDS = bytes(range(16)), bytes(range(16, 32))
HEADER = SnapshotHeader(
    machine_version=1,
    index=41,
    epoch_number=3,
    cluster_id=IDS[0],
    node_id=IDS[1],
    salt=b"0123456789abcdef",
    created_at_ms=1,
)
BLOCKS = [b"first", b"second" * 20, b"\0"]
PATH = LAYOUT.snapshot(41, 3)


def empty_disk() -> SimDisk:
    disk = SimDisk()
    for path in (LAYOUT.root, LAYOUT.snapshots):
        disk.mkdir(path)
    disk.sync_all()
    return disk


def writer_on(disk: SimDisk) -> FileSnapshotWriter:
    def make_visible(ref: SnapshotRef) -> SnapshotRef:
        disk.rename(PATH + ".tmp", PATH)
        return ref

    return FileSnapshotWriter(disk, LAYOUT, HEADER, make_visible)


def written() -> tuple[SimDisk, SnapshotRef]:
    disk = empty_disk()
    writer = writer_on(disk)
    for block in BLOCKS:
        writer.write(block)
    info = writer.publish()
    return disk, SnapshotRef(info.index, info.epoch_number, info.size_bytes)


def read(disk: SimDisk, size_bytes: int) -> list[bytes]:
    fd = disk.open(PATH)
    return list(read_blocks(disk, fd, PATH, size_bytes))


def test_blocks_come_back_in_order() -> None:
    disk, ref = written()

    assert check_snapshot(disk, PATH, ref, IDS) is None
    assert read(disk, ref.size_bytes) == BLOCKS
    assert ref.size_bytes == len(disk.peek(PATH))
    assert (
        ref.size_bytes == SNAPSHOT_HEADER_BYTES + sum(16 + len(b) for b in BLOCKS) + TRAILER_BYTES
    )


def test_any_byte_changed_is_found_by_the_check() -> None:
    disk, ref = written()
    raw = disk.peek(PATH)
    for at in range(len(raw)):
        disk.poke(PATH, raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :])
        assert check_snapshot(disk, PATH, ref, IDS) is not None, at


def test_any_byte_of_a_block_changed_is_found_while_reading() -> None:
    """Rot between the check and the use of it."""
    disk, ref = written()
    raw = disk.peek(PATH)
    for at in range(SNAPSHOT_HEADER_BYTES, len(raw) - TRAILER_BYTES):
        disk.poke(PATH, raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :])
        with pytest.raises(LogCorrupt):
            read(disk, ref.size_bytes)


def test_file_cut_anywhere_is_found() -> None:
    disk, ref = written()
    raw = disk.peek(PATH)
    for length in range(0, len(raw), 7):
        disk.poke(PATH, raw[:length])
        assert check_snapshot(disk, PATH, ref, IDS) is not None


def test_missing_file_is_a_problem_and_no_exception() -> None:
    problem = check_snapshot(empty_disk(), PATH, SnapshotRef(41, 3, 1000), IDS)

    assert problem is not None
    assert "missing" in problem.message


def test_snapshot_of_another_index_is_found_under_a_wrong_name() -> None:
    disk, ref = written()
    problem = check_snapshot(disk, PATH, SnapshotRef(42, 3, ref.size_bytes), IDS)

    assert problem is not None
    assert "index 41" in problem.message


def test_writer_syncs_in_steps_and_asks_for_a_pause_after_each() -> None:
    disk = empty_disk()
    writer = writer_on(disk)
    block = bytes(SNAPSHOT_SYNC_BYTES // 4)
    disk.trace.clear()
    pauses = [writer.write(block) for _ in range(12)]

    assert sum(pauses) == 3
    assert [method for method, _ in disk.trace].count("fdatasync") == 3


@pytest.mark.parametrize("size", [0, SNAPSHOT_BLOCK_BYTES_MAX + 1])
def test_block_of_a_wrong_size_is_refused(size: int) -> None:
    with pytest.raises(InvariantViolated):
        writer_on(empty_disk()).write(bytes(size))


def test_writer_is_of_no_use_after_the_end() -> None:
    disk = empty_disk()
    writer = writer_on(disk)
    writer.abort()
    writer.abort()

    assert disk.listdir(LAYOUT.snapshots) == []
    with pytest.raises(InvariantViolated):
        writer.write(b"late")
