"""What a worker and its child processes say to each other.

    frame: u32 big-endian length · msgpack of one message

Down: `Load` once, then `Run` for each job. Up: `Ready` after loading, then for each job
any number of `Said` and one of `Returned`, `Raised` or `SnoozedFor`. Results and payloads
are the JSON bytes that the queue keeps; no object crosses, so nothing is ever unpickled.
"""

from __future__ import annotations

import msgspec

from headrace.client.context import JobFacts
from headrace.client.errors import ChildLost
from headrace.model.errors import BadRequest
from headrace.model.job import JobError

HEAD_BYTES = 4


class Load(msgspec.Struct, tag="load"):
    target: str
    """`module:app`, as for `headrace worker`."""


class Run(msgspec.Struct, tag="run"):
    facts: JobFacts
    payload: bytes


class Ready(msgspec.Struct, tag="ready"):
    problem: str = ""
    """Why the application could not be loaded; `` when it was."""


class Said(msgspec.Struct, tag="said"):
    """Progress or a log line of the job that runs."""

    progress: bytes | None = None
    line: str | None = None


class Returned(msgspec.Struct, tag="returned"):
    result: bytes | None
    rss_bytes: int = 0


class Raised(msgspec.Struct, tag="raised"):
    error: JobError
    retryable: bool
    delay_ms: int = -1
    rss_bytes: int = 0


class SnoozedFor(msgspec.Struct, tag="snoozed"):
    delay_ms: int
    rss_bytes: int = 0


ToChild = Load | Run
FromChild = Ready | Said | Returned | Raised | SnoozedFor

_ENCODER = msgspec.msgpack.Encoder()
_TO_CHILD = msgspec.msgpack.Decoder(ToChild)
_FROM_CHILD = msgspec.msgpack.Decoder(FromChild)


def decode_to_child(body: bytes) -> ToChild:
    """Raises: `BadRequest`."""
    try:
        message: ToChild = _TO_CHILD.decode(body)
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"The worker sent what is no message: {error}.") from error
    return message


def decode_from_child(body: bytes) -> FromChild:
    """Raises: `ChildLost`: whoever wrote that cannot be followed any further."""
    try:
        message: FromChild = _FROM_CHILD.decode(body)
    except (ValueError, RecursionError) as error:
        raise ChildLost(f"The child process sent what is no message: {error}.") from error
    return message


def frame(message: ToChild | FromChild) -> bytes:
    body = _ENCODER.encode(message)
    return len(body).to_bytes(HEAD_BYTES, "big") + body


def body_bytes(head: bytes) -> int:
    """Length of the body that follows; 0 when the stream has ended."""
    return int.from_bytes(head, "big") if len(head) == HEAD_BYTES else 0
