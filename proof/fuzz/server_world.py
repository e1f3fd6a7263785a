"""A node, its edge and one connection, in memory and on simulated time: bytes in, bytes out.

What runs is the server's own protocol class over the real node; only the socket, the disk
and the clock are simulated. The world is the same for every input, so an input that
breaks something breaks it again.
"""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from headrace.codec.messages import encode_body
from headrace.codec.records import decode_records
from headrace.engine.engine import Engine
from headrace.log.memory import MemoryLog, MemoryStore
from headrace.model import commands as c
from headrace.model.handshake import Hello
from headrace.model.job import JobError, JobExtra, JobSpec, RetryPolicy
from headrace.model.limits import READ_BUFFER_BYTES
from headrace.model.options import EngineOptions
from headrace.model.queue import QueueSettings
from headrace.protocol.framing import PREAMBLE
from headrace.protocol.handshake import TokenCheck
from headrace.runtime.node import Node, NodeOptions
from headrace.server.connection_protocol import ServerProtocol
from headrace.server.edge import Edge, EdgeLimits
from headrace.server.watch import Watch
from headrace.testing.sim_loop import SimNodeEnv
from proof.fuzz.frames import Frame, parsed

JOB_1 = bytes.fromhex("0190f3a27b1c7def8123456789abcdef")
"""Leased and started by the session. These are the ids of the golden vectors."""
JOB_2 = bytes.fromhex("0190f3a27b1d7def8123456789abcdf0")
"""Scheduled."""
SINGLE, DEAD, SUCCEEDED, READY = (JOB_1[:-1] + bytes([number]) for number in (1, 2, 3, 4))
SESSION = bytes.fromhex("00112233445566778899aabbccddeeff")
QUEUE, KIND = "mail", "send_welcome"
SETTLE_S = 0.05
"""Simulated; far longer than a commit takes, far shorter than any lease or wait."""


class World:
    """Everything at rest; `say` gives bytes to a fresh connection."""

    def __init__(self, env: SimNodeEnv) -> None:
        self.env = env
        self.failures: list[BaseException] = []
        self.events: list[tuple[str, dict[str, Any]]] = []
        self._store = MemoryStore(env)
        options = NodeOptions(tune_gc=False, engine=EngineOptions(verify=True))
        self.node = Node(
            env,
            MemoryLog(env, self._store),
            options,
            report=lambda event, **fields: self.events.append((event, fields)),
            on_failed=self.failures.append,
        )
        self.handed_over: list[str] = []

    async def start(self) -> World:
        await self.node.start()
        self._edge = Edge(
            self.node,
            EdgeLimits(),
            TokenCheck(None),
            lambda event, **fields: self.events.append((event, fields)),
            self.handed_over.append,
        )
        self._watch = Watch(self._edge)
        self._own = Wire(self._edge, self._watch)
        self._own.feed(PREAMBLE + Frame(1, 1, encode_body(Hello())).encoded())
        for command in _story():
            await self._done(command)
        claimed = self.engine.lease_of(DEAD)
        assert claimed is not None
        error = JobError("ValueError", "bad")
        await self._done(c.Nack([c.Failure(DEAD, claimed.token, error, False)]))
        finished = self.engine.lease_of(SUCCEEDED)
        assert finished is not None
        await self._done(c.Ack([(SUCCEEDED, finished.token, b'"sent"')]))
        await self._done(c.SetCredit(SESSION, 1))
        return self

    @property
    def engine(self) -> Engine:
        leader = self.node._leader
        assert leader is not None
        return leader.engine

    def events_bad(self) -> list[tuple[str, dict[str, Any]]]:
        """Reports that no input may cause."""
        return [event for event in self.events if event[0] in ("message_not_sent", "leader_failed")]

    def token_of(self, job_id: bytes) -> int:
        lease = self.engine.lease_of(job_id)
        return 0 if lease is None else lease.token

    async def say(self, data: bytes, *, greeted: bool = True) -> Heard:
        """What a fresh connection got for these bytes; `greeted`: after its handshake."""
        connection = Wire(self._edge, self._watch)
        if greeted:
            connection.feed(PREAMBLE + Frame(1, 1, encode_body(Hello())).encoded())
            connection.transport.take()
        connection.feed(data)
        await asyncio.sleep(SETTLE_S)
        heard = Heard(connection.transport.take(), connection.transport.ended)
        connection.protocol.connection_lost(None)
        await asyncio.sleep(SETTLE_S)
        return heard

    async def _done(self, command: c.Command) -> None:
        request_id = 0 if isinstance(command, c.Started) else 7
        self.node.submit(command, self._own.protocol, request_id)
        await asyncio.sleep(SETTLE_S)

    def replayed(self) -> Engine:
        """An engine that has seen nothing but the log."""
        engine = Engine(EngineOptions())
        for commit in self._store.commits:
            found = decode_records(commit.body, commit.record_count)
            for index, record in enumerate(found, commit.first_index):
                engine.apply(index, record)
        return engine


class Heard(msgspec.Struct):
    """What came back."""

    data: bytes
    ended: bool

    def frames(self) -> list[Frame]:
        found, rest = parsed(self.data)
        assert not rest, "the server writes whole frames"
        return found


class Wire:
    """A connection without a socket."""

    def __init__(self, edge: Edge, watch: Watch) -> None:
        self.protocol = ServerProtocol(edge, watch)
        self.transport = MemoryTransport()
        self.protocol.connection_made(self.transport)

    def feed(self, data: bytes) -> None:
        for at in range(0, len(data), READ_BUFFER_BYTES):
            if self.transport.is_closing():
                return
            part = data[at : at + READ_BUFFER_BYTES]
            self.protocol.get_buffer(-1)[: len(part)] = part
            self.protocol.buffer_updated(len(part))


class MemoryTransport(asyncio.Transport):
    """Keeps what is written, and ends when it is asked to."""

    def __init__(self) -> None:
        super().__init__()
        self._written: list[bytes] = []
        self.ended = False

    def take(self) -> bytes:
        written, self._written = b"".join(self._written), []
        return written

    def write(self, data: Any) -> None:
        self._written.append(bytes(data))

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def is_closing(self) -> bool:
        return self.ended

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.ended = True

    def abort(self) -> None:
        self.ended = True

    def close(self) -> None:
        self.ended = True


def _story() -> list[c.Command]:
    """Jobs in every state, a session with a lease, one lease without a session."""
    spec = JobSpec(QUEUE, KIND)
    once = JobSpec("other", "once", retry=RetryPolicy(attempt_max=1))
    extra = JobExtra(key="welcome:42", tags=("eu",), headers={"trace": "ab12"})
    return [
        c.ConfigureQueue(QUEUE, QueueSettings()),
        c.Enqueue([spec], [c.NewJob(JOB_1, 0, b"{}")]),
        c.OpenSession(SESSION, "w1", "host", 1, "b", (KIND,), (QUEUE,), 1),
        c.Started([(JOB_1, 6)]),
        c.Enqueue([spec], [c.NewJob(JOB_2, 0, b"{}", delay_ms=3_600_000, extra=extra)]),
        c.Enqueue([once], [c.NewJob(SINGLE, 0, b"1")]),
        c.Claim(("other",), ("once",)),
        c.Enqueue([once], [c.NewJob(DEAD, 0, b"2"), c.NewJob(SUCCEEDED, 0, b"3")]),
        c.Claim(("other",), ("once",), 2),
        c.Enqueue([once], [c.NewJob(READY, 0, b"4")]),
    ]
