"""Checksums made right again after a change, so that what lies behind them is reached.

A flipped bit behind a checksum tests the checksum and nothing else. These functions leave
every other field as it is, lengths included.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable

from headrace.log.file import snapshot_file
from headrace.log.file.segment_format import (
    BODY_OFFSET,
    COMMIT_ALIGN_BYTES,
    COMMIT_HEADER_BYTES,
    COMMIT_MAGIC,
    SEGMENT_HEADER_BYTES,
)
from headrace.log.file.watermark import SLOT_BYTES

Reseal = Callable[[bytes], bytes]
_SALT_OFFSET = 104
_SNAPSHOT_SALT_OFFSET = 64


def _with_crc_at(raw: bytearray, start: int, end: int) -> None:
    """The last four bytes of `start..end` are the checksum of what precedes them there."""
    if end <= len(raw):
        raw[end - 4 : end] = struct.pack("<I", zlib.crc32(raw[start : end - 4]))


def segment(data: bytes) -> bytes:
    """Header and every commit that can be found at its place."""
    raw = bytearray(data)
    _with_crc_at(raw, 0, SEGMENT_HEADER_BYTES)
    seed = zlib.crc32(raw[_SALT_OFFSET : _SALT_OFFSET + 16])
    for offset in range(SEGMENT_HEADER_BYTES, len(raw) - BODY_OFFSET, COMMIT_ALIGN_BYTES):
        if raw[offset : offset + 4] == COMMIT_MAGIC:
            _seal_commit(raw, offset, seed)
    return bytes(raw)


def _seal_commit(raw: bytearray, offset: int, seed: int) -> None:
    (body_bytes,) = struct.unpack_from("<I", raw, offset + 28)
    start = offset + COMMIT_HEADER_BYTES
    content = raw[start : offset + BODY_OFFSET + body_bytes]
    struct.pack_into("<I", raw, offset + 32, zlib.crc32(content, seed))
    struct.pack_into("<I", raw, offset + 4, zlib.crc32(raw[offset + 8 : start], seed))


def snapshot(data: bytes) -> bytes:
    raw = bytearray(data)
    end = len(raw) - snapshot_file.TRAILER_BYTES
    if end < snapshot_file.SNAPSHOT_HEADER_BYTES:
        return data
    _with_crc_at(raw, 0, snapshot_file.SNAPSHOT_HEADER_BYTES)
    seed = zlib.crc32(raw[_SNAPSHOT_SALT_OFFSET : _SNAPSHOT_SALT_OFFSET + 16])
    offset = snapshot_file.SNAPSHOT_HEADER_BYTES
    while offset + 16 <= end:
        (body_bytes,) = struct.unpack_from("<I", raw, offset + 4)
        checked = zlib.crc32(raw[offset + 4 : offset + 12], seed)
        body = raw[offset + 16 : min(offset + 16 + body_bytes, end)]
        struct.pack_into("<I", raw, offset + 12, zlib.crc32(body, checked))
        offset += 16 + body_bytes
    digest = snapshot_file.new_digest()
    digest.update(raw[: end + snapshot_file.DIGEST_OFFSET])
    raw[end + 64 : end + 96] = digest.digest()
    _with_crc_at(raw, end, len(raw))
    return bytes(raw)


def watermark(data: bytes) -> bytes:
    raw = bytearray(data)
    for start in range(0, len(raw) - SLOT_BYTES + 1, SLOT_BYTES):
        _with_crc_at(raw, start, start + SLOT_BYTES)
    return bytes(raw)


def current(data: bytes) -> bytes:
    """Of what stands behind `"content":`, up to the brace that ends the envelope."""
    _, found, rest = data.partition(b'"content":')
    content, brace, tail = rest.rpartition(b"}")
    if not found or not brace:
        return data
    checksum = json.dumps(f"{zlib.crc32(content):08x}").encode()
    return b'{"checksum":' + checksum + b',"content":' + content + b"}" + tail
