"""A simulated network: listeners, connections, and the weather between them.

Theory. A connection is two directions; each carries its bytes in order, in pieces that
arrive when the weather lets them, and holds at most a window of what was not read yet, so
that a peer that does not read makes its sender wait. Connections know nothing of each
other: what is sent on two of them may arrive in either order. A direction can go silent:
what is sent then waits, as TCP would send it again and again, and arrives if it is healed.

The kernel's part goes on while a process stands still: it is connected to, it receives. A
process that dies has its connections closed by it; a machine that loses power says nothing.

Must never lose, double or reorder bytes inside one direction, except at its end.

Not modelled: name resolution, the limits of backlogs, TCP's own timeouts but that of connecting.
"""

from __future__ import annotations

import asyncio
import errno
import os
import random
from collections import Counter
from collections.abc import Callable, Iterator

import msgspec

from headrace.testing.sim_loop import SimLoop, SimThreadLoop
from headrace.testing.sim_transport import Direction, SimTransport

CONNECT_S_MAX = 127.0
"""So long a Linux kernel asks again before it gives up."""
_FIRST_PORT = 40_000
_OWN_HOSTS = ("127.0.0.1", "localhost", "::1", "0.0.0.0", "::")

Factory = Callable[[], asyncio.BaseProtocol]


class Weather(msgspec.Struct, frozen=True, kw_only=True):
    """What befalls connections. The default is a calm machine-local network.

    Probabilities are drawn for each piece that is sent, or for each attempt to connect.
    """

    latency_s: float = 0.0001
    """Of a piece, half to one and a half of it."""
    tail_probability: float = 0.0
    tail_s: float = 0.0
    """A piece of the tail takes up to so much longer."""
    split_probability: float = 0.0
    """A piece is cut at any byte, and its parts travel by themselves."""
    bytes_per_s: float = 0.0
    """0: as many as there are."""
    reset_probability: float = 0.0
    """The connection is reset, and only a part of the piece arrives."""
    silence_probability: float = 0.0
    """The direction goes silent, until it is healed."""
    refuse_probability: float = 0.0
    hang_probability: float = 0.0
    """An attempt to connect meets silence, until this weather is over."""
    spares_unix: bool = True
    """Unix sockets only have latency, splits and their speed."""


CALM = Weather()


class Connection:
    """Two ends and two directions; what a test may do to them."""

    def __init__(
        self, network: SimNetwork, number: int, listener: Listener, client: SimTransport
    ) -> None:
        self.number = number
        self.is_unix = isinstance(listener.address, str)
        self.client = client
        self.server = SimTransport(
            listener.network,
            listener.loop,
            sockname=listener.address,
            peername=client.get_extra_info("sockname"),
        )
        self.to_server = Direction(network, self, client, self.server)
        self.to_client = Direction(network, self, self.server, client)

    @property
    def directions(self) -> tuple[Direction, Direction]:
        return self.to_server, self.to_client

    @property
    def is_open(self) -> bool:
        """For at least one of its ends."""
        return self.client.is_open or self.server.is_open

    def reset(self) -> None:
        """Both ends learn that it was reset; what had arrived may still be read."""
        for direction in self.directions:
            direction.drop()
        for end in (self.client, self.server):
            end.loop.call_io_at(end.loop.time(), end.receive_reset)

    def silence(self, *, for_ever: bool = False) -> None:
        """Nothing arrives at either end any more, and neither is told."""
        for direction in self.directions:
            direction.silence(for_ever=for_ever)


class Listener:
    """A `Server` of one process."""

    def __init__(
        self,
        network: ProcessNetwork,
        loop: SimThreadLoop,
        address: tuple[str, int] | str,
        factory: Factory,
    ) -> None:
        self.network = network
        self.loop = loop
        self.address = address
        self.is_open = True
        self._factory = factory
        self._waiting: dict[SimTransport, None] = {}

    def addresses(self) -> list[str]:
        if isinstance(self.address, str):
            return [self.address]
        host, port = self.address
        return [f"[{host}]:{port}" if ":" in host else f"{host}:{port}"]

    async def close(self) -> None:
        """Nobody new gets in; connections that exist go on."""
        self.shut()
        await asyncio.sleep(0)

    def shut(self, *, leave_socket: bool = False) -> None:
        """Nobody gets in any more, not even who waits for it. A killed process leaves its
        Unix socket behind."""
        if self.is_open:
            self.is_open = False
            self.network.shared.unbind(self, leave_socket=leave_socket)
            waiting, self._waiting = self._waiting, {}
            for transport in waiting:
                transport.close_socket(rudely=True)

    def welcome(self, transport: SimTransport) -> None:
        """The kernel is connected; the process learns of it when it runs."""
        self._waiting[transport] = None
        self.loop.call_io_at(self.loop.time(), lambda: self._accept(transport))

    def _accept(self, transport: SimTransport) -> None:
        if transport in self._waiting:
            del self._waiting[transport]
            transport.begin(self._factory())


class SimNetwork:
    """All machines' network. Its methods are for the code that runs the simulation."""

    def __init__(self, loop: SimLoop, seed: int = 0) -> None:
        self.loop = loop
        self.draw = random.Random(f"network {seed}")
        self.weather = CALM
        self.on_connection: Callable[[Connection], None] = _ignore
        """Called with each connection before its first byte."""
        self.traffic: list[tuple[float, int, str, bytes]] | None = None
        """What arrived: (time, connection, `server` or `client`, bytes); kept when it is a list."""
        self.connection_count = 0
        self.reset_count = 0
        self._connections: dict[int, Connection] = {}
        self._listeners: dict[tuple[str, int | str], Listener | None] = {}
        """By machine, and port or path; None is a Unix socket that nobody listens on."""
        self._cut: Counter[tuple[str, str]] = Counter()
        """From which machine to which, and by how many partitions."""
        self._calm_count = 0
        self._next_port = _FIRST_PORT

    # --- faults

    def connections(self) -> list[Connection]:
        """That are open, oldest first."""
        return list(self._connections.values())

    def partition(self, source: str, target: str, *, one_way: bool = False) -> None:
        """Nothing comes from machine `source` to `target`, nor back, until it is undone."""
        self._cut.update(_ways(source, target, one_way=one_way))

    def unpart(self, source: str, target: str, *, one_way: bool = False) -> None:
        """That one partition is over, and what waited for it arrives; others stay."""
        self._cut -= Counter(_ways(source, target, one_way=one_way))
        for direction in self._directions():
            direction.go_on()

    def calm(self, weather: Weather) -> None:
        """That weather is over, unless another has come since. What it silenced stays silent."""
        if self.weather is weather:
            self.weather = CALM
            self._calm_count += 1

    def heal(self) -> None:
        """Calm, nobody cut off; what waited arrives, but for what is silent for ever."""
        self.calm(self.weather)
        self._cut.clear()
        for direction in self._directions():
            direction.heal()

    def is_parted(self, source: str, target: str) -> bool:
        """By any partition, at least one way."""
        return bool(self._cut) and any(way in self._cut for way in _ways(source, target))

    def is_cut(self, source: SimTransport, target: SimTransport) -> bool:
        return bool(self._cut) and (source.network.machine, target.network.machine) in self._cut

    def _directions(self) -> Iterator[Direction]:
        for connection in self._connections.values():
            yield from connection.directions

    # --- what the rest of the simulation calls

    def of_process(self, machine: str) -> ProcessNetwork:
        """The `Network` of a new process on that machine."""
        return ProcessNetwork(self, machine)

    def forget(self, connection: Connection) -> None:
        self._connections.pop(connection.number, None)

    def bind(self, machine: str, address: tuple[str, int] | str, listener: Listener) -> None:
        """Raises: `OSError` (EADDRINUSE) when somebody listens there."""
        key = _key(machine, address)
        if self._listeners.get(key) is not None:
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
        self._listeners[key] = listener

    def unbind(self, listener: Listener, *, leave_socket: bool) -> None:
        key = _key(listener.network.machine, listener.address)
        if self._listeners.get(key) is listener:
            if leave_socket and isinstance(listener.address, str):
                self._listeners[key] = None
            else:
                del self._listeners[key]

    def next_port(self) -> int:
        self._next_port += 1
        return self._next_port

    async def connect(
        self, origin: ProcessNetwork, machine: str, address: tuple[str, int] | str, factory: Factory
    ) -> None:
        """`factory` made a protocol, and it is connected. Raises: `OSError`."""
        loop = _running()
        await self._reach(loop, origin.machine, machine, is_unix=isinstance(address, str))
        listener = self._listener(machine, address)
        client = SimTransport(
            origin,
            loop,
            sockname="" if isinstance(address, str) else ("127.0.0.1", self.next_port()),
            peername=address,
        )
        self.connection_count += 1
        connection = Connection(self, self.connection_count, listener, client)
        self._connections[connection.number] = connection
        self.on_connection(connection)
        listener.welcome(connection.server)
        client.begin(factory())

    async def _reach(self, loop: SimThreadLoop, source: str, target: str, *, is_unix: bool) -> None:
        """The listener has answered, or refused. Raises: `TimeoutError` when nothing comes."""
        weather, calms = self.weather, self._calm_count
        risky = not (is_unix and weather.spares_unix)
        hangs = risky and self.draw.random() < weather.hang_probability
        given_up_at_s, pause_s = loop.time() + CONNECT_S_MAX, 1.0
        while (hangs and calms == self._calm_count) or self.is_parted(source, target):
            if loop.time() >= given_up_at_s:
                raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))
            await asyncio.sleep(min(pause_s, given_up_at_s - loop.time()))
            pause_s *= 2
        await asyncio.sleep(2 * self.latency_s())
        if risky and self.draw.random() < weather.refuse_probability:
            raise _refused()

    def _listener(self, machine: str, address: tuple[str, int] | str) -> Listener:
        key = _key(machine, address)
        listener = self._listeners.get(key)
        if listener is not None:
            return listener
        if isinstance(address, str) and key not in self._listeners:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), address)
        raise _refused()

    # --- chance

    def latency_s(self) -> float:
        weather, draw = self.weather, self.draw
        latency_s = weather.latency_s * (0.5 + draw.random())
        if weather.tail_probability and draw.random() < weather.tail_probability:
            latency_s += weather.tail_s * draw.random() ** 2
        return latency_s


class ProcessNetwork:
    """`Network` of one process: its listeners and connections end with it."""

    def __init__(self, shared: SimNetwork, machine: str) -> None:
        self.shared = shared
        self.machine = machine
        self.transports: dict[SimTransport, None] = {}
        """That are open."""
        self._listeners: list[Listener] = []
        self._ended = False

    async def listen_tcp(self, host: str, port: int, factory: Factory) -> Listener:
        return self._listen((host, port or self.shared.next_port()), factory)

    async def listen_unix(self, path: str, factory: Factory) -> Listener:
        return self._listen(path, factory)

    async def connect_tcp(self, host: str, port: int, factory: Factory) -> None:
        self._must_live()
        machine = self.machine if host in _OWN_HOSTS else host
        await self.shared.connect(self, machine, (host, port), factory)

    async def connect_unix(self, path: str, factory: Factory) -> None:
        self._must_live()
        await self.shared.connect(self, self.machine, path, factory)

    def end(self, *, silently: bool) -> None:
        """The process has died; `silently`: with its machine, and peers hear nothing."""
        self._ended = True
        for listener in self._listeners:
            listener.shut(leave_socket=True)
        for transport in list(self.transports):
            if silently:
                transport.vanish()
            else:
                transport.close_socket(rudely=self.shared.draw.random() < 0.5)

    def close_all_of(self, loop: SimThreadLoop) -> None:
        """A thread has ended, and nobody holds its sockets any more."""
        for listener in self._listeners:
            if listener.loop is loop:
                listener.shut()
        for transport in list(self.transports):
            if transport.loop is loop:
                transport.close_socket()

    def _listen(self, address: tuple[str, int] | str, factory: Factory) -> Listener:
        self._must_live()
        listener = Listener(self, _running(), address, factory)
        self.shared.bind(self.machine, address, listener)
        self._listeners.append(listener)
        return listener

    def _must_live(self) -> None:
        if self._ended:
            raise OSError(errno.ENETDOWN, "the process is dead")


def _ways(source: str, target: str, *, one_way: bool = False) -> list[tuple[str, str]]:
    return [(source, target)] if one_way else [(source, target), (target, source)]


def _key(machine: str, address: tuple[str, int] | str) -> tuple[str, int | str]:
    return machine, address if isinstance(address, str) else address[1]


def _running() -> SimThreadLoop:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, SimThreadLoop), "a simulated network needs a simulated loop"
    return loop


def _refused() -> OSError:
    return ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))


def _ignore(connection: Connection) -> None: ...
