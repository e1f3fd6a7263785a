"""Where a server listens: its TCP addresses and the Unix socket of its directory.

Must never leave half of its addresses open: either all of them listen, or none.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable, Sequence

from headrace.model.env import Network, Server
from headrace.model.errors import BadSettings
from headrace.model.limits import PREDECESSOR_MS
from headrace.model.settings import listen_address

SOCKET_NAME = "headrace.sock"
_LOOK_AGAIN_S = 0.01

Factory = Callable[[], asyncio.BaseProtocol]


def socket_path(directory: str) -> str:
    """Path of the Unix socket of the data directory."""
    return f"{directory.rstrip('/')}/{SOCKET_NAME}"


class Listeners:
    """All addresses of one server."""

    def __init__(self, network: Network, local: Factory, remote: Factory) -> None:
        """`local` makes the connections of the Unix socket, `remote` those of TCP."""
        self._network = network
        self._local = local
        self._remote = remote
        self._open: list[Server] = []
        self.urls: list[str] = []
        """As clients write them, the Unix socket first; ports are the real ones."""

    async def open(self, directory: str | None, addresses: Sequence[str]) -> None:
        """Everything listens. Raises: `BadSettings` for an address that cannot be had."""
        try:
            if directory is not None:
                await self._open_unix(socket_path(directory))
            for text in addresses:
                await self._open_tcp(text)
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Nobody new gets in."""
        open_before, self._open = self._open, []
        for listener in open_before:
            await listener.close()

    async def _open_unix(self, path: str) -> None:
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + PREDECESSOR_MS / 1_000
        while True:
            try:
                self._open.append(await self._network.listen_unix(path, self._local))
            except OSError as error:
                # The directory is ours: who listens there has given it up a moment ago.
                if error.errno != errno.EADDRINUSE or loop.time() >= deadline_s:
                    raise BadSettings([f"cannot listen on {path}: {_reason(error)}."]) from error
                await asyncio.sleep(_LOOK_AGAIN_S)
            else:
                break
        self.urls.append(f"unix://{path}")

    async def _open_tcp(self, text: str) -> None:
        host, port = listen_address(text)
        try:
            listener = await self._network.listen_tcp(host, port, self._remote)
        except OSError as error:
            raise BadSettings([f"cannot listen on {text}: {_reason(error)}."]) from error
        self._open.append(listener)
        self.urls += [f"headrace://{address}" for address in listener.addresses()]


def _reason(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "another process listens there already; stop it, or choose another server.listen"
    if error.errno == errno.EACCES:
        return "this user may not; choose a port from 1024 on"
    return error.strerror or str(error)
