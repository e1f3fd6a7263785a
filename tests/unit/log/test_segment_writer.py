"""The active segment: room for the seal is kept, and every commit is synced before the next."""

from __future__ import annotations

from headrace.log.base import Commit, Epoch
from headrace.log.file.segment_format import SEGMENT_HEADER_BYTES, encode_segment_header
from headrace.log.file.segment_reader import SegmentCursor
from headrace.log.file.segment_writer import SegmentWriter
from headrace.testing.sim_disk import SimDisk
from tests.unit.log.test_segment_format import HEADER

SIZE_BYTES = 4096
EPOCH = Epoch(3, b"nonce678")


def fresh() -> tuple[SimDisk, SegmentWriter]:
    disk = SimDisk()
    fd = disk.open("/segment", create=True, write=True)
    disk.preallocate(fd, SIZE_BYTES)
    disk.pwrite(fd, encode_segment_header(HEADER), 0)
    disk.fdatasync(fd)
    return disk, SegmentWriter(disk, fd, "/segment", HEADER, size_bytes=SIZE_BYTES)


def commit(first_index: int, body: bytes) -> Commit:
    return Commit(b"sixteen byte id.", first_index, 1, 1, body)


def test_seal_fits_behind_every_commit_that_fits() -> None:
    fitting = 0
    for body_bytes in range(SIZE_BYTES):
        disk, writer = fresh()
        if writer.fits(body_bytes):
            fitting += 1
            writer.write(EPOCH, commit(41, bytes(body_bytes)))
            writer.seal(EPOCH, 1)
            assert writer.offset <= SIZE_BYTES
            assert len(disk.peek("/segment")) == SIZE_BYTES

    assert fitting > SIZE_BYTES - SEGMENT_HEADER_BYTES - 400


def test_sealed_segment_takes_nothing_more() -> None:
    _, writer = fresh()
    writer.seal(EPOCH, 1)

    assert not writer.fits(0)


def test_each_commit_is_synced_before_the_next_is_written() -> None:
    disk, writer = fresh()
    disk.trace.clear()
    for index in range(41, 44):
        writer.write(EPOCH, commit(index, b"body"))

    assert [method for method, _ in disk.trace] == ["pwritev", "fdatasync"] * 3


def test_reader_ends_where_the_writer_does() -> None:
    disk, writer = fresh()
    for index in range(41, 44):
        writer.write(EPOCH, commit(index, b"body"))
    writer.seal(EPOCH, 1)
    writer.trim()
    cursor = SegmentCursor(HEADER, disk.peek("/segment"))

    assert len(list(cursor)) == 4
    assert cursor.end() == writer.end()
    assert len(disk.peek("/segment")) == writer.offset
