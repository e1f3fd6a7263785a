"""Wire messages: the number of each type, and bodies to bytes and back.

A number is never reused and a type never leaves the table (golden test
`tests/unit/codec/test_golden.py`). Source: `spec/wire-protocol.md`.
"""

from __future__ import annotations

from typing import Any

import msgspec

from headrace.model import commands, handshake, pushes, replies
from headrace.model.errors import BadRequest, Unsupported

MESSAGES: dict[int, type[msgspec.Struct]] = {
    # handshake and connection
    0x01: handshake.Hello,
    0x02: handshake.Welcome,
    0x03: handshake.ErrorFrame,
    0x04: handshake.Pong,
    0x05: handshake.HandOver,
    # requests
    0x10: commands.Enqueue,
    0x20: commands.Claim,
    0x21: commands.Started,
    0x22: commands.Ack,
    0x23: commands.Nack,
    0x24: commands.Release,
    0x25: commands.Extend,
    0x26: commands.Progress,
    0x27: commands.LogLines,
    0x30: commands.Cancel,
    0x31: commands.Reschedule,
    0x32: commands.ChangePriority,
    0x33: commands.Revive,
    0x34: commands.Delete,
    0x35: commands.Purge,
    0x38: commands.ConfigureQueue,
    0x39: commands.PauseQueue,
    0x3A: commands.ResumeQueue,
    0x40: commands.OpenSession,
    0x41: commands.SetCredit,
    0x42: commands.Heartbeat,
    0x43: commands.ResumeSession,
    0x44: commands.CloseSession,
    0x50: commands.GetJob,
    0x51: commands.ListJobs,
    0x52: commands.WaitJob,
    0x53: commands.ExplainJob,
    0x54: commands.GetQueue,
    0x55: commands.ListQueues,
    0x56: commands.ListSessions,
    0x57: commands.GetStats,
    0x58: commands.Flush,
    0x59: commands.Watch,
    # replies
    0x80: replies.Done,
    0x81: replies.Enqueued,
    0x82: replies.Settled,
    0x83: replies.Changed,
    0x84: replies.Purged,
    0x85: replies.Claimed,
    0x86: replies.SessionOpen,
    0x87: replies.SessionResumed,
    0x88: replies.HeartbeatSeen,
    0x90: replies.JobReply,
    0x91: replies.JobPage,
    0x92: replies.Explanation,
    0x93: replies.QueueReply,
    0x94: replies.QueuePage,
    0x95: replies.SessionPage,
    0x96: replies.StatsReply,
    # pushes
    0xC0: pushes.JobsPushed,
    0xC1: pushes.CancelPushed,
    0xC2: pushes.RecallPushed,
    0xC3: pushes.FinishedPushed,
    0xC4: pushes.DrainPushed,
    0xC5: pushes.PingPushed,
}

TYPE_NUMBERS: dict[type[msgspec.Struct], int] = {kind: no for no, kind in MESSAGES.items()}

UNANSWERED = frozenset({commands.Started, commands.Progress, commands.LogLines, handshake.Pong})
"""Requests without a reply: their request id is 0."""

ANSWERS: dict[type[msgspec.Struct], type[replies.Reply]] = {
    handshake.HandOver: replies.Done,
    commands.Enqueue: replies.Enqueued,
    commands.Claim: replies.Claimed,
    commands.Ack: replies.Settled,
    commands.Nack: replies.Settled,
    commands.Release: replies.Settled,
    commands.Extend: replies.Settled,
    commands.Cancel: replies.Changed,
    commands.Reschedule: replies.Changed,
    commands.ChangePriority: replies.Changed,
    commands.Revive: replies.Changed,
    commands.Delete: replies.Done,
    commands.Purge: replies.Purged,
    commands.ConfigureQueue: replies.Done,
    commands.PauseQueue: replies.Done,
    commands.ResumeQueue: replies.Done,
    commands.OpenSession: replies.SessionOpen,
    commands.SetCredit: replies.Done,
    commands.Heartbeat: replies.HeartbeatSeen,
    commands.ResumeSession: replies.SessionResumed,
    commands.CloseSession: replies.Done,
    commands.GetJob: replies.JobReply,
    commands.ListJobs: replies.JobPage,
    commands.WaitJob: replies.JobReply,
    commands.ExplainJob: replies.Explanation,
    commands.GetQueue: replies.QueueReply,
    commands.ListQueues: replies.QueuePage,
    commands.ListSessions: replies.SessionPage,
    commands.GetStats: replies.StatsReply,
    commands.Flush: replies.Done,
    commands.Watch: replies.Settled,
}
"""The reply of each request that is answered; instead of it a refusal may come."""

_DECODERS = {no: msgspec.msgpack.Decoder(kind) for no, kind in MESSAGES.items()}
_ENCODER = msgspec.msgpack.Encoder()

encode_body = _ENCODER.encode
encode_into = _ENCODER.encode_into
"""`encode_into(message, buffer, -1)` puts its body at the end of a bytearray."""


def decode_body(type_number: int, body: bytes | memoryview) -> Any:
    """The message in `body`. Unknown trailing fields are ignored, missing ones take their default.

    Raises: `Unsupported` for a type number that this version does not know; `BadRequest`
    for a body that does not fit its type.
    """
    decoder = _DECODERS.get(type_number)
    if decoder is None:
        raise Unsupported(
            f"Message type 0x{type_number:02x} is not known to this version.",
            hint="Upgrade this end, or leave the feature that sends it unused.",
        )
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        name = MESSAGES[type_number].__name__
        raise BadRequest(f"The body of {name} is not well formed: {error}.") from error
