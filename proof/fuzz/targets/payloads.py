"""What jobs carry and children say: JSON by type, and the frames of the process executor.

A payload comes from anybody; a child process runs somebody's code, and may write anything
to its pipe before it dies.
"""

from __future__ import annotations

import asyncio
import enum
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cache
from typing import Any

import msgspec

from headrace.client.context import JobFacts
from headrace.client.executors import frames as pipe
from headrace.client.executors.child import Child
from headrace.client.executors.processes import _Child
from headrace.client.payload import PayloadCodec, decode_untyped
from headrace.client.signature import JobSignature
from headrace.model.errors import HeadraceError
from headrace.model.job import JobError
from proof.fuzz import msgpack_tree
from proof.fuzz.mutation import texts
from proof.fuzz.target import TAKEN, Target, expect, linear, refused

MODULES = ("headrace/client",)


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Node(msgspec.Struct):
    """Holds its own kind, so that depth is bounded by the input alone."""

    name: str
    wait: timedelta = timedelta(0)
    inner: list[Node] = []


@dataclass
class Point:
    at: datetime
    waits: list[timedelta] = field(default_factory=list)


def everything(
    count: int,
    share: float,
    name: str,
    raw: bytes,
    at: datetime,
    wait: timedelta,
    either: int | timedelta | None,
    by_name: dict[str, timedelta | None],
    pair: tuple[int, timedelta],
    key: uuid.UUID,
    price: Decimal,
    colour: Colour,
    node: Node,
    point: Point,
    anything: Any = None,
) -> dict[str, list[timedelta]]:
    """A handler with a parameter of each type that a payload can carry."""
    raise NotImplementedError


@cache
def codec() -> PayloadCodec:
    return PayloadCodec(JobSignature(everything, "everything"))


def _example() -> bytes:
    at = datetime(2026, 1, 31, 12, tzinfo=UTC)
    minute = timedelta(minutes=1)
    node = Node("a", minute, [Node("b", minute, [Node("c")])])
    return codec().encode(
        (1, 1.5, "ü", b"\0\xff", at, minute, minute, {"a": minute, "b": None}, (3, minute)),
        {
            "key": uuid.UUID(int=7), "price": Decimal("1.50"), "colour": Colour.RED, "node": node,
            "point": Point(at, [minute, minute]), "anything": {"x": [1, None, True, "y"]},
        },
    )  # fmt: skip


def check_payload(data: bytes) -> str:
    outcomes = [_results(data)]
    try:
        arguments = codec().decode(data)
        again = codec().encode((), arguments)
        expect(
            codec().encode((), codec().decode(again)) == again, "arguments survive a second trip"
        )
        outcomes.insert(0, TAKEN)
    except HeadraceError as error:
        outcomes.insert(0, refused(error))
    return " / ".join(outcomes)


def _results(data: bytes) -> str:
    outcome = TAKEN
    for decode in (codec().decode_result, decode_untyped):
        try:
            decode(data)
        except HeadraceError as error:
            outcome = refused(error)
    return outcome


# --- the frames of the process executor


def _facts() -> JobFacts:
    return JobFacts(bytes(16), 7, "k", "q", 1, 8, tags=("t",), headers={"a": "b"})


class _Pipe:
    """Gives what there is, as a pipe does whose other end has closed."""

    def __init__(self, data: bytes) -> None:
        self._rest = data
        self.asked_bytes_max = 0

    def take(self, count: int) -> bytes:
        self.asked_bytes_max = max(self.asked_bytes_max, count)
        taken, self._rest = self._rest[:count], self._rest[count:]
        return taken


class _Process(_Pipe):
    """A child process, as the executor sees it."""

    pid = 1

    def write(self, data: bytes) -> None: ...

    async def read(self, count: int) -> bytes:
        return self.take(count)

    def terminate(self) -> None: ...

    def kill(self) -> None: ...

    async def wait(self) -> int:
        return -9


class _Reporter:
    def wall_ms(self) -> int:
        return 0

    def progress(self, facts: JobFacts, progress: bytes) -> None:
        expect(isinstance(progress, bytes), "progress is bytes")

    def log_line(self, facts: JobFacts, line: str) -> None:
        expect(isinstance(line, str), "a log line is text")


def check_from_child(data: bytes) -> str:
    try:
        answer = _loop().run_until_complete(_answer_of(_Process(data)))
    except HeadraceError as error:
        return refused(error)
    is_answer = isinstance(answer, pipe.Returned | pipe.Raised | pipe.SnoozedFor)
    return f"{TAKEN} {type(answer).__name__} {is_answer}"


async def _answer_of(process: _Process) -> pipe.FromChild:
    child = _Child(process)
    await child.load("m:app")
    return await child.run(pipe.Run(_facts(), b"{}"), _facts(), _Reporter())


@cache
def _loop() -> asyncio.AbstractEventLoop:
    return asyncio.new_event_loop()


def check_to_child(data: bytes) -> str:
    child = Child.__new__(Child)
    pipe_end = _Pipe(data)
    child._pipe = type("_ParentPipe", (), {"read": staticmethod(pipe_end.take)})()
    found: list[str] = []
    while True:
        try:
            message = child._receive()
        except HeadraceError as error:
            return refused(error)
        if message is None:
            return f"{TAKEN} {found}"
        found.append(type(message).__name__)


def _from_child_seeds() -> list[bytes]:
    ready, error = pipe.frame(pipe.Ready()), JobError("E", "m", "t", 1, 2, "w")
    ends: list[pipe.FromChild] = [
        pipe.Returned(b"{}", 5), pipe.Raised(error, True, 3, 4), pipe.SnoozedFor(9, 1),
    ]  # fmt: skip
    said = pipe.frame(pipe.Said(progress=b"1", line="x"))
    return [ready + said + pipe.frame(end) for end in ends] + [pipe.frame(pipe.Ready("no app"))]


def _to_child_seeds() -> list[bytes]:
    return [pipe.frame(pipe.Load("m:app")) + pipe.frame(pipe.Run(_facts(), b"{}"))]


def _mutate_pipe(chance: Any, data: bytes, others: Any) -> bytes:
    """One frame bent, its length made right again most of the time."""
    start = 0
    frames = []
    while start + pipe.HEAD_BYTES <= len(data):
        end = start + pipe.HEAD_BYTES + int.from_bytes(data[start : start + 4], "big")
        frames.append(data[start + 4 : end])
        start = end
    if not frames or chance.random() < 0.2:
        return msgpack_tree.mutated(chance, data, others)
    at = chance.randrange(len(frames))
    frames[at] = msgpack_tree.mutated(chance, frames[at], [other[4:] for other in others])
    heads = [len(body) for body in frames]
    if chance.random() < 0.2:
        heads[at] = chance.choice((0, 1, heads[at] + 1, 0xFFFFFFFF))
    pairs = zip(heads, frames, strict=True)
    return b"".join(head.to_bytes(4, "big") + body for head, body in pairs)


_JSON_WORDS = (
    "null", "true", "1e999", "-0", "1e-400", "123456789012345678901234567890", '"', "[", "]", "{}",
    '"\\ud800"', '"\\u0000"', "NaN", "Infinity", "9" * 400, "[" * 600, '{"a":' * 300,
    "2026-01-31T12:00:00",
    "9999-12-31T23:59:59+00:00", "0001-01-01T00:00:00+14:00", "86400000000000000", "-1", "1.0", ",",
)  # fmt: skip

TARGETS = (
    Target(
        "payload", lambda: [_example(), b'{"a":[1,60000]}', b"null"], check_payload,
        texts(_JSON_WORDS), MODULES, linear, weight=3,
    ),
    Target("from-child", _from_child_seeds, check_from_child, _mutate_pipe, MODULES, linear),
    Target("to-child", _to_child_seeds, check_to_child, _mutate_pipe, MODULES, linear),
)  # fmt: skip
