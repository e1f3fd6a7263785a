"""Bytes of a segment: its header, its commits, and the checksums that tie them together.

Encodes and decodes; never touches a file. All integers little-endian; crc is CRC-32
(zlib). `seed` is crc(salt): every checksum inside a segment starts from it, so bytes of
another segment, or a payload that holds bytes of a segment, never pass for a commit.

    segment header, 512 bytes          commit, at a multiple of 64 bytes
    0   magic            8             0   magic            4   "HRWC"
    8   format           2             4   header_crc       4   crc(8..64) from seed
    10  min_reader       2             8   commit_no        8   +1 each, markers too
    12  checksum_kind    1  1=CRC-32   16  first_index      8
    13  flags            1  0          24  record_count     4
    14  machine_version  2             28  body_bytes       4
    16  segment_no       8             32  content_crc      4   crc(64..80+body) from seed
    24  first_commit_no  8             36  prev_crc         4   content_crc of commit_no - 1
    32  first_index      8             40  epoch_number     8
    40  prev_segment_no  8  0=none     48  now_ms           6
    48  prev_commit_no   8  its last   54  version          1   1
    56  prev_commit_crc  4  its last   55  flags            1   1=SEAL 2=RECOVERED
    60  (zero)           4             56  epoch_nonce      8
    64  prev_size_bytes  8  used part  64  commit_id        16
    72  cluster_id      16             80  body             body_bytes
    88  node_id         16                 zeros up to the next multiple of 64
    104 salt            16
    120 created_at_ms    8
    128 (zero)
    508 header_crc       4  crc(0..508)

- 64-byte alignment: a commit header never crosses a 512-byte sector.
- `prev_crc` is a field and not a running checksum: each commit can be judged alone.
- A commit number counts markers, an index does not: a marker has record_count 0.

Source: spec/wal-format.md.
"""

from __future__ import annotations

import struct
import zlib

import msgspec

from headrace.log.base import Commit, Epoch
from headrace.log.file.layout import FORMAT_VERSION, MIN_READER, advise_verify, root_of
from headrace.model.errors import FormatNewer, IdMismatch, invariant
from headrace.model.limits import COMMIT_BODY_BYTES_MAX

SEGMENT_MAGIC = b"HRWAL\0\0\1"
COMMIT_MAGIC = b"HRWC"
SEGMENT_HEADER_BYTES = 512
COMMIT_ALIGN_BYTES = 64
COMMIT_HEADER_BYTES = 64
COMMIT_ID_BYTES = 16
CONTENT_OFFSET = COMMIT_HEADER_BYTES
BODY_OFFSET = CONTENT_OFFSET + COMMIT_ID_BYTES
CHECKSUM_CRC32 = 1
FLAG_SEAL = 1
"""The last commit of its segment."""
FLAG_RECOVERED = 2
"""The first after an unclean start; its body is JSON for people."""
COMMIT_VERSION = 1
NO_COMMIT_ID = bytes(COMMIT_ID_BYTES)
SEAL_BYTES = 128

_SEGMENT = struct.Struct("<8sHHBBHQQQQQI4xQ16s16s16sQ")
_COMMIT = struct.Struct("<4sIQQIIIIQQ8s")
_COMMIT_CHECKED = struct.Struct("<QQIIIIQQ8s")
_CRC = struct.Struct("<I")
_PADDING = bytes(COMMIT_ALIGN_BYTES)
_NOW_MS_MASK = (1 << 48) - 1

invariant(_COMMIT.size == COMMIT_HEADER_BYTES, "a commit header has 64 bytes")
invariant(_SEGMENT.size <= SEGMENT_HEADER_BYTES - _CRC.size, "a segment header has 512 bytes")


class SegmentHeader(msgspec.Struct, frozen=True):
    """Who wrote a segment, where it begins, and the end of the one before it."""

    machine_version: int
    segment_no: int
    first_commit_no: int
    first_index: int
    prev_segment_no: int
    prev_commit_no: int
    prev_commit_crc: int
    prev_size_bytes: int
    cluster_id: bytes
    node_id: bytes
    salt: bytes
    created_at_ms: int

    @property
    def seed(self) -> int:
        return zlib.crc32(self.salt)


def encode_segment_header(header: SegmentHeader) -> bytes:
    fields = _SEGMENT.pack(
        SEGMENT_MAGIC,
        FORMAT_VERSION,
        MIN_READER,
        CHECKSUM_CRC32,
        0,
        header.machine_version,
        header.segment_no,
        header.first_commit_no,
        header.first_index,
        header.prev_segment_no,
        header.prev_commit_no,
        header.prev_commit_crc,
        header.prev_size_bytes,
        header.cluster_id,
        header.node_id,
        header.salt,
        header.created_at_ms,
    )
    padded = fields.ljust(SEGMENT_HEADER_BYTES - _CRC.size, b"\0")
    return padded + _CRC.pack(zlib.crc32(padded))


def decode_segment_header(raw: bytes, path: str) -> SegmentHeader | None:
    """None when it is damaged. Raises: `FormatNewer`."""
    if len(raw) < SEGMENT_HEADER_BYTES or raw[:8] != SEGMENT_MAGIC:
        return None
    checked = raw[: SEGMENT_HEADER_BYTES - _CRC.size]
    if _CRC.unpack_from(raw, len(checked))[0] != zlib.crc32(checked):
        return None
    fields = _SEGMENT.unpack_from(raw)
    _, format_version, min_reader, checksum_kind, flags, machine_version, *rest = fields
    refuse_newer(path, format_version, min_reader)
    if checksum_kind != CHECKSUM_CRC32 or flags:
        raise FormatNewer(
            f"{path} uses checksum kind {checksum_kind} and flags {flags}; this headrace knows "
            f"kind {CHECKSUM_CRC32} and no flags.",
            hint="Start the version that wrote it.",
        )
    return SegmentHeader(machine_version, *rest)


def refuse_newer(path: str, format_version: int, min_reader: int) -> None:
    """Raises: `FormatNewer` when a reader of our version must not read the file."""
    if min_reader > FORMAT_VERSION:
        raise FormatNewer(
            f"{path} has format {format_version} and needs a headrace that reads format "
            f"{min_reader}; this one reads up to {FORMAT_VERSION}.",
            hint="Start the version that wrote it, or restore a backup made by an older one.",
        )


def refuse_stranger(path: str, found: tuple[bytes, bytes], wanted: tuple[bytes, bytes]) -> None:
    """Raises: `IdMismatch` when (cluster id, node id) of a file are not the directory's."""
    for what, mine, theirs in zip(("cluster", "node"), wanted, found, strict=True):
        if mine != theirs:
            raise IdMismatch(
                f"{path} belongs to {what} {theirs.hex()}, its directory to {mine.hex()}.",
                hint=f"Remove the foreign file. {advise_verify(root_of(path))}",
            )


class StoredCommit(msgspec.Struct, frozen=True):
    """A commit as found in a segment, with what ties it to its neighbours."""

    commit_no: int
    content_crc: int
    prev_crc: int
    epoch: Epoch
    version: int
    flags: int
    offset: int
    end_offset: int
    commit: Commit

    @property
    def is_marker(self) -> bool:
        """Written by the log itself, for itself."""
        return bool(self.flags & (FLAG_SEAL | FLAG_RECOVERED))

    @property
    def is_newer(self) -> bool:
        """It says something that this reader does not know."""
        return self.version > COMMIT_VERSION or bool(self.flags & ~(FLAG_SEAL | FLAG_RECOVERED))

    @property
    def last_index(self) -> int:
        return self.commit.first_index + self.commit.record_count - 1


def commit_bytes(body_bytes: int) -> int:
    """Length of a commit in its segment, with padding."""
    unpadded = BODY_OFFSET + body_bytes
    return unpadded + -unpadded % COMMIT_ALIGN_BYTES


def encode_commit(
    commit: Commit, *, seed: int, commit_no: int, prev_crc: int, epoch: Epoch, flags: int = 0
) -> tuple[list[bytes], int]:
    """The buffers to write one after the other, and the content's checksum."""
    body = commit.body
    content_crc = zlib.crc32(body, zlib.crc32(commit.commit_id, seed))
    fields = (
        commit_no,
        commit.first_index,
        commit.record_count,
        len(body),
        content_crc,
        prev_crc,
        epoch.number,
        commit.now_ms & _NOW_MS_MASK | COMMIT_VERSION << 48 | flags << 56,
        epoch.nonce,
    )
    header_crc = zlib.crc32(_COMMIT_CHECKED.pack(*fields), seed)
    front = _COMMIT.pack(COMMIT_MAGIC, header_crc, *fields) + commit.commit_id
    padding = _PADDING[: -(BODY_OFFSET + len(body)) % COMMIT_ALIGN_BYTES]
    return [front, body, padding] if padding else [front, body], content_crc


def commit_no_at(data: bytes, offset: int, seed: int) -> int | None:
    """Commit number of the header at `offset`, or None when no valid header is there.

    Its content is not looked at.
    """
    end = offset + COMMIT_HEADER_BYTES
    if end > len(data) or data[offset : offset + 4] != COMMIT_MAGIC:
        return None
    header_crc, commit_no = struct.unpack_from("<IQ", data, offset + 4)
    return commit_no if zlib.crc32(data[offset + 8 : end], seed) == header_crc else None


def decode_commit(data: bytes, offset: int, seed: int) -> StoredCommit | None:
    """The commit at `offset`, or None when header or content do not pass their checksums."""
    if commit_no_at(data, offset, seed) is None:
        return None
    _, _, commit_no, first_index, record_count, body_bytes, content_crc, *rest = (
        _COMMIT.unpack_from(data, offset)
    )
    prev_crc, epoch_number, packed, nonce = rest
    body_offset = offset + BODY_OFFSET
    body_end = body_offset + body_bytes
    if body_bytes > COMMIT_BODY_BYTES_MAX or body_end > len(data):
        return None
    commit_id, body = data[body_offset - COMMIT_ID_BYTES : body_offset], data[body_offset:body_end]
    if zlib.crc32(body, zlib.crc32(commit_id, seed)) != content_crc:
        return None
    return StoredCommit(
        commit_no=commit_no,
        content_crc=content_crc,
        prev_crc=prev_crc,
        epoch=Epoch(epoch_number, nonce),
        version=packed >> 48 & 0xFF,
        flags=packed >> 56,
        offset=offset,
        end_offset=offset + commit_bytes(body_bytes),
        commit=Commit(commit_id, first_index, record_count, packed & _NOW_MS_MASK, body),
    )
