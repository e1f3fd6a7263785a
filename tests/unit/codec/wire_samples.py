"""Samples of every wire message, and the vectors made of them.

`python -m tests.unit.codec.wire_samples` writes the vector of each sample that has none
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

from headrace.codec.messages import MESSAGES, TYPE_NUMBERS, UNANSWERED
from headrace.model import commands, handshake, job, pushes, queue, replies
from headrace.model.errors import codes
from headrace.protocol.framing import FrameWriter

VECTORS = Path(__file__).resolve().parents[3] / "spec/vectors/wire"
REGISTRY = VECTORS / "registry.json"

JOB_1 = bytes.fromhex("0190f3a27b1c7def8123456789abcdef")
JOB_2 = bytes.fromhex("0190f3a27b1d7def8123456789abcdf0")
SESSION = bytes.fromhex("00112233445566778899aabbccddeeff")

_RETRY = job.RetryPolicy(attempt_max=3, backoff=job.BACKOFF_LIST, delays_ms=(1000, 5000))
_ERROR = job.JobError(
    "ValueError", "no such user", "Traceback: …", 1_764_000_000_000, 2, "w1", True
)
_SPEC = job.JobSpec("mail", "send_welcome")
_OWN_SPEC = job.JobSpec("mail", "send_digest", "application/msgpack", _RETRY, 30_000)
_EXTRA = job.JobExtra("welcome:42", 3_600_000, 1_764_000_600_000, ("eu", "vip"), {"trace": "ab12"})
_PUSHED = replies.PushedJob(JOB_1, 2, b'{"user_id":42}', {"trace": "ab12"}, 200, ("eu",), 1)
_GROUP = replies.PushedGroup(4711, "mail", "send_welcome", "application/json", 30_000, 8, [_PUSHED])
_PROBLEM = replies.Problem(1, "id_conflict", "This job id already names a job.", "Use a new id.")
_VIEW = replies.JobView(
    job_id=JOB_1,
    queue="mail",
    kind="send_welcome",
    state=job.State.DEAD,
    priority=100,
    attempt=8,
    attempt_max=8,
    enqueued_at_ms=1_764_000_000_000,
    ended_at_ms=1_764_000_900_000,
    payload_bytes=14,
    payload=b'{"user_id":42}',
    tags=("eu",),
    errors=[_ERROR],
    reason="attempts",
    history=[job.JobHistoryEntry("claimed", 1_764_000_000_100, 1)],
    retry=_RETRY,
)
_QUEUE = replies.QueueView(
    "mail", False, 1, 0, 3, 2, 10, 4, 0, 1500, 4096, 900, 20, 10, 5, 4, 1, queue.QueueSettings()
)
_SESSION_VIEW = replies.SessionView(
    SESSION, "w1", "host", 4242, "1.2.3", ("send_welcome",), ("mail",), 120, 5, 4,
    1_764_000_000_000, True, 900, 3, False, 0,
)  # fmt: skip

SAMPLES: dict[str, msgspec.Struct] = {
    "hello": handshake.Hello(client_name="python", client_version="0.1.0"),
    "hello_resume_with_token": handshake.Hello(
        client_name="go", client_version="2", auth="secret", session_id=SESSION,
        session_mode=handshake.SESSION_RESUME,
    ),
    "welcome": handshake.Welcome(
        1, "0.1.0", b"\x01" * 16, b"\x02" * 16, None, 3, 1_764_000_000_000, 10_000,
        {"frame_bytes_max": 8_454_144, "in_flight_max": 65_536},
    ),
    "error": handshake.ErrorFrame(
        "overloaded", "More is waiting for the disk than the limit allows.", "Try again.",
        "refused", 250, {"queue": "mail"}, 99,
    ),
    "pong": handshake.Pong(1_764_000_000_000),
    "hand_over": handshake.HandOver("headrace serve asks for the directory"),
    "enqueue": commands.Enqueue([_SPEC], [commands.NewJob(JOB_1, 0, b'{"user_id":42}')]),
    "enqueue_full": commands.Enqueue(
        [_SPEC, _OWN_SPEC],
        [
            commands.NewJob(JOB_1, 0, b"{}", delay_ms=600_000),
            commands.NewJob(JOB_2, 1, b"\x80", 200, 1_764_000_000_000, 0, _EXTRA),
        ],
        True,
        True,
    ),
    "claim": commands.Claim(("mail",), ("send_welcome",), 10, 30_000, 5_000),
    "started": commands.Started([(JOB_1, 4711), (JOB_2, 4711)]),
    "ack": commands.Ack([(JOB_1, 4711, None), (JOB_2, 4711, b'"sent"')]),
    "nack": commands.Nack([commands.Failure(JOB_1, 4711, _ERROR, True, 5_000)]),
    "release": commands.Release([commands.Return(JOB_1, 4711, 60_000, True)]),
    "extend": commands.Extend([(JOB_1, 4711)], 30_000),
    "progress": commands.Progress(JOB_1, 4711, b'{"done":0.5}'),
    "log_lines": commands.LogLines(JOB_1, 4711, ["first", "second"]),
    "cancel": commands.Cancel(JOB_1, "no longer needed"),
    "reschedule": commands.Reschedule(JOB_1, 1_764_000_000_000),
    "change_priority": commands.ChangePriority(JOB_1, 200),
    "revive": commands.Revive(JOB_1, 1_000),
    "delete": commands.Delete(JOB_1),
    "purge": commands.Purge("mail", (5, 6, 7)),
    "configure_queue": commands.ConfigureQueue("mail", queue.QueueSettings(durability=2)),
    "pause_queue": commands.PauseQueue("mail"),
    "resume_queue": commands.ResumeQueue("mail"),
    "open_session": commands.OpenSession(
        SESSION, "w1", "host", 4242, "1.2.3", ("send_welcome",), ("mail",), 120
    ),
    "set_credit": commands.SetCredit(SESSION, 64),
    "heartbeat": commands.Heartbeat(SESSION, 2, 0x1ECD_0000_0000_0001, 3, 0),
    "resume_session": commands.ResumeSession(
        SESSION, [commands.HeldLease(JOB_1, 4711, True), commands.HeldLease(JOB_2, 4711)], 120
    ),
    "close_session": commands.CloseSession(SESSION, "drained"),
    "get_job": commands.GetJob(JOB_1, False),
    "list_jobs": commands.ListJobs("mail", (3,), "send_welcome", "eu", 0, 0, 50, b"\x01\x02"),
    "wait_job": commands.WaitJob(JOB_1, 30_000),
    "explain_job": commands.ExplainJob(JOB_1),
    "get_queue": commands.GetQueue("mail"),
    "list_queues": commands.ListQueues(100, b""),
    "list_sessions": commands.ListSessions(100, b""),
    "get_stats": commands.GetStats(),
    "flush": commands.Flush(),
    "watch": commands.Watch([JOB_1, JOB_2]),
    "done": replies.Done(4712),
    "enqueued": replies.Enqueued(4712),
    "enqueued_in_part": replies.Enqueued(
        4712, 0, [replies.Existing(0, JOB_1, 5)], [_PROBLEM], [JOB_1, JOB_2]
    ),
    "settled": replies.Settled(4713, 1, [replies.Problem(0, "stale_lease", "The lease ended.")]),
    "changed": replies.Changed(4714, 1, int(job.State.LEASED), True),
    "purged": replies.Purged(4715, 1, 1_000, True),
    "claimed": replies.Claimed(4711, 1, [_GROUP]),
    "session_open": replies.SessionOpen(4710, 1, SESSION, 30_000, 10_000),
    "session_resumed": replies.SessionResumed(4716, 1, [0, 1]),
    "heartbeat_seen": replies.HeartbeatSeen(4716, 1, True),
    "job_reply": replies.JobReply(4716, 1, _VIEW),
    "job_page": replies.JobPage(4716, 1, [_VIEW], b"\x01\x02"),
    "explanation": replies.Explanation(
        4716, 1, JOB_1, int(job.State.READY), "Nobody runs this kind.",
        [replies.Reason("unroutable", "No session handles send_welcome.", "Start a worker.")],
    ),
    "queue_reply": replies.QueueReply(4716, 1, _QUEUE),
    "queue_page": replies.QueuePage(4716, 1, [_QUEUE], b""),
    "session_page": replies.SessionPage(4716, 1, [_SESSION_VIEW], b""),
    "stats_reply": replies.StatsReply(
        4716, 1, {"headrace_jobs_enqueued_total": 900}, {"headrace_jobs_ready": 3.0},
        {"headrace_commit_seconds": {"p50": 0.0005, "p99": 0.002}},
    ),
    "jobs_pushed": pushes.JobsPushed([_GROUP]),
    "cancel_pushed": pushes.CancelPushed([(JOB_1, 4711)]),
    "recall_pushed": pushes.RecallPushed([(JOB_2, 4711)]),
    "finished_pushed": pushes.FinishedPushed([_VIEW]),
    "drain_pushed": pushes.DrainPushed(30_000),
    "ping_pushed": pushes.PingPushed(1_764_000_000_000),
}  # fmt: skip


def request_id_of(message: msgspec.Struct) -> int:
    return 0 if type(message) in UNANSWERED or isinstance(message, pushes.Push) else 7


def frame_of(message: msgspec.Struct, request_id: int | None = None) -> bytes:
    writer = FrameWriter()
    chosen = request_id_of(message) if request_id is None else request_id
    writer.add(TYPE_NUMBERS[type(message)], chosen, message)
    return b"".join(writer.take())


def meaning(value: Any) -> Any:
    """`value` as JSON: structs by field name, bytes as `{"$bytes": hex}`."""
    if isinstance(value, msgspec.Struct):
        return {name: meaning(getattr(value, name)) for name in value.__struct_fields__}
    if isinstance(value, bytes):
        return {"$bytes": value.hex()}
    if isinstance(value, (list, tuple)):
        return [meaning(each) for each in value]
    if isinstance(value, dict):
        return {key: meaning(each) for key, each in value.items()}
    return value


def vector_of(name: str) -> dict[str, Any]:
    message = SAMPLES[name]
    return {
        "message": type(message).__name__,
        "type": TYPE_NUMBERS[type(message)],
        "request_id": request_id_of(message),
        "frame": frame_of(message).hex(),
        "body": meaning(message),
    }


def registry() -> dict[str, Any]:
    """What may only grow: type numbers, fields in order, codes."""
    return {
        "types": {f"0x{number:02x}": kind.__name__ for number, kind in sorted(MESSAGES.items())},
        "fields": {kind.__name__: list(kind.__struct_fields__) for kind in structs()},
        "codes": sorted(codes()),
        "vectors": sorted(SAMPLES),
    }


def lost(released: dict[str, Any], current: dict[str, Any]) -> list[str]:
    """What `current` took away from, or changed in, what was released."""
    found = [
        f"type {number} was {name}, is {current['types'].get(number)}"
        for number, name in released["types"].items()
        if current["types"].get(number) != name
    ]
    found += [
        f"fields of {name} began {names}, are {current['fields'].get(name)}"
        for name, names in released["fields"].items()
        if current["fields"].get(name, [])[: len(names)] != names
    ]
    for part in ("codes", "vectors"):
        found += [
            f"{part}: {name} is gone"
            for name in released.get(part, [])
            if name not in current[part]
        ]
    return found


def structs() -> list[type[msgspec.Struct]]:
    """Every struct on the wire, messages first, then what they are made of."""
    found: dict[type[msgspec.Struct], None] = {}
    waiting: list[Any] = [MESSAGES[number] for number in sorted(MESSAGES)]
    while waiting:
        kind = waiting.pop(0)
        waiting.extend(typing.get_args(kind))
        is_struct = isinstance(kind, type) and not isinstance(kind, types.GenericAlias)
        if is_struct and issubclass(kind, msgspec.Struct) and kind not in found:
            found[kind] = None
            waiting.extend(typing.get_type_hints(kind).values())
    return list(found)


def main() -> None:
    VECTORS.mkdir(parents=True, exist_ok=True)
    for name in SAMPLES:
        path = VECTORS / f"{name}.json"
        if not path.exists():
            path.write_text(_json(vector_of(name)), encoding="utf-8")
    if REGISTRY.exists():
        gone = lost(json.loads(REGISTRY.read_text(encoding="utf-8")), registry())
        if gone:
            raise SystemExit("Released is released:\n" + "\n".join(gone))
    REGISTRY.write_text(_json(registry()), encoding="utf-8")


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    main()
