"""`meta/WATERMARK`: the last commit known to be durable.

Rot in the newest commits looks like a torn tail; this number tells them apart. It is
written after the commit is durable, so it only ever lags: a log that ends below it has
lost data, and a torn tail never does.

Two slots of 512 bytes. New values go to one of them, un-synced; once that is synced the
other one takes over: the slot last synced is never touched, so a crash leaves at least
one valid slot. If neither is valid, the protection is gone but nothing else
(`headrace verify` says so).

    0 magic 8 · 8 format 2 · 10 min_reader 2 · 12 zero 4 · 16 commit_no 8 · 24 index 8
    32 cluster_id 16 · 48 node_id 16 · 64 zeros · 508 crc32 of 0..508
"""

from __future__ import annotations

import struct
import zlib

import msgspec

from headrace.log.file.disk_io import close_quietly, opened, read_whole, write_fully
from headrace.log.file.layout import FORMAT_VERSION, MIN_READER, Layout
from headrace.log.file.segment_format import refuse_newer, refuse_stranger
from headrace.model.env import Disk

WATERMARK_MAGIC = b"HRMARK\0\1"
SLOT_BYTES = 512
SLOTS = 2
_SLOT = struct.Struct("<8sHH4xQQ16s16s")
_CRC = struct.Struct("<I")


class Watermark(msgspec.Struct, frozen=True, order=True):
    commit_no: int = 0
    index: int = 0


def encode_slot(mark: Watermark, ids: tuple[bytes, bytes]) -> bytes:
    fields = _SLOT.pack(
        WATERMARK_MAGIC, FORMAT_VERSION, MIN_READER, mark.commit_no, mark.index, *ids
    )
    padded = fields.ljust(SLOT_BYTES - _CRC.size, b"\0")
    return padded + _CRC.pack(zlib.crc32(padded))


def decode_slot(raw: bytes, path: str, ids: tuple[bytes, bytes]) -> Watermark | None:
    """None when it is damaged. Raises: `FormatNewer`; `IdMismatch`."""
    checked = raw[: SLOT_BYTES - _CRC.size]
    if len(raw) < SLOT_BYTES or raw[:8] != WATERMARK_MAGIC:
        return None
    if _CRC.unpack_from(raw, len(checked))[0] != zlib.crc32(checked):
        return None
    _, format_version, min_reader, commit_no, index, *found = _SLOT.unpack_from(raw)
    refuse_newer(path, format_version, min_reader)
    refuse_stranger(path, (found[0], found[1]), ids)
    return Watermark(commit_no, index)


def read_slots(
    disk: Disk, layout: Layout, ids: tuple[bytes, bytes]
) -> tuple[Watermark | None, ...]:
    """Each slot, None where it is not valid; all None when there is no file."""
    try:
        raw = read_whole(disk, layout.watermark)
    except FileNotFoundError:
        return (None,) * SLOTS
    starts = range(0, SLOTS * SLOT_BYTES, SLOT_BYTES)
    return tuple(decode_slot(raw[at : at + SLOT_BYTES], layout.watermark, ids) for at in starts)


def read_watermark(disk: Disk, layout: Layout, ids: tuple[bytes, bytes]) -> Watermark:
    """The greatest valid one; zero when there is none."""
    return max((mark for mark in read_slots(disk, layout, ids) if mark), default=Watermark())


def reset_watermark(disk: Disk, layout: Layout, ids: tuple[bytes, bytes], mark: Watermark) -> None:
    """Both slots say `mark`, durably: for a repair that made the log shorter."""
    missing = disk.stat(layout.watermark) is None
    with opened(disk, layout.watermark, create=missing, write=True) as fd:
        write_fully(disk, fd, encode_slot(mark, ids) * SLOTS, 0)
        disk.fdatasync(fd)
    disk.fsync_dir(layout.meta)


class WatermarkWriter:
    """Keeps the file up to date for the leader."""

    def __init__(self, disk: Disk, layout: Layout, ids: tuple[bytes, bytes]) -> None:
        """Has room for every later write. Raises: `OSError`, with nothing left open."""
        slots = read_slots(disk, layout, ids)
        missing = disk.stat(layout.watermark) is None
        self._disk = disk
        self._ids = ids
        self._fd = disk.open(layout.watermark, create=missing, write=True)
        try:
            disk.preallocate(self._fd, SLOTS * SLOT_BYTES)
            disk.fdatasync(self._fd)
            if missing:
                disk.fsync_dir(layout.meta)
        except OSError:
            self.close()
            raise
        newest = max(range(SLOTS), key=lambda slot: slots[slot] or Watermark())
        self._slot = 1 - newest
        self.pending = False
        """Written since the last sync."""

    def write(self, mark: Watermark) -> None:
        """Said, but not yet durable."""
        write_fully(self._disk, self._fd, encode_slot(mark, self._ids), self._slot * SLOT_BYTES)
        self.pending = True

    def sync(self) -> None:
        """What was written last is durable."""
        if self.pending:
            self._disk.fdatasync(self._fd)
            self._slot = 1 - self._slot
            self.pending = False

    def close(self) -> None:
        close_quietly(self._disk, self._fd)
