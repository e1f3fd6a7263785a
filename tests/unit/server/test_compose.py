"""A server's life: start, readiness, hand-over, stop, and what refuses to start."""

from __future__ import annotations

import asyncio
import errno
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from headrace.client.reconnect import Link
from headrace.log.base import Lost
from headrace.log.memory import MemoryLog, MemoryStore
from headrace.model.commands import (
    Ack,
    Enqueue,
    Flush,
    GetQueue,
    Heartbeat,
    NewJob,
    OpenSession,
    ResumeSession,
)
from headrace.model.env import Env
from headrace.model.errors import Locked
from headrace.model.handshake import SESSION_ATTACH, SESSION_RESUME, HandOver, Welcome
from headrace.model.job import JobSpec
from headrace.model.pushes import DrainPushed, JobsPushed
from headrace.model.replies import (
    Done,
    Enqueued,
    HeartbeatSeen,
    QueueReply,
    SessionOpen,
    SessionResumed,
)
from headrace.model.settings import ServerSettings
from headrace.runtime.env import RealHost, real_env
from headrace.runtime.real_disk import RealDisk
from headrace.server.edge import EdgeLimits
from tests.unit.server.harness import (
    DEADLINE_S,
    RawClient,
    Reports,
    new_id,
    open_raw,
    raw_client,
    running,
    short_directory,
)

SESSION = b"s" * 16


def open_session(credit: int = 10) -> OpenSession:
    return OpenSession(SESSION, "w", "h", 1, "b", ("k",), ("q",), credit)


async def enqueue(client: RawClient, job_id: bytes, request_id: int = 9) -> None:
    client.send_message(Enqueue([JobSpec("q", "k")], [NewJob(job_id, 0, b"x")]), request_id)


async def received(client: RawClient, kind: type[Any]) -> Any:
    """The next message of this kind; others are passed over."""
    while True:
        _, message = await client.receive()
        if isinstance(message, kind):
            return message


# --- start


async def test_server_runs_over_another_log_than_files() -> None:
    env = real_env()
    store = MemoryStore(env)
    listen = ServerSettings(listen=("127.0.0.1:0",), unix_socket=False)
    with short_directory() as directory:
        for count in (1, 2):
            async with (
                running(directory, server=listen, make_log=lambda: MemoryLog(env, store)) as server,
                raw_client(server) as client,
            ):
                await client.greet()
                await enqueue(client, new_id())
                assert isinstance(await received(client, Enqueued), Enqueued)
                client.send_message(GetQueue("q"), 10)
                assert (await received(client, QueueReply)).queue.ready == count
        assert os.listdir(directory) == []


async def test_socket_lies_in_the_directory_for_its_owner_alone() -> None:
    ready: list[list[str]] = []
    with short_directory() as directory:
        async with running(directory, on_ready=ready.append) as server:
            path = Path(f"{directory}/data/headrace.sock")

            assert server.urls[0] == f"unix://{path}"
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
            assert ready == [server.urls]
        assert not path.exists()


async def test_socket_is_reached_through_a_path_of_any_length() -> None:
    with short_directory() as directory:
        deep = f"{directory}/{'d' * 100}/{'e' * 100}"
        os.makedirs(deep)
        async with running(deep) as server:
            link = Link(real_env(), server.urls[0])
            await link.start()
            assert isinstance(await link.call(Flush()), Done)
            await link.close()


async def test_second_server_on_a_directory_is_told_who_has_it() -> None:
    with short_directory() as directory:
        async with running(directory) as server:
            with pytest.raises(Locked, match=str(os.getpid())):
                async with running(directory):
                    pass
            async with raw_client(server) as client:
                assert isinstance(await client.greet(), Welcome)


async def test_unix_socket_can_be_left_out() -> None:
    settings = ServerSettings(listen=("127.0.0.1:0",), unix_socket=False)
    with short_directory() as directory:
        async with running(directory, server=settings) as server:
            assert [url.partition(":")[0] for url in server.urls] == ["headrace"]
            assert not Path(f"{directory}/data/headrace.sock").exists()


async def test_connections_stay_within_the_descriptors_of_the_process() -> None:
    class FewFiles(RealHost):
        def open_files_max(self) -> int:
            return 67

    reports = Reports()
    env: Env = msgspec.structs.replace(real_env(), host=FewFiles())  # type: ignore[type-var]
    with short_directory() as directory:
        async with running(directory, env=env, report=reports) as server:
            fields = await reports.wait_for("open_files_limited")
            clients = [await open_raw(server) for _ in range(4)]
            answers = [await client.greet() for client in clients]

            assert fields["connections_max"] == 3
            assert [isinstance(each, Welcome) for each in answers] == [True] * 3 + [False]
            for client in clients:
                await client.close()


# --- sessions and connections


async def test_attached_connection_renews_leases_and_gets_no_jobs() -> None:
    with short_directory() as directory:
        async with running(directory) as server, raw_client(server) as worker:
            await worker.greet()
            worker.send_message(open_session(), 2)
            assert isinstance((await worker.receive())[1], SessionOpen)
            async with raw_client(server) as beats:
                welcome = await beats.greet(session_id=SESSION, session_mode=SESSION_ATTACH)
                await enqueue(worker, new_id())
                await received(worker, JobsPushed)
                beats.send_message(Heartbeat(SESSION), 2)

                assert welcome.session_id == SESSION
                assert isinstance((await beats.receive())[1], HeartbeatSeen)


async def test_newest_connection_that_resumes_gets_the_jobs() -> None:
    with short_directory() as directory:
        async with running(directory) as server, raw_client(server) as first:
            await first.greet()
            first.send_message(open_session(), 2)
            await received(first, SessionOpen)
            async with raw_client(server) as second:
                welcome = await second.greet(session_id=SESSION, session_mode=SESSION_RESUME)
                second.send_message(ResumeSession(SESSION, [], 10), 2)
                await received(second, SessionResumed)
                await enqueue(first, new_id())

                assert welcome.session_id == SESSION
                assert isinstance(await received(second, JobsPushed), JobsPushed)
                first.send_message(Flush(), 3)
                assert [type(await received(first, each)) for each in (Enqueued, Done)] == [
                    Enqueued,
                    Done,
                ]


async def test_unknown_session_is_told_in_welcome() -> None:
    with short_directory() as directory:
        async with running(directory) as server, raw_client(server) as client:
            welcome = await client.greet(session_id=b"u" * 16, session_mode=SESSION_RESUME)

            assert welcome.session_id is None


async def test_jobs_of_many_bytes_come_in_several_frames() -> None:
    with short_directory() as directory:
        async with running(directory) as server, raw_client(server) as client:
            await client.greet()
            jobs = [NewJob(new_id(), 0, bytes(700_000)) for _ in range(5)]
            client.send_message(Enqueue([JobSpec("q", "k")], jobs), 2)
            await received(client, Enqueued)
            client.send_message(open_session(), 3)
            found: list[bytes] = []
            pushes = 0
            while len(found) < 5:
                push = await received(client, JobsPushed)
                pushes += 1
                found += [job.job_id for group in push.groups for job in group.jobs]

            assert found == [job.job_id for job in jobs]
            assert pushes == 5


# --- hand-over


async def test_owner_is_asked_for_its_directory() -> None:
    asked: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    with short_directory() as directory:
        owner = running(directory, hand_over=asked.set_result)
        async with owner as server, raw_client(server) as client:
            await client.greet()
            client.send_message(HandOver("serve"), 2)

            assert isinstance((await client.receive())[1], Done)
            assert await asked == "serve"


async def test_server_of_its_own_keeps_its_directory() -> None:
    with short_directory() as directory:
        async with running(directory) as server, raw_client(server) as client:
            await client.greet()
            client.send_message(HandOver("serve"), 2)

            assert (await client.receive())[1].code == "unsupported"


# --- failure


class FailingDisk(RealDisk):
    """Syncs until it is told to fail."""

    broken = False

    def fdatasync(self, fd: int) -> None:
        if self.broken:
            raise OSError(errno.EIO, "Input/output error")
        super().fdatasync(fd)

    def pwrite(self, fd: int, data: bytes | bytearray | memoryview, offset: int) -> int:
        if self.broken:
            raise OSError(errno.EIO, "Input/output error")
        return super().pwrite(fd, data, offset)

    def pwritev(self, fd: int, buffers: Sequence[bytes], offset: int) -> int:
        if self.broken:
            raise OSError(errno.EIO, "Input/output error")
        return super().pwritev(fd, buffers, offset)


async def test_failed_disk_is_told_to_callers_and_to_whoever_runs_the_server() -> None:
    failed: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()
    disk = FailingDisk()
    env: Env = msgspec.structs.replace(real_env(), disk=disk)  # type: ignore[type-var]
    with short_directory() as directory:
        owner = running(directory, env=env, on_failed=failed.set_result)
        async with owner as server, raw_client(server) as client:
            await client.greet()
            await enqueue(client, new_id(), 2)
            await received(client, Enqueued)
            disk.broken = True
            await enqueue(client, new_id(), 3)
            request_id, error = await client.receive()

            assert (request_id, error.code) == (3, "outcome_unknown")
            assert isinstance(await asyncio.wait_for(failed, DEADLINE_S), Lost)
            await enqueue(client, new_id(), 4)
            assert (await client.receive())[1].code == "draining"
            await asyncio.wait_for(server.stop(60_000), DEADLINE_S)
        async with running(directory) as again, raw_client(again) as reader:
            await reader.greet()
            reader.send_message(GetQueue("q"), 2)
            queue = (await reader.receive())[1].queue

            assert queue.enqueued_total in (1, 2)


# --- stop


async def test_stop_tells_everybody_and_leaves_nothing_open() -> None:
    reports = Reports()
    with short_directory() as directory:
        async with running(directory, report=reports) as server:
            async with raw_client(server) as client, raw_client(server) as silent:
                await client.greet()
                await server.stop(0)

                assert (await client.last_words()).code == "draining"
                assert await silent.at_end() != b""
            assert server.connection_count == 0
        assert [name for name, _ in reports.events][-1] == "server_stopped"
        async with running(directory) as again:
            assert again.node.epoch == 2


async def test_drain_waits_for_running_jobs_and_lets_their_worker_back_in() -> None:
    with short_directory() as directory:
        async with running(directory) as server:
            async with raw_client(server) as worker:
                await worker.greet()
                worker.send_message(open_session(), 2)
                job_id = new_id()
                await enqueue(worker, job_id)
                push = await received(worker, JobsPushed)
                stopping = asyncio.ensure_future(server.stop(60_000))
                await received(worker, DrainPushed)
            async with raw_client(server) as back:
                assert isinstance(await back.greet(), Welcome)
                await enqueue(back, new_id(), 3)
                assert (await back.receive())[1].code == "draining"
                back.send_message(Ack([(job_id, push.groups[0].token, None)]), 4)
                await asyncio.wait_for(stopping, DEADLINE_S)
        async with running(directory) as again, raw_client(again) as reader:
            await reader.greet()
            reader.send_message(GetQueue("q"), 2)
            queue = (await reader.receive())[1].queue

            assert (queue.succeeded, queue.leased) == (1, 0)


async def test_second_stop_does_not_wait_for_the_first_ones_drain() -> None:
    with short_directory() as directory:
        async with running(directory) as server, raw_client(server) as worker:
            await worker.greet()
            worker.send_message(open_session(), 2)
            await enqueue(worker, new_id())
            await received(worker, JobsPushed)
            first = asyncio.ensure_future(server.stop(600_000))
            await received(worker, DrainPushed)
            await asyncio.wait_for(server.stop(), DEADLINE_S)
            await asyncio.wait_for(first, DEADLINE_S)


async def test_peer_that_never_reads_does_not_hold_up_the_stop() -> None:
    with short_directory() as directory:
        limits = EdgeLimits(write_buffer_bytes_max=10_000)
        async with running(directory, limits=limits) as server:
            stuck = await open_raw(server)
            await stuck.greet()
            stuck.writer.transport.pause_reading()  # type: ignore[attr-defined]
            jobs = [NewJob(new_id(), 0, bytes(900_000)) for _ in range(8)]
            stuck.send_message(Enqueue([JobSpec("q", "k")], jobs), 2)
            stuck.send_message(open_session(), 3)
            async with raw_client(server) as other:
                await other.greet()
                async with asyncio.timeout(DEADLINE_S):
                    while True:
                        other.send_message(GetQueue("q"), 2)
                        _, reply = await other.receive()
                        if getattr(reply, "queue", None) and reply.queue.leased == 8:
                            break
            await asyncio.wait_for(server.stop(0), DEADLINE_S)
            await stuck.close()


async def test_socket_of_a_predecessor_that_is_just_leaving_is_waited_for() -> None:
    with short_directory() as directory:
        os.mkdir(f"{directory}/data", 0o700)
        path = f"{directory}/data/headrace.sock"
        arrived = asyncio.Event()

        def refuse(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.close()
            arrived.set()

        leaving = await asyncio.start_unix_server(refuse, path)

        async def leave() -> None:
            await arrived.wait()
            leaving.close()

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(leave())
            async with running(directory) as server, raw_client(server) as client:
                assert await client.greet()
