"""Snapshot rows to blocks and back."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from headrace.model.errors import LogCorrupt
from headrace.model.rows import AnyRow

SNAPSHOT_VERSION = 1
"""Of the rows; raised when an older program could misread them."""

_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(list[AnyRow])


def encode_rows(rows: Iterable[AnyRow]) -> bytes:
    """One block: a msgpack array of rows."""
    return _ENCODER.encode(list(rows))


def decode_rows(block: bytes) -> list[AnyRow]:
    """Raises: `LogCorrupt` for a block whose checksum held but whose rows do not decode."""
    try:
        return _DECODER.decode(block)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise LogCorrupt(
            f"A snapshot block is not well formed: {error}.",
            hint="Start from the snapshot before it: run `headrace verify DIR`.",
        ) from error
