"""A sample of every record and row, and the vectors made of them.

`python -m tests.unit.codec.record_samples` writes the vector of each sample that has none
yet, and adds what is new to the registry. It never rewrites a vector and never takes
anything out of the registry: what was released stays as it is.
"""

from __future__ import annotations

import json
import types
import typing
from pathlib import Path
from typing import Any

import msgspec

from headrace.codec.records import RECORDS, encode_records
from headrace.codec.rows import encode_rows
from headrace.model import job, queue, records, rows

FOLDER = Path(__file__).resolve().parents[3] / "spec/vectors/records"
REGISTRY = FOLDER / "registry.json"
RECORD_VECTORS = FOLDER / "records.json"
ROW_VECTORS = FOLDER / "rows.json"

JOB_1 = bytes.fromhex("0190f3a27b1c7def8123456789abcdef")
JOB_2 = bytes.fromhex("0190f3a27b1d7def8123456789abcdf0")
SESSION = bytes.fromhex("00112233445566778899aabbccddeeff")
NOW_MS = 1_764_000_000_000

_RETRY = job.RetryPolicy(3, job.BACKOFF_LIST, delays_ms=(1_000, 5_000))
_SPEC = job.JobSpec("mail", "send", "application/json", _RETRY, 30_000)
_EXTRA = job.JobExtra("welcome:42", 3_600_000, NOW_MS + 1, ("eu", "vip"), {"trace": "ab"})
_ERROR = job.JobError("ValueError", "bad", "line 1", NOW_MS, 2, "w1", True)
_COLD = rows.Cold(
    _EXTRA, [_ERROR], 1, b"50%", ["line"], 1, 2, 1, [(1, NOW_MS, 0), (2, NOW_MS, 1)], "why"
)
_PACKED_COLD = msgspec.msgpack.encode(_COLD)

RECORD_SAMPLES: list[records.Record] = [
    records.EpochStarted(3, b"nonce", "node-1", 1, NOW_MS),
    records.TimePassed(NOW_MS, 2),
    records.QueueConfigured("mail", queue.QueueSettings(paused=True)),
    records.SessionOpened(
        SESSION, "w1", "host", 42, "1.2.3", ("send",), ("mail", "video"), True, 30_000
    ),
    records.SessionClosed(SESSION, "bye"),
    records.JobsEnqueued(
        _SPEC,
        [
            records.EnqueuedJob(JOB_1, b"{}", 100),
            records.EnqueuedJob(JOB_2, b"[]", 255, NOW_MS + 500, _EXTRA),
        ],
    ),
    records.JobsClaimed(SESSION, [JOB_1, JOB_2], 0),
    records.JobsStarted([(JOB_1, 7)]),
    records.JobsSucceeded([(JOB_1, 7, b"42"), (JOB_2, 7, None)]),
    records.JobFailed(JOB_1, 7, _ERROR, records.FATE_RETRY, NOW_MS + 2_000, ""),
    records.JobsReleased([records.JobReleased(JOB_1, 7, NOW_MS + 500, True)]),
    records.LeasesExpired(
        "worker_lost", [records.ExpiredLease(JOB_1, 7, True, records.FATE_DEAD, 0, "crashed")]
    ),
    records.JobsCancelled([(JOB_1, 0), (JOB_2, 7)], "not wanted"),
    records.CancelRequested(JOB_1, 7, "not wanted"),
    records.JobRescheduled(JOB_1, NOW_MS + 9),
    records.PriorityChanged(JOB_1, 255),
    records.JobRevived(JOB_1, 0),
    records.JobsDeleted([JOB_1, JOB_2]),
    records.ProgressReported(JOB_1, 7, b"50%"),
    records.JobLogged(JOB_1, 7, ["one", "two"]),
    records.FinishedPruned("mail", records.RING_DEAD, 12),
    records.IdsForgotten(4_096),
    records.KeysExpired(3),
]

ROW_SAMPLES: list[rows.Row] = [
    rows.MetaRow(99, NOW_MS, 12, 5, 3, 2, 1, 1),
    rows.QueueRow("mail", queue.QueueSettings(succeeded_count=5), (9, 4, 3, 2, 1)),
    rows.QueueRow("video", None, (0, 0, 0, 0, 0)),
    rows.SessionRow(1, SESSION, "w1", "host", 42, "1.2.3", ("send",), ("mail",), False, 30_000, 5),
    rows.JobRow(
        JOB_1, _SPEC, b"{}", 4, 100, 1, 7, 11, 0, NOW_MS, NOW_MS + 1, 1, 0, 1, _PACKED_COLD
    ),
    rows.EndedRow(
        msgspec.msgpack.encode(
            rows.Finished(
                JOB_2, _SPEC, b"[]", 6, 100, 3, 7, NOW_MS, NOW_MS, NOW_MS, 4, None, "attempts"
            )
        )
    ),
    rows.RememberedRow(NOW_MS, JOB_1 + JOB_2, (7 << 3 | 5).to_bytes(8, "big") * 2, NOW_MS - 5),
    rows.KeyRow(bytes(16), 2, JOB_1, bytes(8), NOW_MS + 3_600_000),
]


def record_vectors() -> dict[str, str]:
    """Name of the record → one record as a commit holds it, header included, in hex."""
    return {type(record).__name__: encode_records([record]).hex() for record in RECORD_SAMPLES}


def row_vectors() -> list[str]:
    """One block a row, in hex."""
    return [encode_rows([row]).hex() for row in ROW_SAMPLES]  # type: ignore[list-item]


def registry() -> dict[str, Any]:
    """Numbers and fields of everything that lies on a disk."""
    row_kinds = typing.get_args(rows.AnyRow)
    return {
        "records": {str(number): kind.__name__ for number, kind in RECORDS.items()},
        "rows": {str(kind.__struct_config__.tag): kind.__name__ for kind in row_kinds},
        "structs": {kind.__name__: list(kind.__struct_fields__) for kind in structs()},
        "states": {str(int(state)): state.name for state in job.State},
    }


def lost(released: dict[str, Any], current: dict[str, Any]) -> list[str]:
    """What `current` took away from, or changed in, what was released."""
    found = [
        f"{part} {number} was {name}, is {current[part].get(number)}"
        for part in ("records", "rows", "states")
        for number, name in released[part].items()
        if current[part].get(number) != name
    ]
    return found + [
        f"fields of {name} began {names}, are {current['structs'].get(name)}"
        for name, names in released["structs"].items()
        if current["structs"].get(name, [])[: len(names)] != names
    ]


def structs() -> list[type[msgspec.Struct]]:
    """Every struct on a disk, records first, then rows, then what they are made of."""
    found: dict[type[msgspec.Struct], None] = {}
    waiting: list[Any] = [*RECORDS.values(), *typing.get_args(rows.AnyRow)]
    waiting += [rows.Finished, rows.Cold]
    while waiting:
        kind = waiting.pop(0)
        waiting.extend(typing.get_args(kind))
        is_struct = isinstance(kind, type) and not isinstance(kind, types.GenericAlias)
        if is_struct and issubclass(kind, msgspec.Struct) and kind not in found:
            found[kind] = None
            waiting.extend(typing.get_type_hints(kind).values())
    return list(found)


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    if REGISTRY.exists() and (gone := lost(_read(REGISTRY), registry())):
        raise SystemExit("Released is released:\n" + "\n".join(gone))
    released = _read(RECORD_VECTORS) if RECORD_VECTORS.exists() else {}
    _write(RECORD_VECTORS, {**record_vectors(), **released})
    kept = _read(ROW_VECTORS) if ROW_VECTORS.exists() else []
    _write(ROW_VECTORS, [*kept, *row_vectors()[len(kept) :]])
    _write(REGISTRY, registry())


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _write(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
