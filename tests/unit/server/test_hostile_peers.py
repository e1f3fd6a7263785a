"""What bad input and bad manners get: a typed error where one can be said, and an end."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from headrace.model.commands import Enqueue, Flush, GetJob, NewJob
from headrace.model.errors import BadSettings
from headrace.model.handshake import ErrorFrame, Hello, Pong, Welcome
from headrace.model.job import JobSpec
from headrace.model.limits import FRAME_BYTES_MAX
from headrace.model.pushes import PingPushed
from headrace.model.replies import Done, Enqueued, JobReply
from headrace.model.settings import ServerSettings
from headrace.protocol.framing import HEADER, PREAMBLE
from headrace.server.compose import RunningServer
from headrace.server.edge import EdgeLimits
from tests.unit.server.harness import (
    DEADLINE_S,
    RawClient,
    Reports,
    frame,
    new_id,
    open_raw,
    raw_client,
    running,
    short_directory,
    tcp_address,
)


@pytest_asyncio.fixture
async def server() -> AsyncIterator[RunningServer]:
    with short_directory() as directory:
        async with running(directory) as server:
            yield server


async def assert_serves(server: RunningServer) -> None:
    """Nobody else suffered."""
    async with raw_client(server) as client:
        assert isinstance(await client.greet(), Welcome)
        client.send_message(Flush(), 2)
        assert isinstance((await client.receive())[1], Done)


# --- garbage


@pytest.mark.parametrize(
    "junk",
    [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01\x02\x00\x01", b"*1\r\n$4\r\nPING\r\n"],
    ids=["http", "tls", "resp"],
)
async def test_stranger_is_told_and_turned_away(server: RunningServer, junk: bytes) -> None:
    async with raw_client(server) as client:
        client.send(junk)
        assert (await client.last_words()).code == "bad_request"
    await assert_serves(server)


async def test_random_garbage_never_disturbs_others(server: RunningServer) -> None:
    chance = random.Random(7)
    for _ in range(50):
        async with raw_client(server) as client:
            if chance.random() < 0.7:
                await client.greet()
            client.send(chance.randbytes(chance.randrange(1, 3_000)))
            client.writer.write_eof()
            await client.at_end()
    await assert_serves(server)


async def test_oversized_frame_is_refused_by_its_header(server: RunningServer) -> None:
    async with raw_client(server) as client:
        await client.greet()
        client.send(HEADER.pack(FRAME_BYTES_MAX + 1, 0x10, 0, 2))
        assert (await client.last_words()).code == "frame_too_large"
    await assert_serves(server)


async def test_reason_arrives_although_the_peer_goes_on_writing(server: RunningServer) -> None:
    """Closing with unread input would reset the socket, and the reason would be lost."""
    async with raw_client(server) as client:
        await client.greet()
        client.send(HEADER.pack(FRAME_BYTES_MAX + 1, 0x10, 0, 2) + bytes(2_000_000))
        assert (await client.last_words()).code == "frame_too_large"


async def test_unknown_flag_is_unsupported(server: RunningServer) -> None:
    async with raw_client(server) as client:
        await client.greet()
        client.send(HEADER.pack(9, 0x58, 4, 2) + b"\x90")
        assert (await client.last_words()).code == "unsupported"


async def test_wrong_version_is_told_ours(server: RunningServer) -> None:
    async with raw_client(server) as client:
        error = await client.greet(protocol_min=7, protocol_max=9)

        assert error.code == "unsupported_version"
        assert error.details == {"protocol_min": 1, "protocol_max": 1}


async def test_wrong_types_in_a_request_are_answered_by_its_id(server: RunningServer) -> None:
    async with raw_client(server) as client:
        await client.greet()
        client.send(HEADER.pack(10, 0x50, 0, 9) + b"\x91\x07")
        request_id, error = await client.receive()

        assert (request_id, error.code) == (9, "bad_request")
        client.send_message(Flush(), 10)
        assert (await client.receive())[0] == 10


# --- time


async def test_silent_stranger_is_given_up_after_the_handshake_time() -> None:
    with short_directory() as directory:
        async with running(directory, limits=EdgeLimits(handshake_ms=100)) as server:
            async with raw_client(server) as client:
                assert (await client.last_words()).code == "bad_request"
            await assert_serves(server)


async def test_drip_of_a_handshake_does_not_buy_time() -> None:
    """Slowloris: one byte at a time, always before any idle time is over."""
    hello = PREAMBLE + frame(Hello(client_name="x" * 5_000), 1)
    with short_directory() as directory:
        async with running(directory, limits=EdgeLimits(handshake_ms=200)) as server:
            clients = [await open_raw(server) for _ in range(20)]
            ended = asyncio.gather(*(client.at_end() for client in clients))
            for byte in hello:
                for client in clients:
                    client.send(bytes([byte]))
                done, _ = await asyncio.wait([ended], timeout=0.005)
                if done:
                    break
            last_words = await asyncio.wait_for(ended, DEADLINE_S)

            assert all(b"bad_request" in words for words in last_words)
            for client in clients:
                await client.close()
            await assert_serves(server)


async def test_silent_peer_is_pinged_and_then_given_up() -> None:
    """Half-open: the peer is gone, and no packet says so."""
    reports = Reports()
    limits = EdgeLimits(ping_after_ms=50, silence_ms_max=400)
    with short_directory() as directory:
        async with running(directory, limits=limits, report=reports) as server:
            async with raw_client(server) as client:
                await client.greet()
                assert isinstance((await client.receive())[1], PingPushed)
                assert await client.at_end() == b""
            await reports.wait_for("silent_peer_disconnected")


async def test_peers_are_not_blamed_when_the_server_stood_still() -> None:
    """A stopped process, or a machine that slept: nobody could have been heard."""
    reports = Reports()
    limits = EdgeLimits(handshake_ms=1_200, ping_after_ms=200, silence_ms_max=1_200)
    with short_directory() as directory:
        one = running(directory, limits=limits, report=reports)
        async with one as server, raw_client(server) as client, raw_client(server) as stranger:
            await client.greet()
            stranger.send(PREAMBLE[:2])
            await assert_serves(server)
            stand_still_ms(1_600)
            stranger.send(PREAMBLE[2:] + frame(Hello(), 1))

            assert isinstance((await stranger.receive())[1], Welcome)
            assert isinstance((await client.receive())[1], PingPushed)
        assert "silent_peer_disconnected" not in [name for name, _ in reports.events]


def stand_still_ms(duration_ms: int) -> None:
    """The loop does not run for so long."""
    deadline_s = time.monotonic() + duration_ms / 1000
    while time.monotonic() < deadline_s:
        pass


async def test_peer_that_answers_pings_stays() -> None:
    limits = EdgeLimits(ping_after_ms=30, silence_ms_max=200)
    with short_directory() as directory:
        async with running(directory, limits=limits) as server, raw_client(server) as client:
            await client.greet()
            for _ in range(15):
                _, ping = await client.receive()
                client.send_message(Pong(ping.now_ms), 0)
            client.send_message(Flush(), 2)
            answers = [await client.receive()]
            while isinstance(answers[-1][1], PingPushed):
                answers.append(await client.receive())

            assert isinstance(answers[-1][1], Done)


# --- those who do not read


async def test_slow_reader_is_not_read_from_and_then_disconnected() -> None:
    reports = Reports()
    limits = EdgeLimits(write_buffer_bytes_max=100_000, slow_reader_ms_max=300)
    with short_directory() as directory:
        async with running(directory, limits=limits, report=reports) as server:
            async with raw_client(server) as client:
                job_id = await enqueue_large(client, 500_000)
                _shrink_receive_buffer(client.writer)
                for request_id in range(10, 110):
                    client.send_message(GetJob(job_id), request_id)
                fields = await reports.wait_for("slow_reader_disconnected")

                # One answer may exceed the bound; a hundred of them must not be encoded.
                assert fields["unsent_bytes"] < 2_000_000
            await assert_serves(server)


async def test_reader_that_comes_back_gets_every_answer() -> None:
    limits = EdgeLimits(write_buffer_bytes_max=100_000)
    with short_directory() as directory:
        async with running(directory, limits=limits) as server, raw_client(server) as client:
            job_id = await enqueue_large(client, 300_000)
            for request_id in range(10, 70):
                client.send_message(GetJob(job_id), request_id)
            found = [await client.receive() for _ in range(60)]

            assert sorted(request_id for request_id, _ in found) == list(range(10, 70))
            for _, reply in found:
                assert isinstance(reply, JobReply)
                assert reply.job is not None
                assert reply.job.payload == bytes(300_000)


async def enqueue_large(client: RawClient, size_bytes: int) -> bytes:
    await client.greet()
    job_id = new_id()
    call = Enqueue([JobSpec("q", "k")], [NewJob(job_id, 0, bytes(size_bytes))])
    client.send_message(call, 2)
    assert isinstance((await client.receive())[1], Enqueued)
    return job_id


def _shrink_receive_buffer(writer: asyncio.StreamWriter) -> None:
    """So that the kernels in between hold little of what is not read."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    writer.transport.pause_reading()  # type: ignore[attr-defined]


# --- too much


async def test_connection_over_the_limit_is_told_so() -> None:
    with short_directory() as directory:
        async with running(directory, limits=EdgeLimits(connections_max=3)) as server:
            clients = [await open_raw(server) for _ in range(3)]
            for client in clients:
                assert isinstance(await client.greet(), Welcome)
            async with raw_client(server) as late:
                error = await late.greet()

                assert (error.code, error.retry_after_ms) == ("overloaded", 1_000)
            await clients.pop().close()
            await _until_connections(server, 2)
            await assert_serves(server)
            for client in clients:
                await client.close()


async def _until_connections(server: RunningServer, count: int) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while server.connection_count > count:
            await asyncio.sleep(0)


async def test_requests_over_the_window_are_overloaded_and_the_others_answered() -> None:
    with short_directory() as directory:
        limits = EdgeLimits(in_flight_max=5)
        async with running(directory, limits=limits) as server, raw_client(server) as client:
            welcome = await client.greet()
            client.send(b"".join(frame(Flush(), number) for number in range(10, 20)))
            found = dict([await client.receive() for _ in range(10)])

            assert welcome.limits["in_flight_max"] == 5
            assert [isinstance(found[number], Done) for number in range(10, 20)] == (
                [True] * 5 + [False] * 5
            )
            assert {found[number].code for number in range(15, 20)} == {"overloaded"}


async def test_burst_of_connections_is_served_whole(server: RunningServer) -> None:
    """200 connections at one moment, ten jobs each."""
    connections, jobs = 200, 10

    async def produce() -> int:
        async with raw_client(server) as client:
            assert isinstance(await client.greet(), Welcome)
            for number in range(jobs):
                call = Enqueue([JobSpec("q", "k")], [NewJob(new_id(), 0, b"x")])
                client.send_message(call, 2 + number)
            replies = [await client.receive() for _ in range(jobs)]
            return sum(isinstance(reply, Enqueued) for _, reply in replies)

    created = await asyncio.gather(*(produce() for _ in range(connections)))

    assert sum(created) == connections * jobs


async def test_frames_that_never_end_do_not_fill_the_memory() -> None:
    limits = EdgeLimits(unfinished_bytes_max=1_000_000)
    with short_directory() as directory:
        async with running(directory, limits=limits) as server:
            clients = [await open_raw(server) for _ in range(5)]
            for client in clients:
                await client.greet()
                client.send(HEADER.pack(8_000_000, 0x10, 0, 2) + bytes(300_000))
            ended = [asyncio.ensure_future(client.last_words()) for client in clients]
            done, waiting = await asyncio.wait(
                ended, timeout=DEADLINE_S, return_when=asyncio.FIRST_COMPLETED
            )

            assert [task.result().code for task in done] == ["overloaded"] * len(done)
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
            await assert_serves(server)
            for client in clients:
                await client.close()
            await _until_connections(server, 0)


async def test_reset_in_the_middle_of_a_call_disturbs_nobody(server: RunningServer) -> None:
    for _ in range(20):
        client = await open_raw(server)
        await client.greet()
        client.send_message(Flush(), 2)
        linger = struct.pack("ii", 1, 0)
        client.writer.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, linger
        )
        client.writer.transport.abort()
    await assert_serves(server)


# --- tokens and exposure


@pytest_asyncio.fixture
async def guarded(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningServer]:
    token_file = tmp_path_factory.mktemp("token") / "token"
    token_file.write_text("s3cret\n", encoding="utf-8")
    token_file.chmod(0o600)
    settings = ServerSettings(listen=("127.0.0.1:0",), token_file=str(token_file))
    with short_directory() as directory:
        async with running(directory, server=settings) as server:
            yield server


@pytest.mark.parametrize("auth", [None, "", "s3cre", "s3cret\n", "S3CRET", "x" * 10_000])
async def test_wrong_token_is_refused(guarded: RunningServer, auth: str | None) -> None:
    async with raw_client(guarded) as client:
        error = await client.greet(auth=auth)

        assert isinstance(error, ErrorFrame)
        assert error.code == "unauthenticated"
        assert "s3cret" not in error.message + error.hint


async def test_right_token_is_let_in(guarded: RunningServer) -> None:
    async with raw_client(guarded) as client:
        assert isinstance(await client.greet(auth="s3cret"), Welcome)


async def test_unix_socket_needs_no_token_since_only_the_owner_can_open_it(
    guarded: RunningServer,
) -> None:
    reader, writer = await asyncio.open_unix_connection(guarded.urls[0].removeprefix("unix://"))
    client = RawClient(reader, writer)

    assert isinstance(await client.greet(), Welcome)
    await client.close()


async def test_token_file_that_others_may_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("s3cret", encoding="utf-8")
    path.chmod(0o644)
    settings = ServerSettings(listen=("127.0.0.1:0",), token_file=str(path))
    with short_directory() as directory, pytest.raises(BadSettings, match="chmod 600"):
        async with running(directory, server=settings):
            pass


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (ServerSettings(listen=("0.0.0.0:0",)), ["--insecure-plaintext", "--token-file"]),
        (ServerSettings(listen=("0.0.0.0:0",), insecure_plaintext=True), ["--token-file"]),
        (ServerSettings(listen=("[::]:0",), token_file="/x"), ["--insecure-plaintext"]),
        (ServerSettings(listen=("example.test:0",)), ["--insecure-plaintext"]),
    ],
    ids=["neither", "no_token", "no_consent", "name"],
)
async def test_listening_beyond_loopback_needs_consent_and_a_token(
    settings: ServerSettings, words: list[str]
) -> None:
    with short_directory() as directory, pytest.raises(BadSettings) as refused:
        async with running(directory, server=settings):
            pass
    for word in words:
        assert word in str(refused.value)


async def test_busy_port_is_a_sentence_and_nothing_stays_open(server: RunningServer) -> None:
    host, port = tcp_address(server)
    with short_directory() as directory:
        with pytest.raises(BadSettings, match="another process listens there"):
            async with running(directory, listen=(f"{host}:{port}",)):
                pass
        async with running(directory) as second:
            await assert_serves(second)
