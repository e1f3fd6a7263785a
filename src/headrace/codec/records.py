"""Records to the body of a commit and back.

```
0        4      5         6        8
+--------+------+---------+--------+----------------------+
| length | type | version | flags  | msgpack array        |   all little-endian
| u32    | u8   | u8      | u16    | of `length` bytes    |
+--------+------+---------+--------+----------------------+
```

Flag bit 15 set: a reader that does not know the type may skip the record. Every other
unknown type or version stops the reader. Source: `spec/records.md`.
"""

from __future__ import annotations

import struct

import msgspec

from headrace.model import records
from headrace.model.errors import FormatNewer, LogCorrupt
from headrace.model.records import Record

RECORDS_VERSION = 1
FLAG_SKIPPABLE = 0x8000

RECORDS: dict[int, type[Record]] = {
    1: records.EpochStarted,
    2: records.TimePassed,
    3: records.QueueConfigured,
    4: records.SessionOpened,
    5: records.SessionClosed,
    6: records.JobsEnqueued,
    7: records.JobsClaimed,
    8: records.JobsStarted,
    9: records.JobsSucceeded,
    10: records.JobFailed,
    11: records.JobsReleased,
    12: records.LeasesExpired,
    13: records.JobsCancelled,
    14: records.CancelRequested,
    15: records.JobRescheduled,
    16: records.PriorityChanged,
    17: records.JobRevived,
    18: records.JobsDeleted,
    19: records.ProgressReported,
    20: records.JobLogged,
    21: records.FinishedPruned,
    22: records.IdsForgotten,
    23: records.KeysExpired,
}

RECORD_NUMBERS: dict[type[Record], int] = {kind: number for number, kind in RECORDS.items()}

_HEADER = struct.Struct("<IBBH")
_ENCODER = msgspec.msgpack.Encoder()
_DECODERS = {number: msgspec.msgpack.Decoder(kind) for number, kind in RECORDS.items()}


def encode_records(turn: list[Record]) -> bytes:
    """The records one behind the other, as the body of a commit holds them."""
    parts: list[bytes] = []
    for record in turn:
        body = _ENCODER.encode(record)
        parts.append(_HEADER.pack(len(body), RECORD_NUMBERS[type(record)], RECORDS_VERSION, 0))
        parts.append(body)
    return b"".join(parts)


def decode_records(body: bytes, count: int) -> list[Record]:
    """The `count` records of a commit's body; a skippable unknown one stands as `TimePassed(0)`.

    Raises: `FormatNewer` for a type or version from a later headrace; `LogCorrupt` when
    body and count do not agree.
    """
    found: list[Record] = []
    view = memoryview(body)
    offset = 0
    while offset < len(view):
        record, offset = _decode_one(view, offset)
        found.append(record)
    if len(found) != count:
        raise LogCorrupt(
            f"A commit says that it holds {count} records, and holds {len(found)}.",
            hint="Run `headrace verify DIR`.",
        )
    return found


def _decode_one(view: memoryview, offset: int) -> tuple[Record, int]:
    if offset + _HEADER.size > len(view):
        raise LogCorrupt("A record is cut short.", hint="Run `headrace verify DIR`.")
    length, number, version, flags = _HEADER.unpack_from(view, offset)
    start = offset + _HEADER.size
    end = start + length
    if end > len(view):
        raise LogCorrupt("A record is cut short.", hint="Run `headrace verify DIR`.")
    decoder = _DECODERS.get(number)
    if decoder is None or version > RECORDS_VERSION:
        if flags & FLAG_SKIPPABLE:
            return records.TimePassed(0), end
        raise FormatNewer(
            f"The log holds a record of type {number}, version {version}, "
            "which this headrace does not know.",
            hint="Use the version that wrote it, or a newer one.",
        )
    try:
        return decoder.decode(view[start:end]), end
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise LogCorrupt(
            f"A record of type {number} is not well formed: {error}.",
            hint="Run `headrace verify DIR`.",
        ) from error
