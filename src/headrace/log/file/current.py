"""`meta/CURRENT`: what a directory consists of, in one small file that changes atomically.

JSON, so that an operator can read it: `{"checksum": "<crc32 of content>", "content": {…}}`,
the checksum over the exact bytes of the content. It is written to a temporary file,
synced, renamed, and its directory synced: after a crash it is the old or the new one.
Files that it does not list do not count, but for the segment of a rotation that a crash
cut short (`recovery`).

Source: spec/wal-format.md.
"""

from __future__ import annotations

import re
import zlib
from itertools import pairwise

import msgspec

from headrace.log.base import Epoch, SnapshotInfo
from headrace.log.file.disk_io import publish, publish_written, read_whole, write_new
from headrace.log.file.layout import (
    FORMAT_VERSION,
    MIN_READER,
    TEMPORARY,
    Layout,
    advise_rebuild,
    base_name,
)
from headrace.log.file.segment_format import refuse_newer
from headrace.model.env import Disk
from headrace.model.errors import CurrentDamaged

_HEX = re.compile(r"[0-9a-f]+", re.ASCII)


class SegmentRef(msgspec.Struct, frozen=True):
    segment_no: int
    first_index: int
    first_commit_no: int

    def path(self, layout: Layout) -> str:
        return layout.segment(self.first_index, self.segment_no)


class SnapshotRef(msgspec.Struct, frozen=True):
    index: int
    epoch_number: int
    size_bytes: int

    def path(self, layout: Layout) -> str:
        return layout.snapshot(self.index, self.epoch_number)

    def info(self) -> SnapshotInfo:
        return SnapshotInfo(self.index, self.epoch_number, self.size_bytes)


class Current(msgspec.Struct, frozen=True):
    cluster_id: str
    """32 hex digits, as are the node id; the nonce has 16."""
    node_id: str
    epoch_number: int = 0
    epoch_nonce: str = "00" * 8
    leader: str = ""
    """Name that the last leader gave itself."""
    clean: bool = True
    """The last leader closed the log, and nothing lies behind its last commit."""
    segments: tuple[SegmentRef, ...] = ()
    """Oldest first. Invariant: numbers and first commit numbers strictly grow."""
    snapshots: tuple[SnapshotRef, ...] = ()
    """Oldest first."""
    format: int = FORMAT_VERSION
    min_reader: int = MIN_READER

    @property
    def ids(self) -> tuple[bytes, bytes]:
        return bytes.fromhex(self.cluster_id), bytes.fromhex(self.node_id)

    @property
    def epoch(self) -> Epoch:
        return Epoch(self.epoch_number, bytes.fromhex(self.epoch_nonce))


class _Versions(msgspec.Struct):
    format: int
    min_reader: int


class _Envelope(msgspec.Struct):
    checksum: str
    content: msgspec.Raw


def encode_current(current: Current) -> bytes:
    content = msgspec.json.encode(current)
    return msgspec.json.encode(_Envelope(_checksum(content), msgspec.Raw(content))) + b"\n"


def decode_current(raw: bytes, path: str, root: str) -> Current:
    """Raises: `CurrentDamaged`; `FormatNewer`."""
    try:
        envelope = msgspec.json.decode(raw, type=_Envelope)
        content = bytes(envelope.content)
        versions = msgspec.json.decode(content, type=_Versions)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _damaged(path, root, f"it is not readable ({error})") from error
    found = _checksum(content)
    if found != envelope.checksum:
        raise _damaged(path, root, f"its checksum is {found}, it should be {envelope.checksum}")
    refuse_newer(path, versions.format, versions.min_reader)
    try:
        current = msgspec.json.decode(content, type=Current)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _damaged(path, root, f"it does not say what it must ({error})") from error
    fault = _fault(current)
    if fault:
        raise _damaged(path, root, fault)
    return current


def _fault(current: Current) -> str:
    """What no log has ever written, although the checksum is right; `` when it is sound."""
    for text, length in (
        (current.cluster_id, 32),
        (current.node_id, 32),
        (current.epoch_nonce, 16),
    ):
        if not _HEX.fullmatch(text) or len(text) != length:
            return f"{text[:40]!r} is no id of {length} hex digits"
    numbers = [current.epoch_number]
    for ref in (*current.segments, *current.snapshots):
        numbers += msgspec.structs.astuple(ref)
    if not all(0 <= number < 1 << 64 for number in numbers):
        return "a number in it is out of range"
    segments = current.segments
    if any(one.segment_no >= after.segment_no for one, after in pairwise(segments)):
        return "its segments are not in order"
    return ""


def read_current(disk: Disk, layout: Layout) -> Current:
    """Raises: `FileNotFoundError`; `CurrentDamaged`; `FormatNewer`; `DiskFailed`."""
    return decode_current(read_whole(disk, layout.current), layout.current, layout.root)


def write_current(disk: Disk, layout: Layout, current: Current) -> None:
    """It is durable."""
    publish(disk, layout.meta, base_name(layout.current), [encode_current(current)])


def prepare_current(disk: Disk, layout: Layout, current: Current) -> None:
    """Its bytes are durable beside the old one: `switch_current` needs no more room."""
    write_new(disk, layout.current + TEMPORARY, [encode_current(current)])


def switch_current(disk: Disk, layout: Layout) -> None:
    """What `prepare_current` wrote is what counts, durably."""
    publish_written(disk, layout.meta, base_name(layout.current))


def _checksum(content: bytes) -> str:
    return f"{zlib.crc32(content):08x}"


def _damaged(path: str, root: str, why: str) -> CurrentDamaged:
    return CurrentDamaged(f"{path} is damaged: {why}.", hint=advise_rebuild(root), path=path)
