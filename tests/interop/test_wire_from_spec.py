"""A worker written from `spec/wire-protocol.md` alone, against a real server.

Nothing of headrace is imported in this file, and no msgpack library: if the spec forgot
something, this client cannot know it. The server runs in a process of its own.
"""

from __future__ import annotations

import binascii
import os
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

DEADLINE_S = 20

# --- the subset of msgpack that the spec needs


def pack(value: Any) -> bytes:
    if value is None:
        return b"\xc0"
    if value is True or value is False:
        return b"\xc3" if value else b"\xc2"
    if isinstance(value, int):
        return b"\xcf" + struct.pack(">Q", value) if value >= 128 else bytes([value])
    if isinstance(value, bytes):
        return b"\xc6" + struct.pack(">I", len(value)) + value
    if isinstance(value, str):
        return b"\xdb" + struct.pack(">I", len(value.encode())) + value.encode()
    return b"\xdd" + struct.pack(">I", len(value)) + b"".join(pack(each) for each in value)


class Unpacker:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def take(self, count: int) -> bytes:
        found = self.data[self.at : self.at + count]
        assert len(found) == count
        self.at += count
        return found

    def number(self, form: str) -> Any:
        return struct.unpack(">" + form, self.take(struct.calcsize(form)))[0]

    def value(self) -> Any:
        first = self.number("B")
        if first < 0x80:
            return first
        if first < 0x90:
            return self.map(first & 0x0F)
        if first < 0xA0:
            return [self.value() for _ in range(first & 0x0F)]
        if first < 0xC0:
            return self.take(first & 0x1F).decode()
        if first >= 0xE0:
            return first - 0x100
        return self.long(first)

    def long(self, first: int) -> Any:
        if first in (0xC0, 0xC2, 0xC3):
            return {0xC0: None, 0xC2: False, 0xC3: True}[first]
        if first in (0xC4, 0xC5, 0xC6):
            return self.take(self.number("BHI"[first - 0xC4]))
        if 0xCA <= first <= 0xD3:
            return self.number("fdBHIQbhiq"[first - 0xCA])
        if first in (0xD9, 0xDA, 0xDB):
            return self.take(self.number("BHI"[first - 0xD9])).decode()
        if first in (0xDC, 0xDD):
            return [self.value() for _ in range(self.number("HI"[first - 0xDC]))]
        assert first in (0xDE, 0xDF), hex(first)
        return self.map(self.number("HI"[first - 0xDE]))

    def map(self, count: int) -> dict[Any, Any]:
        return {self.value(): self.value() for _ in range(count)}


# --- the client


class Client:
    def __init__(self, port: int) -> None:
        self.stream = socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_S)
        self.stream.sendall(bytes.fromhex("00485257"))
        self.replies: dict[int, tuple[int, Any]] = {}
        self.pushes: list[tuple[int, Any]] = []
        self.last_id = 0

    def send(self, type_number: int, request_id: int, *fields: Any) -> None:
        body = pack(list(fields))
        header = struct.pack(">IHHI", 8 + len(body), type_number, 0, request_id)
        self.stream.sendall(header + body)

    def call(self, type_number: int, *fields: Any) -> tuple[int, Any]:
        """(type, body) of the answer."""
        self.last_id += 1
        self.send(type_number, self.last_id, *fields)
        while self.last_id not in self.replies:
            self.read()
        return self.replies.pop(self.last_id)

    def push(self) -> tuple[int, Any]:
        while not self.pushes:
            self.read()
        return self.pushes.pop(0)

    def read(self) -> None:
        length, type_number, flags, request_id = struct.unpack(">IHHI", self.exactly(12))
        unpacker = Unpacker(self.exactly(length - 8))
        body = unpacker.value()
        assert flags == 0
        assert unpacker.at == len(unpacker.data)
        if type_number == 0xC5:
            self.send(0x04, 0, body[0])
        elif request_id:
            self.replies[request_id] = (type_number, body)
        else:
            self.pushes.append((type_number, body))

    def exactly(self, count: int) -> bytes:
        found = b""
        while len(found) < count:
            piece = self.stream.recv(count - len(found))
            assert piece, "the server ended the connection"
            found += piece
        return found

    def hello(self, session_id: bytes | None = None, mode: int = 0) -> Any:
        kind, body = self.call(0x01, 1, 1, "spec", "1", None, "default", session_id, mode)
        assert kind == 0x02
        return body


def new_job_id(queue: str) -> bytes:
    slot = 0x7000 | (binascii.crc32(queue.encode()) & 0x0FFF)
    tail = 0x8000000000000000 | (int.from_bytes(os.urandom(8), "big") >> 2)
    return (
        int(time.time() * 1000).to_bytes(6, "big")
        + slot.to_bytes(2, "big")
        + tail.to_bytes(8, "big")
    )


def digest_of(leases: list[tuple[bytes, int]]) -> int:
    digest = 0
    for job_id, token in leases:
        digest ^= int.from_bytes(job_id[0:8], "big") ^ token
    return digest


Connect = Callable[[], Client]

# --- the server, in a process of its own

SERVER = """
import asyncio, sys
from headrace.model.settings import ServerSettings, Settings
from headrace.runtime.env import real_env
from headrace.server.compose import serve

async def main():
    settings = Settings(server=ServerSettings(listen=("127.0.0.1:0",)))
    server = await serve(real_env(), sys.argv[1], settings)
    print(server.urls[1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await server.stop(0)

asyncio.run(main())
"""


@pytest.fixture
def connect(port: int) -> Iterator[Connect]:
    clients: list[Client] = []

    def make() -> Client:
        clients.append(Client(port))
        return clients[-1]

    yield make
    for client in clients:
        client.stream.close()


@pytest.fixture
def port() -> Iterator[int]:
    with tempfile.TemporaryDirectory(prefix="hr-", dir="/var/tmp") as directory:
        process = subprocess.Popen(
            [sys.executable, "-c", SERVER, f"{directory}/data"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline().rpartition(":")[2])
        finally:
            process.stdin.close()
            assert process.wait(DEADLINE_S) == 0
            process.stdout.close()


# --- what it can do


def test_job_travels_from_enqueue_to_ack(connect: Connect) -> None:
    client, session_id, job_id = connect(), os.urandom(16), new_job_id("mail")
    welcome = client.hello()
    assert welcome[0] == 1
    assert welcome[8]["in_flight_max"] > 0

    kind, opened = client.call(
        0x40, session_id, "w", "host", 1, "b", ["send_welcome"], ["mail"], 10
    )
    assert (kind, opened[2]) == (0x86, session_id)
    lease_ms, heartbeat_ms = opened[3:5]
    assert heartbeat_ms * 3 <= lease_ms

    kind, enqueued = client.call(0x10, [["mail", "send_welcome"]], [[job_id, 0, b'{"user_id":42}']])
    assert (kind, enqueued[1:]) == (0x81, [1, None, None, None])

    kind, pushed = client.push()
    assert kind == 0xC0
    token, queue, name, media_type, _timeout_ms, _attempt_max, jobs = pushed[0][0]
    assert (queue, name, media_type) == ("mail", "send_welcome", "application/json")
    assert [job[:3] for job in jobs] == [[job_id, 1, b'{"user_id":42}']]

    client.send(0x21, 0, [[job_id, token]])
    heartbeat = client.call(0x42, session_id, 1, digest_of([(job_id, token)]))
    assert (heartbeat[0], heartbeat[1][2]) == (0x88, False)

    assert client.call(0x22, [[job_id, token, b'"sent"']])[1][2] is None
    kind, found = client.call(0x50, job_id)
    assert kind == 0x90
    assert found[2][3] == 5
    assert found[2][18] == b'"sent"'


def test_repeated_calls_answer_as_the_first_time(connect: Connect) -> None:
    client, job_id = connect(), new_job_id("q")
    client.hello()
    client.call(0x10, [["q", "k"]], [[job_id, 0, b"x"]])
    again = client.call(0x10, [["q", "k"]], [[job_id, 0, b"x"]], False, True)[1]
    other = client.call(0x10, [["q", "k"]], [[job_id, 0, b"y"]])[1]
    kind, claimed = client.call(0x20, ["q"], ["k"], 1)
    token = claimed[2][0][0]
    first = client.call(0x22, [[job_id, token, None]])[1]
    second = client.call(0x22, [[job_id, token, None]])[1]
    stale = client.call(0x22, [[job_id, token + 1, None]])[1]

    assert again[2] == [[0, job_id, 3]]
    assert other[3][0][:2] == [0, "id_conflict"]
    assert kind == 0x85
    assert (first[2], second[2]) == (None, None)
    assert stale[2][0][:2] == [0, "stale_lease"]


def test_session_survives_its_connection(connect: Connect) -> None:
    """Three jobs are held; after a reconnect one is kept, one is lost on the way, one is ours
    no more."""
    client, session_id = connect(), os.urandom(16)
    client.hello()
    client.call(0x40, session_id, "w", "host", 1, "b", ["k"], ["q"], 2)
    ids = [new_job_id("q") for _ in range(2)]
    client.call(0x10, [["q", "k"]], [[job_id, 0, b"x"] for job_id in ids])
    held: dict[bytes, int] = {}
    while len(held) < 2:
        for token, *_, jobs in client.push()[1][0]:
            held |= {job[0]: token for job in jobs}
    client.stream.close()

    again = connect()
    assert again.hello(session_id, 2)[4] == session_id
    entries = [[ids[0], held[ids[0]], True], [new_job_id("q"), 1, False]]
    kind, resumed = again.call(0x43, session_id, entries, 2)
    assert (kind, resumed[2]) == (0x87, [0, 1])

    # The one that was not listed went back, and comes again under a new token.
    kind, pushed = again.push()
    [[token, *_, jobs]] = pushed[0]
    assert (kind, jobs[0][0], jobs[0][1]) == (0xC0, ids[1], 1)
    assert token > held[ids[1]]


def test_cancel_reaches_the_holder_who_confirms(connect: Connect) -> None:
    client, session_id, job_id = connect(), os.urandom(16), new_job_id("q")
    client.hello()
    client.call(0x40, session_id, "w", "host", 1, "b", ["k"], ["q"], 1)
    client.call(0x10, [["q", "k"]], [[job_id, 0, b"x"]])
    token = client.push()[1][0][0][0]
    kind, changed = client.call(0x30, job_id, "enough")
    assert (kind, changed[2:]) == (0x83, [4, True])
    assert client.push() == (0xC1, [[[job_id, token]]])

    client.call(0x24, [[job_id, token]])
    found = client.call(0x50, job_id)[1][2]
    assert (found[3], found[26]) == (7, "enough")


def test_recoverable_refusals_leave_the_connection_open(connect: Connect) -> None:
    client = connect()
    client.hello()
    assert client.call(0x50, os.urandom(16))[1][0] == "unknown_job"
    assert client.call(0x50, "text, not bytes")[1][0] == "bad_request"
    assert client.call(0x7F)[1][0] == "unsupported"
    kind, done = client.call(0x58, "a field of a later version", 7)
    assert (kind, done[1]) == (0x80, 1)


def test_attached_connection_beats_for_the_session_and_gets_no_jobs(connect: Connect) -> None:
    worker, beats, session_id = connect(), connect(), os.urandom(16)
    worker.hello()
    worker.call(0x40, session_id, "w", "host", 1, "b", ["k"], ["q"], 5)
    assert beats.hello(session_id, 1)[4] == session_id
    assert beats.call(0x42, session_id)[0] == 0x88
    worker.call(0x10, [["q", "k"]], [[new_job_id("q"), 0, b"x"]])

    assert worker.push()[0] == 0xC0
    beats.call(0x58)
    assert beats.pushes == []
