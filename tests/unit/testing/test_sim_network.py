"""The simulated network: bytes in order, ends told once, and every way it can break."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from headrace.model.env import EnvParts
from headrace.testing.sim_loop import SimLoop
from headrace.testing.sim_network import CALM, Connection, SimNetwork, Weather
from headrace.testing.sim_process import SimMachine, SimProcess
from headrace.testing.sim_transport import WINDOW_BYTES

PORT = 7431
STORM = Weather(
    latency_s=0.002, tail_probability=0.2, tail_s=1.0, split_probability=0.5, spares_unix=False
)


class Peer(asyncio.Protocol):
    """Notes what it is told."""

    def __init__(self) -> None:
        self.received = b""
        self.events: list[str] = []
        self.lost_by: Exception | None = None
        self.transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.events.append("made")

    def data_received(self, data: bytes) -> None:
        assert self.events[-1] != "lost"
        self.received += data

    def eof_received(self) -> None:
        self.events.append("eof")

    def pause_writing(self) -> None:
        self.events.append("pause")

    def resume_writing(self) -> None:
        self.events.append("resume")

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost_by = exc
        self.events.append("lost")


class Buffered(asyncio.BufferedProtocol):
    """Reads into seven bytes."""

    def __init__(self) -> None:
        self.received = b""
        self._buffer = bytearray(7)

    def get_buffer(self, sizehint: int) -> bytearray:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.received += self._buffer[:nbytes]


class Scene:
    """Two machines, a process on each, and a listener on the first."""

    def __init__(self, loop: SimLoop, seed: int = 1) -> None:
        self.network = SimNetwork(loop, seed)
        self.home = SimMachine(loop, seed, name="home", network=self.network)
        self.away = SimMachine(loop, seed, name="away", network=self.network)
        self.server = self.home.start("server", _for_ever)
        self.client = self.away.start("client", _for_ever)
        self.accepted: list[Peer] = []

    def accept(self) -> Peer:
        self.accepted.append(Peer())
        return self.accepted[-1]

    async def listen(self, path: str = "") -> None:
        await self.server.run(lambda: _listen(self.server, path, self.accept))

    async def connect(self, path: str = "") -> Peer:
        peer = Peer()
        await self.dial(peer, path)
        return peer

    async def dial(self, peer: asyncio.BaseProtocol, path: str = "") -> None:
        process, network = self.client, self.client.env.network
        if path:
            await process.run(lambda: network.connect_unix(path, lambda: peer))
        else:
            await process.run(lambda: network.connect_tcp("home", PORT, lambda: peer))

    async def pair(self) -> tuple[Peer, Peer]:
        """The two ends of a connection: client's, server's."""
        await self.listen()
        client = await self.connect()
        await asyncio.sleep(1)
        return client, self.accepted[-1]

    @property
    def connection(self) -> Connection:
        return self.network.connections()[-1]


async def _for_ever(env: EnvParts) -> None:
    await asyncio.Event().wait()


async def _listen(process: SimProcess, path: str, factory: Callable[[], Peer]) -> Any:
    network = process.env.network
    if path:
        return await network.listen_unix(path, factory)
    return await network.listen_tcp("0.0.0.0", PORT, factory)


@pytest.fixture
def run() -> Iterator[Callable[[Callable[[Scene], Awaitable[None]]], None]]:
    loop = SimLoop()

    def run(scene: Callable[[Scene], Awaitable[None]]) -> None:
        made = Scene(loop)

        async def main() -> None:
            await scene(made)

        loop.run_until_complete(main())
        assert made.home.errors == []
        assert made.away.errors == []

    yield run
    loop.close()


Run = Callable[[Callable[[Scene], Awaitable[None]]], None]


def test_bytes_arrive_in_order_whole_and_once_in_any_weather(run: Run) -> None:
    async def scene(at: Scene) -> None:
        at.network.weather = STORM
        await at.listen()
        client = await at.connect()
        sent = b""
        for number in range(300):
            piece = b"%d;" % number
            sent += piece
            client.transport.write(piece)
            if number % 7 == 0:
                await asyncio.sleep(0.01)
        client.transport.close()
        await asyncio.sleep(100)
        (server,) = at.accepted
        assert server.received == sent
        assert server.events == ["made", "eof", "lost"]
        assert client.events == ["made", "lost"]

    run(scene)


def test_what_is_sent_on_two_connections_may_arrive_in_either_order(run: Run) -> None:
    async def scene(at: Scene) -> None:
        at.network.weather = STORM
        at.network.traffic = []
        await at.listen()
        first, second = await at.connect(), await at.connect()
        for number in range(30):
            first.transport.write(b"%02d" % number)
            await asyncio.sleep(0.001)
            second.transport.write(b"%02d" % number)
        await asyncio.sleep(100)
        order = [number for _, number, _, _ in at.network.traffic]
        assert order != sorted(order)
        assert order != [1, 2] * 30

    run(scene)


def test_buffered_protocol_is_read_into_its_own_buffer(run: Run) -> None:
    async def scene(at: Scene) -> None:
        _, server = await at.pair()
        reader = Buffered()
        await at.dial(reader)
        await asyncio.sleep(1)
        at.accepted[-1].transport.write(b"0123456789" * 5)
        await asyncio.sleep(1)
        assert server is not at.accepted[-1]
        assert reader.received == b"0123456789" * 5

    run(scene)


def test_peer_that_does_not_read_makes_its_sender_wait(run: Run) -> None:
    async def scene(at: Scene) -> None:
        client, server = await at.pair()
        server.transport.pause_reading()
        client.transport.write(bytes(2 * WINDOW_BYTES))
        assert client.events == ["made", "pause"]
        assert client.transport.get_write_buffer_size() == WINDOW_BYTES
        await asyncio.sleep(1)
        assert server.received == b""
        server.transport.resume_reading()
        await asyncio.sleep(1)
        assert len(server.received) == 2 * WINDOW_BYTES
        assert client.events == ["made", "pause", "resume"]
        client.transport.write(bytes(2 * WINDOW_BYTES))
        assert client.events == ["made", "pause", "resume", "pause"]

    run(scene)


def test_close_writes_what_was_accepted_and_abort_does_not(run: Run) -> None:
    async def scene(at: Scene) -> None:
        client, server = await at.pair()
        client.transport.write(bytes(3 * WINDOW_BYTES))
        client.transport.close()
        client.transport.write(b"")
        await asyncio.sleep(1)
        assert len(server.received) == 3 * WINDOW_BYTES
        assert client.events[-1] == "lost"

        other = await at.connect()
        other.transport.write(bytes(3 * WINDOW_BYTES))
        other.transport.abort()
        await asyncio.sleep(1)
        assert len(at.accepted[-1].received) == WINDOW_BYTES
        assert at.accepted[-1].events[-1] == "lost"

    run(scene)


def test_half_closed_connection_still_carries_the_other_way(run: Run) -> None:
    async def scene(at: Scene) -> None:
        client, server = await at.pair()
        server.eof_received = lambda: True  # type: ignore[method-assign,return-value,assignment]
        client.transport.write_eof()
        await asyncio.sleep(1)
        server.transport.write(b"last words")
        server.transport.close()
        await asyncio.sleep(1)
        assert client.received == b"last words"
        assert client.events == ["made", "eof", "lost"]

    run(scene)


@pytest.mark.parametrize("at_byte", range(11))
def test_reset_comes_at_exactly_that_byte(run: Run, at_byte: int) -> None:
    async def scene(at: Scene) -> None:
        client, server = await at.pair()
        at.connection.to_server.reset_at = at_byte
        client.transport.write(b"01234")
        await asyncio.sleep(1)
        client.transport.write(b"56789")
        await asyncio.sleep(1)
        assert server.received == b"0123456789"[:at_byte]
        assert isinstance(server.lost_by, ConnectionResetError) is (at_byte <= 10)
        assert isinstance(client.lost_by, ConnectionResetError) is (at_byte <= 10)
        assert at.network.connections() == []

    run(scene)


def test_reset_planned_for_a_byte_that_has_passed_comes_with_the_next_one(run: Run) -> None:
    async def scene(at: Scene) -> None:
        client, server = await at.pair()
        client.transport.write(b"01234")
        await asyncio.sleep(1)
        at.connection.to_server.reset_at = 3
        client.transport.write(b"56789")
        await asyncio.sleep(1)
        assert server.received == b"01234"
        assert isinstance(server.lost_by, ConnectionResetError)

    run(scene)


def test_data_that_was_never_read_makes_the_end_a_reset(run: Run) -> None:
    async def scene(at: Scene) -> None:
        client, server = await at.pair()
        server.transport.pause_reading()
        client.transport.write(b"never read")
        await asyncio.sleep(1)
        server.transport.close()
        await asyncio.sleep(1)
        assert isinstance(client.lost_by, ConnectionResetError)

    run(scene)


def test_sender_that_waits_and_does_not_read_learns_of_the_reset_all_the_same(run: Run) -> None:
    async def scene(at: Scene) -> None:
        client, server = await at.pair()
        server.transport.pause_reading()
        client.transport.pause_reading()
        client.transport.write(bytes(2 * WINDOW_BYTES))
        await asyncio.sleep(1)
        at.server.kill()
        await asyncio.sleep(1)
        assert isinstance(client.lost_by, ConnectionResetError)

    run(scene)


def test_silence_keeps_everything_and_healing_delivers_it(run: Run) -> None:
    async def scene(at: Scene) -> None:
        client, server = await at.pair()
        at.connection.silence()
        client.transport.write(b"one ")
        server.transport.write(b"back")
        await asyncio.sleep(60)
        assert (server.received, client.received) == (b"", b"")
        client.transport.write(b"two")
        client.transport.close()
        at.network.heal()
        await asyncio.sleep(1)
        assert server.received == b"one two"
        assert server.events[-1] == "lost"

    run(scene)


def test_silence_for_ever_is_not_healed(run: Run) -> None:
    async def scene(at: Scene) -> None:
        client, server = await at.pair()
        at.connection.silence(for_ever=True)
        at.network.heal()
        client.transport.write(b"into the void")
        client.transport.close()
        await asyncio.sleep(60)
        assert server.events == ["made"]
        assert server.received == b""

    run(scene)


def test_partition_cuts_connections_and_attempts_until_it_is_healed(run: Run) -> None:
    async def scene(at: Scene) -> None:
        client, server = await at.pair()
        at.network.partition("away", "home")
        client.transport.write(b"hello")
        attempt = asyncio.ensure_future(at.connect())
        await asyncio.sleep(20)
        assert server.received == b""
        assert not attempt.done()
        at.network.heal()
        await attempt
        assert server.received == b"hello"

    run(scene)


def test_partition_one_way_carries_the_other_way(run: Run) -> None:
    async def scene(at: Scene) -> None:
        client, server = await at.pair()
        at.network.partition("away", "home", one_way=True)
        client.transport.write(b"lost")
        server.transport.write(b"heard")
        await asyncio.sleep(20)
        assert (server.received, client.received) == (b"", b"heard")

    run(scene)


def test_end_of_a_partition_ends_nothing_else(run: Run) -> None:
    async def scene(at: Scene) -> None:
        client, server = await at.pair()
        silent, other = await at.connect(), at.connection
        await asyncio.sleep(1)
        other.silence()
        at.network.weather = STORM
        at.network.partition("away", "home")
        at.network.partition("home", "away", one_way=True)
        for peer in (client, silent, *at.accepted):
            peer.transport.write(b"hello")
        await asyncio.sleep(20)
        at.network.unpart("away", "home")
        await asyncio.sleep(20)
        assert at.network.weather is STORM
        assert (server.received, client.received) == (b"hello", b"")
        at.network.unpart("home", "away", one_way=True)
        await asyncio.sleep(20)
        assert client.received == b"hello"
        assert (at.accepted[-1].received, silent.received) == (b"", b"")

    run(scene)


def test_end_of_some_weather_ends_nothing_else(run: Run) -> None:
    async def scene(at: Scene) -> None:
        client, server = await at.pair()
        at.connection.silence()
        at.network.weather = earlier = Weather(latency_s=0.5)
        at.network.weather = later = Weather(hang_probability=1.0)
        at.network.calm(earlier)
        assert at.network.weather is later
        client.transport.write(b"hello")
        hanging = asyncio.ensure_future(at.connect())
        await asyncio.sleep(5)
        at.network.calm(later)
        await hanging
        assert at.network.weather is CALM
        assert server.received == b""

    run(scene)


def test_attempts_are_refused_hang_or_time_out_as_the_weather_says(run: Run) -> None:
    async def scene(at: Scene) -> None:
        with pytest.raises(ConnectionRefusedError):
            await at.connect()
        await at.listen()
        at.network.weather = Weather(refuse_probability=1.0)
        with pytest.raises(ConnectionRefusedError):
            await at.connect()
        at.network.weather = Weather(hang_probability=1.0)
        with pytest.raises(TimeoutError) as timed_out:
            await at.connect()
        assert timed_out.value.errno == errno.ETIMEDOUT
        hanging = asyncio.ensure_future(at.connect())
        await asyncio.sleep(5)
        at.network.heal()
        await hanging

    run(scene)


def test_weather_resets_and_silences_connections_by_chance(run: Run) -> None:
    async def scene(at: Scene) -> None:
        await at.listen()
        at.network.weather = Weather(reset_probability=0.5)
        arrived = set()
        for _ in range(30):
            client = await at.connect()
            client.transport.write(b"0123456789")
            await asyncio.sleep(1)
            assert client.events[-1] in ("lost", "made")
            arrived.add((client.events[-1], len(at.accepted[-1].received)))
        assert {event for event, _ in arrived} == {"lost", "made"}
        assert len(arrived) > 5
        at.network.weather = Weather(silence_probability=1.0)
        client = await at.connect()
        client.transport.write(b"0123456789")
        await asyncio.sleep(1)
        assert at.accepted[-1].received == b""
        at.network.heal()
        await asyncio.sleep(1)
        assert at.accepted[-1].received == b"0123456789"

    run(scene)


def test_slow_network_brings_bytes_at_its_speed(run: Run) -> None:
    async def scene(at: Scene) -> None:
        client, server = await at.pair()
        at.network.weather = Weather(bytes_per_s=1_000)
        for _ in range(10):
            client.transport.write(bytes(1_000))
        await asyncio.sleep(4.5)
        assert len(server.received) == 4_000
        await asyncio.sleep(6)
        assert len(server.received) == 10_000

    run(scene)


def test_killed_process_ends_its_connections_and_frees_its_port(run: Run) -> None:
    async def scene(at: Scene) -> None:
        client, server = await at.pair()
        client.transport.write(b"unread")
        at.server.kill()
        await asyncio.sleep(1)
        assert client.events[-1] == "lost"
        assert server.events == ["made"]
        with pytest.raises(ConnectionRefusedError):
            await at.connect()
        at.server = at.home.start("server", _for_ever)
        await at.listen()
        await at.connect()

    run(scene)


def test_machine_that_lost_power_says_nothing_until_it_is_spoken_to(run: Run) -> None:
    async def scene(at: Scene) -> None:
        client, _ = await at.pair()
        at.home.power_cut(at.network.draw)
        await asyncio.sleep(60)
        assert client.events == ["made"]
        client.transport.write(b"anybody there?")
        await asyncio.sleep(1)
        assert isinstance(client.lost_by, ConnectionResetError)

    run(scene)


def test_what_is_under_way_when_the_power_fails_is_answered_by_a_reset(run: Run) -> None:
    async def scene(at: Scene) -> None:
        client, _ = await at.pair()
        client.transport.write(b"under way")
        at.home.power_cut(at.network.draw)
        await asyncio.sleep(1)
        assert isinstance(client.lost_by, ConnectionResetError)

    run(scene)


def test_reset_into_silence_is_lost_and_comes_again_for_the_next_data(run: Run) -> None:
    async def scene(at: Scene) -> None:
        client, server = await at.pair()
        server.transport.pause_reading()
        client.transport.write(b"never read")
        await asyncio.sleep(1)
        at.connection.silence()
        server.transport.abort()
        await asyncio.sleep(1)
        at.network.heal()
        await asyncio.sleep(60)
        assert client.events == ["made"]
        client.transport.write(b"anybody there?")
        await asyncio.sleep(1)
        assert isinstance(client.lost_by, ConnectionResetError)

    run(scene)


def test_paused_process_is_connected_to_and_answers_when_it_goes_on(run: Run) -> None:
    async def scene(at: Scene) -> None:
        await at.listen()
        at.server.pause()
        client = await at.connect()
        client.transport.write(b"hello")
        await asyncio.sleep(10)
        assert at.accepted == []
        at.server.go_on()
        await asyncio.sleep(1)
        assert at.accepted[0].received == b"hello"

    run(scene)


def test_unix_socket_of_a_killed_process_refuses_and_is_replaced(run: Run) -> None:
    async def scene(at: Scene) -> None:
        at.client = at.home.start("client", _for_ever)
        with pytest.raises(FileNotFoundError):
            await at.connect("/data/headrace.sock")
        await at.listen("/data/headrace.sock")
        await at.connect("/data/headrace.sock")
        with pytest.raises(OSError, match=r"[Aa]ddress") as in_use:
            await at.listen("/data/headrace.sock")
        assert in_use.value.errno == errno.EADDRINUSE
        at.server.kill()
        with pytest.raises(ConnectionRefusedError):
            await at.connect("/data/headrace.sock")
        at.server = at.home.start("server", _for_ever)
        await at.listen("/data/headrace.sock")
        await at.connect("/data/headrace.sock")

    run(scene)


def test_closed_listener_turns_away_who_was_not_accepted_yet(run: Run) -> None:
    async def scene(at: Scene) -> None:
        listener = await at.server.run(lambda: _listen(at.server, "", at.accept))
        at.server.pause()
        client = await at.connect()
        listener.shut()
        at.server.go_on()
        await asyncio.sleep(1)
        assert at.accepted == []
        assert isinstance(client.lost_by, ConnectionResetError)

    run(scene)


def test_heal_is_calm(run: Run) -> None:
    async def scene(at: Scene) -> None:
        at.network.weather = STORM
        at.network.heal()
        assert at.network.weather is CALM

    run(scene)
