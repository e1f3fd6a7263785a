"""Who runs the server of a life: a process of its own, or whoever owns the directory.

Both run `headrace.server.compose.serve`, over a log that is watched.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any
from unittest import mock

import msgspec

from headrace.client import embedded
from headrace.log.base import Log, Lost, Refused
from headrace.model.env import Env
from headrace.model.errors import (
    ClockPast,
    DiskFailed,
    Locked,
    StopError,
    SyncFailed,
    UnsafeDirectory,
)
from headrace.model.records import MACHINE_VERSION
from headrace.model.settings import ServerSettings, Settings
from headrace.server import compose
from headrace.server.compose import RunningServer
from headrace.sim.conditions import DIRECTORY, PORT, SERVER
from headrace.sim.observe import ObservedLog
from headrace.sim.seeds import derived
from headrace.testing.sim_disk import SimCrash
from headrace.testing.sim_process import ProcessKilled, SimProcess

if TYPE_CHECKING:
    from headrace.sim.world import World

CHECKUP_PROBABILITY = 0.5
RESTART_MS = (0, 20, 400, 3_000)


class Hosting:
    """What both have: a watched log, and a look at what was recovered."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.server: RunningServer | None = None
        """While one serves."""

    @property
    def url(self) -> str:
        raise NotImplementedError

    @property
    def process(self) -> SimProcess | None:
        """Where it runs, or ran last."""
        raise NotImplementedError

    def begin(self) -> None: ...

    def stop(self, drain_ms: int) -> None:
        """SIGTERM: it ends in good order, if it is well."""

    def close(self) -> None:
        """The life is over; nothing of this host goes on."""

    def forget(self) -> None:
        """Its loop is closed; what the dead still said then was not heard."""

    async def wait_stopped(self) -> None:
        """After the last `stop`: the directory is nobody's."""

    def make_log(self, env: Env) -> Log:
        settings = self.world.conditions.settings.log
        log = ObservedLog(
            env, DIRECTORY, segment_bytes=settings.segment_bytes, machine_version=MACHINE_VERSION
        )
        log.observer = self.world.observer
        return log

    def serves(self, server: RunningServer) -> None:
        self.server = server
        self.world.unrot()
        self.world.look_at_recovery(server)

    def judge_failed_start(self, error: BaseException) -> None:
        """A crash alone never stops a start. A failing disk may, and says so; a rotten bit may,
        and is named."""
        if isinstance(error, StopError) and self._is_rot(error):
            self.world.note("rot found", code=error.stop_code)
            self.world.unrot()
            return
        faults = self.world.conditions.faults
        self.world.note("server failed", error=f"{type(error).__name__}: {error}")
        disk = isinstance(error, SyncFailed | DiskFailed | UnsafeDirectory | Lost | Refused)
        clock = isinstance(error, ClockPast)
        broken = (disk and "disk" in faults) or (clock and "clock" in faults)
        if not broken or self.world.is_well:
            self.world.faults.append(f"start: {type(error).__name__}: {error}")
            self.world.unrot()

    def _is_rot(self, error: StopError) -> bool:
        rotten = self.world.rotten
        damage = rotten.damage(self.world.machine.disk) if rotten is not None else None
        return damage is not None and damage.explains(error)


class OwnProcess(Hosting):
    """`headrace serve`, started again whenever it has ended."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._process: SimProcess | None = None
        self._stopping: asyncio.Event | None = None
        self._drain_ms = 0
        self._tasks: dict[asyncio.Task[None], None] = {}
        self._draw = random.Random(derived(world.seed, "restarts"))
        self._draw_checkups = random.Random(derived(world.seed, "checkups"))

    @property
    def url(self) -> str:
        return f"headrace://{self.world.machine.name}:{PORT}"

    @property
    def process(self) -> SimProcess | None:
        return self._process

    def begin(self) -> None:
        process = self._process = self.world.machine.start(SERVER, self._serve)
        task = self.world.loop.create_task(self._look_after(process))
        self._tasks[task] = None
        task.add_done_callback(self._tasks.pop)

    def stop(self, drain_ms: int) -> None:
        if self._stopping is not None and self._process is not None and self._process.alive:
            self._drain_ms = drain_ms
            self._process.call(self._stopping.set)

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()

    async def wait_stopped(self) -> None:
        if self._process is not None:
            await self._process.wait()

    async def _serve(self, env: Env) -> None:
        """The process, from its start to its stop or failure."""
        self._stopping = ended = asyncio.Event()
        self._drain_ms = 0
        server = await compose.serve(
            env,
            DIRECTORY,
            self.world.conditions.settings,
            report=self.world.report,
            on_failed=lambda error: ended.set(),
            make_log=partial(self.make_log, env),
            owns_process=False,
        )
        self.serves(server)
        await ended.wait()
        await server.stop(self._drain_ms)

    async def _look_after(self, process: SimProcess) -> None:
        """When it has ended another one is started, as an init system does."""
        crashed = False
        try:
            await process.result()
        except (ProcessKilled, SimCrash):
            crashed = True
        except Exception as error:
            self.judge_failed_start(error)
        self.server = self._stopping = None
        if self.world.is_over:
            return
        await asyncio.sleep(self._draw.choice(RESTART_MS) / 1_000)
        if self.world.is_over:
            return
        if crashed and self._draw_checkups.random() < CHECKUP_PROBABILITY:
            self.world.check_up()
        self.begin()


class Embedded(Hosting):
    """Whoever gets the directory serves it, in a thread of its own process.

    The SDK makes the server itself, without asking anybody; so `serve` is watched where the
    SDK looks it up, for as long as the life lasts.
    """

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._process: SimProcess | None = None
        self._real_serve: Callable[..., Any] = compose.serve
        self._patches = (
            mock.patch.object(compose, "serve", self._serve),
            mock.patch.object(embedded, "_report", self._report),
        )

    @property
    def url(self) -> str:
        return DIRECTORY

    @property
    def process(self) -> SimProcess | None:
        return self._process

    def begin(self) -> None:
        for patch in self._patches:
            patch.start()

    def stop(self, drain_ms: int) -> None:
        """The owner leaves in good order; at the end of a life it dies, and must bear it."""
        if self.world.is_over:
            self.world.kill(self._process)
        else:
            self.world.close(self._process)

    def forget(self) -> None:
        for patch in self._patches:
            patch.stop()

    def _report(self, event: str, **fields: Any) -> None:
        """What an application logs. An owner has to be able to leave, whatever a log refuses."""
        self.world.note(event, **fields)
        if event == "release_failed":
            self.world.faults.append(f"{event}: {fields}")

    async def _serve(self, env: Env, directory: str, settings: Settings, **options: Any) -> Any:
        wanted = msgspec.structs.replace(
            self.world.conditions.settings,
            server=ServerSettings(listen=(), unix_socket=True),
        )
        options["report"] = self.world.report
        try:
            server = await self._real_serve(
                env, directory, wanted, make_log=partial(self.make_log, env), **options
            )
        except Locked:
            raise  # another one owns it
        except Exception as error:
            self.judge_failed_start(error)
            raise
        owner = self.world.process_of(env.host.pid())
        if self._process is not None and owner is not self._process:
            self.world.note("owner changed")
        self._process = owner
        self.serves(server)
        return server
