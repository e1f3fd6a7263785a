"""The one place where settings, log, node and server are put together.

Used by the command line and by an embedded owner alike: what runs is the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec

from headrace.log.base import Log
from headrace.log.file.log import FileLog
from headrace.model.env import Env
from headrace.model.errors import Draining
from headrace.model.limits import DRAIN_MS_DEFAULT, OPEN_FILES_RESERVED
from headrace.model.records import MACHINE_VERSION
from headrace.model.settings import Settings
from headrace.protocol.handshake import TokenCheck
from headrace.runtime.node import Node, NodeOptions
from headrace.runtime.reports import Report, ignore_report
from headrace.server.connection_protocol import ServerProtocol
from headrace.server.edge import Edge, EdgeLimits, HandOverTo
from headrace.server.exposure import check_exposure, read_token
from headrace.server.listeners import Listeners
from headrace.server.watch import Watch

LAST_WORDS_MS = 250
"""What peers get at a stop to read why and close; everything is durable by then."""

OnFailed = Callable[[BaseException], None]
OnReady = Callable[[list[str]], None]


class RunningServer:
    """A node that leads, and listens. Belongs to the loop on which it was made."""

    def __init__(
        self, node: Node, edge: Edge, watch: Watch, listeners: Listeners, report: Report
    ) -> None:
        self.node = node
        self._edge = edge
        self._watch = watch
        self._listeners = listeners
        self._report = report
        self._stopped: asyncio.Future[None] | None = None

    @property
    def urls(self) -> list[str]:
        """Where clients reach it, the Unix socket first."""
        return self._listeners.urls

    @property
    def connection_count(self) -> int:
        return len(self._edge.connections)

    async def stop(self, drain_ms: int = DRAIN_MS_DEFAULT) -> None:
        """Drained, everything durable and answered, the log closed, nobody connected.

        While it drains, connections live on and new ones are let in: workers must be able
        to come back and ack what they ran; new work is refused. A second call stops at once.

        Raises: what `Log.close` raises.
        """
        if self._stopped is not None:
            await self.node.stop(0)
            await asyncio.shield(self._stopped)
            return
        self._stopped = asyncio.get_running_loop().create_future()
        self._report("server_stopping", drain_ms=drain_ms, connections=self.connection_count)
        try:
            await self.node.stop(drain_ms)
        finally:
            await self._listeners.close()
            await self._edge.close(
                Draining("The server has stopped.", hint="Connect again.", retry_after_ms=1_000),
                LAST_WORDS_MS,
            )
            self._watch.stop()
            self._report("server_stopped")
            self._stopped.set_result(None)


async def serve(
    env: Env,
    directory: str,
    settings: Settings,
    *,
    report: Report = ignore_report,
    on_failed: OnFailed = lambda error: None,
    on_ready: OnReady = lambda urls: None,
    hand_over: HandOverTo | None = None,
    limits: EdgeLimits | None = None,
    owns_process: bool = True,
    make_log: Callable[[], Log] | None = None,
) -> RunningServer:
    """The directory is ours, recovered, and served at every address of `settings`.

    Args:
        directory: absolute path; made when missing.
        on_failed: called once when the node cannot go on; everybody who waited knows by
            then. Call `stop`, and end with exit code 74.
        on_ready: called once with the URLs, when clients can connect.
        hand_over: called with a reason when somebody asks for the directory; then call
            `stop`. None refuses such requests, as a server of its own does.
        limits: for tests; by default those of `model/limits.py` and of `settings`.
        owns_process: False in somebody else's process, whose garbage collector then stays
            as it is.
        make_log: of another log than files in `directory`, not open yet.

    Raises: `BadSettings` (an address in use, listening beyond loopback without consent, no
        token); `Locked`, `UnsafeDirectory` and the other stop codes of the log. Nothing
        stays open then.
    """
    check_exposure(settings.server)
    tokens = TokenCheck(read_token(env.disk, settings.server.token_file))
    log = make_log() if make_log is not None else _file_log(env, directory, settings)
    node = _make_node(env, log, settings, report, on_failed, owns_process)
    bounds = _within_open_files(env, limits or _limits_of(settings), report)
    await node.start()
    edge = Edge(node, bounds, tokens, report, hand_over)
    watch = Watch(edge)
    listeners = Listeners(
        env.network,
        local=lambda: ServerProtocol(edge, watch, is_local=True),
        remote=lambda: ServerProtocol(edge, watch),
    )
    try:
        await listeners.open(
            directory if settings.server.unix_socket else None, settings.server.listen
        )
    except BaseException:
        await node.stop(0)
        raise
    watch.start()
    report("server_ready", urls=listeners.urls)
    on_ready(listeners.urls)
    return RunningServer(node, edge, watch, listeners, report)


def _file_log(env: Env, directory: str, settings: Settings) -> FileLog:
    return FileLog(
        env,
        directory,
        segment_bytes=settings.log.segment_bytes,
        machine_version=MACHINE_VERSION,
    )


def _make_node(
    env: Env,
    log: Log,
    settings: Settings,
    report: Report,
    on_failed: OnFailed,
    owns_process: bool,
) -> Node:
    options = NodeOptions(
        name=f"{env.host.hostname()}:{env.host.pid()}",
        engine=settings.engine_options(),
        snapshot_wal_bytes=settings.log.snapshot_wal_bytes,
        snapshot_age_ms=settings.log.snapshot_age_ms,
        async_window_ms=settings.log.async_window_ms,
        tune_gc=owns_process,
    )
    return Node(env, log, options, report=report, on_failed=on_failed)


def _limits_of(settings: Settings) -> EdgeLimits:
    return EdgeLimits(connections_max=settings.server.connections_max)


def _within_open_files(env: Env, limits: EdgeLimits, report: Report) -> EdgeLimits:
    """`limits`, with no more connections than this process may have descriptors for.

    Beyond its descriptors a process cannot even accept in order to refuse: clients would
    wait in the backlog without a word.
    """
    open_files_max = env.host.open_files_max()
    room = max(1, open_files_max - OPEN_FILES_RESERVED)
    if room >= limits.connections_max:
        return limits
    report(
        "open_files_limited",
        open_files_max=open_files_max,
        connections_max=room,
        wanted=limits.connections_max,
        remedy=f"ulimit -n {limits.connections_max + OPEN_FILES_RESERVED}",
    )
    return msgspec.structs.replace(limits, connections_max=room)
