"""A snapshot file: a header, blocks with a checksum each, a trailer with a digest of it all.

What is inside a block is the codec's business. Little-endian; `seed` is crc(salt).

    header, 512 bytes              block                         trailer, 128 bytes
    0   magic           8          0  magic        4  "HRSB"     0   magic         8
    8   format          2          4  body_bytes   4             8   format        2
    10  min_reader      2          8  block_no     4  from 0     10  min_reader    2
    12  machine_version 2          12 crc          4  from seed  12  (zero)        4
    14  (zero)          2             of 4..12 and the body      16  index         8
    16  index           8          16 body                       24  epoch_number  8
    24  epoch_number    8                                        32  block_count   8
    32  cluster_id     16                                        40  body_bytes    8  all
    48  node_id        16                                        48  file_bytes    8  with this
    64  salt           16                                        56  (zero)        4
    80  created_at_ms   8                                        60  (zero)        4
    508 header_crc      4  crc(0..508)                           64  digest       32
                                                                 124 crc(0..124)   4

`digest` is blake2b-256 of every byte of the file before it. A snapshot counts once it is
renamed from `.tmp` and listed in CURRENT; by then every byte is durable.

Source: spec/snapshot-format.md.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Iterator

import msgspec

from headrace.log.base import SnapshotInfo
from headrace.log.file.current import SnapshotRef
from headrace.log.file.disk_io import opened, read_chunks, read_exactly, reading
from headrace.log.file.layout import FORMAT_VERSION, MIN_READER, advise_verify, root_of
from headrace.log.file.segment_format import refuse_newer, refuse_stranger
from headrace.model.env import Disk
from headrace.model.errors import LogCorrupt
from headrace.model.limits import SNAPSHOT_BLOCK_BYTES_MAX

SNAPSHOT_MAGIC = b"HRSNAP\0\1"
BLOCK_MAGIC = b"HRSB"
TRAILER_MAGIC = b"HRSEND\0\1"
SNAPSHOT_HEADER_BYTES = 512
BLOCK_HEADER_BYTES = 16
TRAILER_BYTES = 128
DIGEST_OFFSET = 64

_HEADER = struct.Struct("<8sHHH2xQQ16s16s16sQ")
_BLOCK = struct.Struct("<4sIII")
_BLOCK_CHECKED = struct.Struct("<II")
_TRAILER = struct.Struct("<8sHH4xQQQQQ8x32s")
_CRC = struct.Struct("<I")


class SnapshotHeader(msgspec.Struct, frozen=True):
    machine_version: int
    index: int
    epoch_number: int
    cluster_id: bytes
    node_id: bytes
    salt: bytes
    created_at_ms: int

    @property
    def seed(self) -> int:
        return zlib.crc32(self.salt)


class SnapshotTrailer(msgspec.Struct, frozen=True):
    index: int
    epoch_number: int
    block_count: int
    body_bytes: int
    file_bytes: int
    digest: bytes


def _with_crc(fields: bytes, length: int) -> bytes:
    padded = fields.ljust(length - _CRC.size, b"\0")
    return padded + _CRC.pack(zlib.crc32(padded))


def _crc_fits(raw: bytes, magic: bytes, length: int) -> bool:
    checked = raw[: length - _CRC.size]
    return (
        len(raw) == length
        and raw.startswith(magic)
        and _CRC.unpack_from(raw, len(checked))[0] == zlib.crc32(checked)
    )


def encode_snapshot_header(header: SnapshotHeader) -> bytes:
    fields = msgspec.structs.astuple(header)
    return _with_crc(
        _HEADER.pack(SNAPSHOT_MAGIC, FORMAT_VERSION, MIN_READER, *fields), SNAPSHOT_HEADER_BYTES
    )


def decode_snapshot_header(raw: bytes, path: str) -> SnapshotHeader | None:
    """None when it is damaged. Raises: `FormatNewer`."""
    if not _crc_fits(raw, SNAPSHOT_MAGIC, SNAPSHOT_HEADER_BYTES):
        return None
    _, format_version, min_reader, *fields = _HEADER.unpack_from(raw)
    refuse_newer(path, format_version, min_reader)
    return SnapshotHeader(*fields)


def encode_block_header(block: bytes, block_no: int, seed: int) -> bytes:
    checked = _BLOCK_CHECKED.pack(len(block), block_no)
    return BLOCK_MAGIC + checked + _CRC.pack(zlib.crc32(block, zlib.crc32(checked, seed)))


def block_fits(header: bytes, block: bytes, block_no: int, seed: int) -> bool:
    return header == encode_block_header(block, block_no, seed)


def encode_trailer(trailer: SnapshotTrailer) -> bytes:
    """`digest` must be that of the file and of `trailer_front`."""
    return _with_crc(trailer_front(trailer) + trailer.digest, TRAILER_BYTES)


def trailer_front(trailer: SnapshotTrailer) -> bytes:
    """The part of the trailer that the digest covers."""
    *fields, _ = msgspec.structs.astuple(trailer)
    packed = _TRAILER.pack(TRAILER_MAGIC, FORMAT_VERSION, MIN_READER, *fields, bytes(32))
    return packed[:DIGEST_OFFSET]


def decode_trailer(raw: bytes) -> SnapshotTrailer | None:
    if not _crc_fits(raw, TRAILER_MAGIC, TRAILER_BYTES):
        return None
    _, _, _, *fields = _TRAILER.unpack_from(raw)
    return SnapshotTrailer(*fields)


def new_digest() -> hashlib.blake2b:
    return hashlib.blake2b(digest_size=32)


class SnapshotProblem(msgspec.Struct, frozen=True):
    offset: int
    message: str


def check_snapshot(
    disk: Disk, path: str, ref: SnapshotRef, ids: tuple[bytes, bytes]
) -> SnapshotProblem | None:
    """What is wrong with the file, reading all of it; None when it can be trusted.

    Raises: `FormatNewer`; `IdMismatch`; `DiskFailed`.
    """
    try:
        with reading(path), opened(disk, path) as fd:
            return _check_open(disk, fd, path, ref, ids)
    except FileNotFoundError:
        return SnapshotProblem(0, "the file is missing")


def _check_open(
    disk: Disk, fd: int, path: str, ref: SnapshotRef, ids: tuple[bytes, bytes]
) -> SnapshotProblem | None:
    header = decode_snapshot_header(read_exactly(disk, fd, SNAPSHOT_HEADER_BYTES, 0), path)
    if header is None:
        return SnapshotProblem(0, "the header is damaged")
    refuse_stranger(path, (header.cluster_id, header.node_id), ids)
    trailer_offset = max(ref.size_bytes - TRAILER_BYTES, SNAPSHOT_HEADER_BYTES)
    raw = read_exactly(disk, fd, TRAILER_BYTES, trailer_offset)
    trailer = decode_trailer(raw)
    if trailer is None:
        return SnapshotProblem(trailer_offset, "the trailer is damaged or missing")
    for found in (header, trailer):
        if (found.index, found.epoch_number) != (ref.index, ref.epoch_number):
            return SnapshotProblem(
                0 if found is header else trailer_offset,
                f"it is of index {found.index}, epoch {found.epoch_number}",
            )
    digest = new_digest()
    for chunk in read_chunks(disk, fd, 0, trailer_offset):
        digest.update(chunk)
    digest.update(raw[:DIGEST_OFFSET])
    if digest.digest() != trailer.digest or trailer.file_bytes != ref.size_bytes:
        return SnapshotProblem(0, "its content does not give the digest in its trailer")
    return None


class FileSnapshot:
    """A snapshot that passed `check_snapshot`. Each block is checked again as it is read."""

    def __init__(self, disk: Disk, path: str, ref: SnapshotRef) -> None:
        self.info: SnapshotInfo = ref.info()
        self._disk = disk
        self._path = path

    def blocks(self) -> Iterator[bytes]:
        """Raises: `LogCorrupt`; `DiskFailed`."""
        with reading(self._path), opened(self._disk, self._path) as fd:
            yield from read_blocks(self._disk, fd, self._path, self.info.size_bytes)


def read_blocks(disk: Disk, fd: int, path: str, size_bytes: int) -> Iterator[bytes]:
    """Blocks of the file in order. Raises: `LogCorrupt` at the first that is damaged."""
    header = decode_snapshot_header(read_exactly(disk, fd, SNAPSHOT_HEADER_BYTES, 0), path)
    offset, block_no, end = SNAPSHOT_HEADER_BYTES, 0, size_bytes - TRAILER_BYTES
    while header is not None and offset < end:
        front = read_exactly(disk, fd, BLOCK_HEADER_BYTES, offset)
        body_bytes = _BLOCK.unpack(front)[1] if len(front) == BLOCK_HEADER_BYTES else 0
        room = end - offset - BLOCK_HEADER_BYTES
        length = min(body_bytes, SNAPSHOT_BLOCK_BYTES_MAX, room)
        block = read_exactly(disk, fd, length, offset + BLOCK_HEADER_BYTES)
        if not block_fits(front, block, block_no, header.seed):
            break
        yield block
        offset += BLOCK_HEADER_BYTES + len(block)
        block_no += 1
    if offset != end or header is None:
        raise LogCorrupt(
            f"{path}: block {block_no} at offset {offset} is damaged.",
            hint=advise_verify(root_of(path)),
            path=path,
            offset=offset,
        )
