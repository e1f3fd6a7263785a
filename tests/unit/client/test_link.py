"""A link over real sockets to a real server, with a proxy in between that can cut it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio

from headrace.client.connection import Call
from headrace.client.reconnect import Link, LinkOptions
from headrace.model import commands
from headrace.model.errors import (
    BadRequest,
    CannotConnect,
    FrameTooLarge,
    HeadraceError,
    OutcomeUnknown,
    Overloaded,
    Unauthenticated,
    UnknownJob,
)
from headrace.model.handshake import Welcome
from headrace.model.ids import id_to_text
from headrace.model.job import JobSpec
from headrace.model.limits import FRAME_BYTES_MAX
from headrace.model.pushes import JobsPushed, Push
from headrace.model.replies import Done, Enqueued, JobReply, QueueReply, SessionOpen
from headrace.model.settings import ServerSettings
from headrace.runtime.env import real_env
from headrace.server.compose import RunningServer
from headrace.server.edge import EdgeLimits
from tests.unit.server.harness import DEADLINE_S, new_id, running, short_directory, tcp_address

SESSION = b"s" * 16
EAGER = LinkOptions(backoff_ms_max=20)


class Proxy:
    """Carries bytes to a server. `mute` keeps the answers back; `cut` ends every connection."""

    def __init__(self) -> None:
        self.target: tuple[str, int] = ("", 0)
        self.url = ""
        self.accepted = 0
        self.muted = False
        self.arrived = asyncio.Event()
        """Something came from the client since it was last cleared."""
        self._ways: list[asyncio.StreamWriter] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def open(self, server: RunningServer) -> None:
        self.target = tcp_address(server)
        self._server = await asyncio.start_server(self._carry, "127.0.0.1", 0)
        self.url = f"headrace://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def cut(self) -> None:
        for way in self._ways:
            way.transport.abort()
        self._ways.clear()

    async def close(self) -> None:
        self.cut()
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        try:
            back_reader, back_writer = await asyncio.open_connection(*self.target)
        except OSError:
            writer.transport.abort()
            return
        self._ways += [writer, back_writer]
        for source, target, answers in (
            (reader, back_writer, False),
            (back_reader, writer, True),
        ):
            task = asyncio.ensure_future(self._pass(source, target, answers))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pass(
        self, source: asyncio.StreamReader, target: asyncio.StreamWriter, answers: bool
    ) -> None:
        try:
            while piece := await source.read(1 << 16):
                if answers and self.muted:
                    continue
                target.write(piece)
                if not answers:
                    self.arrived.set()
        except ConnectionError:
            pass
        target.transport.abort()


class Seen:
    """What a link told its owner, and a way to wait for it."""

    def __init__(self) -> None:
        self.welcomes: list[Welcome] = []
        self.losses: list[HeadraceError] = []
        self.failures: list[HeadraceError] = []
        self.pushes: list[Push] = []
        self.on_connected: Callable[[], None] = lambda: None
        self._news = asyncio.Event()

    def link(self, url: str, options: LinkOptions = EAGER, **kwargs: Any) -> Link:
        return Link(
            real_env(),
            url,
            options,
            on_connected=self._connected,
            on_lost=lambda error: self._note(self.losses, error),
            on_failed=lambda error: self._note(self.failures, error),
            on_push=lambda push: self._note(self.pushes, push),
            **kwargs,
        )

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while not condition():
                self._news.clear()
                await self._news.wait()

    def _connected(self, welcome: Welcome) -> None:
        self.on_connected()
        self._note(self.welcomes, welcome)

    def _note(self, notes: list[Any], note: Any) -> None:
        notes.append(note)
        self._news.set()


@pytest_asyncio.fixture
async def server() -> AsyncIterator[RunningServer]:
    with short_directory() as directory:
        async with running(directory) as server:
            yield server


@pytest_asyncio.fixture
async def proxy(server: RunningServer) -> AsyncIterator[Proxy]:
    proxy = Proxy()
    await proxy.open(server)
    yield proxy
    await proxy.close()


def enqueue(*job_ids: bytes, payload: bytes = b"x") -> commands.Enqueue:
    return commands.Enqueue(
        [JobSpec("q", "k")], [commands.NewJob(job_id, 0, payload) for job_id in job_ids]
    )


async def answer(future: asyncio.Future[Any]) -> Any:
    return await asyncio.wait_for(future, DEADLINE_S)


# --- plain calls


@pytest.mark.parametrize("scheme", ["unix://", "headrace://"])
async def test_calls_are_answered_over_either_kind_of_socket(
    server: RunningServer, scheme: str
) -> None:
    [url] = [url for url in server.urls if url.startswith(scheme)]
    link = Seen().link(url)
    welcome = await link.start()
    job_id = new_id()
    created = await answer(link.call(enqueue(job_id)))
    found = await answer(link.call(commands.GetJob(job_id)))

    assert welcome.limits["payload_bytes_max"] == 4 * 1024 * 1024
    assert (created.existing, created.problems) == (None, None)
    assert found.job.payload == b"x"
    assert link.last_exchange_age_ms < 5_000
    await link.close()


async def test_refusal_is_the_error_of_its_code(server: RunningServer) -> None:
    link = Seen().link(server.urls[0])
    await link.start()
    with pytest.raises(UnknownJob):
        await answer(link.call(commands.GetJob(new_id())))
    with pytest.raises(BadRequest):
        await answer(link.call(commands.GetJob(b"short")))
    with pytest.raises(FrameTooLarge):
        await answer(link.call(enqueue(new_id(), payload=bytes(FRAME_BYTES_MAX))))
    assert isinstance(await answer(link.call(commands.Flush())), Done)
    await link.close()


async def test_calls_of_one_pass_leave_in_one_write(server: RunningServer) -> None:
    link = Seen().link(server.urls[0])
    await link.start()
    connection = link._connection
    assert connection is not None
    transport = connection._transport
    assert transport is not None
    written = transport
    writes: list[int] = []

    class Counting:
        def __getattr__(self, name: str) -> Any:
            return getattr(written, name)

        def write(self, data: bytes) -> None:
            writes.append(len(data))
            written.write(data)

    connection._transport = Counting()  # type: ignore[assignment]
    await asyncio.gather(*(link.call(enqueue(new_id())) for _ in range(200)))

    assert len(writes) == 1
    await link.close()


async def test_more_calls_than_the_window_wait_their_turn() -> None:
    with short_directory() as directory:
        async with running(directory, limits=EdgeLimits(in_flight_max=7)) as server:
            link = Seen().link(server.urls[0])
            await link.start()
            calls = [link.call(enqueue(new_id())) for _ in range(100)]
            replies = await asyncio.wait_for(asyncio.gather(*calls), DEADLINE_S)

            assert all(isinstance(reply, Enqueued) for reply in replies)
            await link.close()


async def test_large_calls_wait_for_the_socket_and_all_arrive(server: RunningServer) -> None:
    link = Seen().link(server.urls[1])
    await link.start()
    calls = [link.call(enqueue(new_id(), payload=bytes(900_000))) for _ in range(40)]
    replies = await asyncio.wait_for(asyncio.gather(*calls), DEADLINE_S)

    assert all(reply.problems is None for reply in replies)
    await link.close()


async def test_pushes_reach_the_owner(server: RunningServer) -> None:
    seen = Seen()
    link = seen.link(server.urls[0])
    await link.start()
    opened = await answer(link.call(open_session()))
    await answer(link.call(enqueue(new_id())))
    await seen.until(lambda: bool(seen.pushes))

    assert isinstance(opened, SessionOpen)
    assert isinstance(seen.pushes[0], JobsPushed)
    await link.close()


def open_session() -> commands.OpenSession:
    return commands.OpenSession(SESSION, "w", "h", 1, "b", ("k",), ("q",), 10)


# --- a lost connection


async def test_enqueue_whose_answer_was_lost_is_repeated_and_happens_once(
    server: RunningServer, proxy: Proxy
) -> None:
    seen = Seen()
    link, direct = seen.link(proxy.url), Seen().link(server.urls[0])
    await link.start()
    await direct.start()
    job_id = new_id()
    proxy.muted = True
    call = link.call(enqueue(job_id))
    await arrived(direct, job_id)
    proxy.muted = False
    proxy.cut()
    reply = await answer(call)
    queue = await answer(direct.call(commands.GetQueue("q")))

    assert [(each.position, each.job_id) for each in reply.existing] == [(0, job_id)]
    assert isinstance(queue, QueueReply)
    assert queue.queue is not None
    assert queue.queue.enqueued_total == 1
    assert len(seen.losses) == 1
    await link.close()
    await direct.close()


async def arrived(link: Link, job_id: bytes) -> None:
    """The job is known to the server."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            try:
                await link.call(commands.GetJob(job_id))
            except UnknownJob:
                continue
            return


@pytest.mark.parametrize("lost", [True, False])
async def test_overload_met_by_a_repeated_call_says_nothing_of_its_first_try(lost: bool) -> None:
    link = Link(real_env(), "headrace://127.0.0.1:1")
    future = asyncio.get_running_loop().create_future()
    job_id = new_id()
    call = Call(enqueue(job_id), future, deadline_s=0.0)
    call.lost = lost
    link.on_refusal(call, Overloaded())
    error = future.exception()

    assert type(error) is (OutcomeUnknown if lost else Overloaded)
    assert not lost or error.details["job_ids"] == [job_id]


async def test_overload_after_an_unknown_outcome_says_nothing_of_the_first_try() -> None:
    """The server itself did not know; what its successor refuses is another try."""
    link = Link(real_env(), "headrace://127.0.0.1:1")
    future = asyncio.get_running_loop().create_future()
    call = Call(enqueue(new_id()), future, deadline_s=0.0)
    call.sent = True
    link.on_refusal(call, OutcomeUnknown())
    assert not future.done()
    link.on_refusal(call, Overloaded())

    assert type(future.exception()) is OutcomeUnknown


async def test_overload_met_by_a_repeated_read_is_an_overload() -> None:
    link = Link(real_env(), "headrace://127.0.0.1:1")
    future = asyncio.get_running_loop().create_future()
    call = Call(commands.GetJob(new_id()), future, deadline_s=0.0)
    call.lost = True
    link.on_refusal(call, Overloaded())

    assert type(future.exception()) is Overloaded


async def test_call_that_may_not_be_repeated_has_an_unknown_outcome(
    server: RunningServer, proxy: Proxy
) -> None:
    link = Seen().link(proxy.url)
    await link.start()
    job_id = new_id()
    await answer(link.call(enqueue(job_id)))
    proxy.muted = True
    proxy.arrived.clear()
    calls = [
        link.call(commands.Delete(job_id)),
        link.call(commands.Claim(("q",), ("other",))),
        link.call(commands.Revive(job_id)),
        link.call(commands.Reschedule(job_id)),
        link.call(enqueue(b"")),
        link.call(open_session()),
    ]
    await proxy.arrived.wait()
    proxy.muted = False
    proxy.cut()
    errors = await asyncio.gather(*calls, return_exceptions=True)

    assert [type(error) for error in errors] == [OutcomeUnknown] * 6
    assert id_to_text(job_id) in str(errors[0])
    assert isinstance(errors[0], OutcomeUnknown)
    assert errors[0].details["job_ids"] == [job_id]
    await link.close()


async def test_what_the_owner_says_on_connecting_goes_before_repeated_calls(
    server: RunningServer, proxy: Proxy
) -> None:
    """A worker must resume its session before its acks are repeated."""
    seen = Seen()
    link = seen.link(proxy.url)
    order: list[str] = []

    def note(word: str, call: asyncio.Future[Any]) -> asyncio.Future[Any]:
        call.add_done_callback(lambda _: order.append(word))
        return call

    def open_again() -> None:
        order.append("connected")
        note("session", link.call(open_session()))

    seen.on_connected = open_again
    await link.start()
    await seen.until(lambda: len(seen.welcomes) == 1)
    proxy.muted = True
    proxy.arrived.clear()
    repeated = note("flush", link.call(commands.Flush()))
    await proxy.arrived.wait()
    proxy.muted = False
    proxy.cut()
    await answer(repeated)

    assert order[-3:] == ["connected", "session", "flush"]
    await link.close()


async def test_calls_made_while_disconnected_leave_with_the_next_connection(
    server: RunningServer, proxy: Proxy
) -> None:
    seen = Seen()
    link = seen.link(proxy.url)
    await link.start()
    proxy.cut()
    await seen.until(lambda: bool(seen.losses))
    job_id = new_id()

    assert not link.connected
    assert not link.send(commands.Started([]))
    reply = await answer(link.call(commands.Claim(("q",), ("k",))))
    assert reply.groups == []
    assert isinstance(await answer(link.call(enqueue(job_id))), Enqueued)
    await link.close()


async def test_link_survives_a_restart_of_the_server() -> None:
    with short_directory() as directory:
        seen = Seen()
        async with running(directory) as server:
            link = seen.link(server.urls[0])
            await link.start()
            job_id = new_id()
            await answer(link.call(enqueue(job_id)))
        await seen.until(lambda: bool(seen.losses))
        call = link.call(commands.GetJob(job_id))
        async with running(directory):
            found = await answer(call)

            assert isinstance(found, JobReply)
            assert [welcome.epoch for welcome in seen.welcomes] == [1, 2]
            assert seen.welcomes[0].cluster_id == seen.welcomes[1].cluster_id
            await link.close()


async def test_enqueue_to_a_draining_server_is_done_by_its_successor() -> None:
    with short_directory() as directory:
        seen = Seen()
        async with running(directory, drain_ms=60_000) as server:
            link = seen.link(server.urls[0])
            await link.start()
            worker_id = new_id()
            await answer(link.call(open_session()))
            await answer(link.call(enqueue(worker_id)))
            await seen.until(lambda: bool(seen.pushes))
            token = _pushed(seen.pushes[0]).groups[0].token
            stopping = asyncio.ensure_future(server.stop(60_000))
            await seen.until(lambda: len(seen.pushes) > 1)
            call = link.call(enqueue(new_id()))
            # What ends the drain must pass, although new work is waiting in front of it.
            settled = await answer(link.call(commands.Ack([(worker_id, token, None)])))
            await asyncio.wait_for(stopping, DEADLINE_S)

            assert settled.problems is None
            assert not call.done()
        async with running(directory):
            assert isinstance(await answer(call), Enqueued)
            await link.close()


def _pushed(push: Push) -> JobsPushed:
    assert isinstance(push, JobsPushed)
    return push


# --- giving up


async def test_call_gives_up_in_time_and_says_what_is_known(
    server: RunningServer, proxy: Proxy
) -> None:
    seen = Seen()
    link = seen.link(proxy.url)
    await link.start()
    proxy.muted = True
    job_id = new_id()
    with pytest.raises(OutcomeUnknown) as unknown:
        await answer(link.call(enqueue(job_id), timeout_ms=50))
    proxy.target = ("127.0.0.1", 1)
    proxy.cut()
    await seen.until(lambda: bool(seen.losses))
    with pytest.raises(CannotConnect):
        await answer(link.call(enqueue(new_id()), timeout_ms=50))

    assert unknown.value.details["job_ids"] == [job_id]
    await link.close()


async def test_closing_ends_every_call(server: RunningServer, proxy: Proxy) -> None:
    link = Seen().link(proxy.url)
    await link.start()
    proxy.muted = True
    sent = link.call(enqueue(new_id()))
    proxy.arrived.clear()
    await proxy.arrived.wait()
    await link.close()

    with pytest.raises(OutcomeUnknown):
        await answer(sent)
    with pytest.raises(CannotConnect):
        await answer(link.call(commands.Flush()))
    await link.close()


async def test_silent_server_is_given_up_and_reached_again(
    server: RunningServer, proxy: Proxy
) -> None:
    seen = Seen()
    link = seen.link(proxy.url, LinkOptions(backoff_ms_max=20, silence_ms_max=100))
    await link.start()
    proxy.muted = True
    await seen.until(lambda: bool(seen.losses))
    proxy.muted = False
    await seen.until(lambda: len(seen.welcomes) > 1)

    assert isinstance(await answer(link.call(commands.Flush())), Done)
    await link.close()


async def test_attempt_that_nobody_answers_leaves_no_connection_behind() -> None:
    """Somebody listens there, and says nothing."""
    gone = asyncio.Event()

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(1 << 16):
            pass
        writer.close()
        gone.set()

    mute = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    url = f"headrace://127.0.0.1:{mute.sockets[0].getsockname()[1]}"
    with pytest.raises(CannotConnect, match="does not answer"):
        await Seen().link(url, LinkOptions(connect_ms=50)).start()
    await asyncio.wait_for(gone.wait(), DEADLINE_S)
    mute.close()


async def test_nobody_there_is_a_sentence() -> None:
    with pytest.raises(CannotConnect, match="headrace serve"):
        await Seen().link("headrace://127.0.0.1:1").start()
    with pytest.raises(CannotConnect):
        await Seen().link("unix:///nowhere/headrace.sock").start()


async def test_wrong_token_fails_at_once_and_for_good(
    tmp_path_factory: pytest.TempPathFactory, proxy: Proxy
) -> None:
    token_file = tmp_path_factory.mktemp("token") / "token"
    token_file.write_text("secret", encoding="utf-8")
    token_file.chmod(0o600)
    settings = ServerSettings(listen=("127.0.0.1:0",), token_file=str(token_file))
    seen = Seen()
    with short_directory() as directory:
        async with running(directory, server=settings) as guarded:
            with pytest.raises(Unauthenticated):
                await Seen().link(guarded.urls[1]).start()
            right = Seen().link(guarded.urls[1], LinkOptions(token="secret"))
            await right.start()
            await right.close()

            link = seen.link(proxy.url)
            await link.start()
            proxy.target = tcp_address(guarded)
            proxy.cut()
            await seen.until(lambda: bool(seen.failures))

            assert isinstance(seen.failures[0], Unauthenticated)
            with pytest.raises(Unauthenticated):
                await answer(link.call(commands.Flush()))
            await link.close()


async def test_attempts_are_announced_to_who_may_take_over(
    server: RunningServer, proxy: Proxy
) -> None:
    """Embedded mode: the third look finds that nobody owns the directory, and takes it."""
    seen = Seen()
    looks: list[int] = []

    async def before_attempt() -> None:
        looks.append(proxy.accepted)
        if len(looks) == 3:
            proxy.target = tcp_address(server)

    link = seen.link(proxy.url, before_attempt=before_attempt)
    await link.start()
    proxy.target = ("127.0.0.1", 1)
    proxy.cut()
    await seen.until(lambda: len(seen.welcomes) == 2)

    assert len(looks) == 3
    await link.close()
