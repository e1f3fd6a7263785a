"""The world of one life: machines, network, one server, and everybody who uses it.

Theory. One loop on a virtual clock runs every process; the driver (`life`) belongs to none
of them and takes the steps of the plan one after another. What a step begins goes on by
itself: a dead server is started again by its supervisor, a paused process goes on when its
time has come.

Must never decide for the code under test: the world only starts, breaks and watches.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable
from functools import partial
from typing import Any

from headrace.engine.engine import Engine
from headrace.log.base import Log, Lost, Refused
from headrace.model.commands import Command, Enqueue
from headrace.model.env import Env
from headrace.model.errors import ClockPast, DiskFailed, SyncFailed, UnsafeDirectory
from headrace.model.records import MACHINE_VERSION
from headrace.server.compose import RunningServer, serve
from headrace.sim.actors import Asker, HandlerWorker
from headrace.sim.conditions import DIRECTORY, PORT, SERVER, Conditions
from headrace.sim.final import Recovery
from headrace.sim.history import Happened, History
from headrace.sim.observe import LogObserver, ObservedLog
from headrace.sim.seeds import derived
from headrace.testing.sim_disk import SimCrash
from headrace.testing.sim_loop import SimLoop
from headrace.testing.sim_network import SimNetwork
from headrace.testing.sim_process import ProcessKilled, SimMachine, SimProcess

SESSION_ID_BYTES = 16
RESTART_MS = (0, 20, 400, 3_000)
REBORN_S = 0.4

Main = Callable[[Any], Coroutine[Any, Any, Any]]
Actor = Asker | HandlerWorker


class World:
    """Made by the driver on its loop; `begin` puts everybody to work."""

    def __init__(self, loop: SimLoop, conditions: Conditions) -> None:
        seed = conditions.seed
        self.loop = loop
        self.seed = seed
        self.conditions = conditions
        self.history = History()
        self.ids: list[bytes] = []
        """Of every job that anybody has asked for."""
        self.asked: list[Enqueue] = []
        self.counts: Counter[str] = Counter()
        self.faults: list[str] = []
        """What broke that no checker needs a history for."""
        self.recoveries: list[Recovery] = []
        self.network = SimNetwork(loop, derived(seed, "network"))
        self.machine = SimMachine(loop, derived(seed, "a"), name="server", network=self.network)
        self.others = SimMachine(loop, derived(seed, "b"), name="others", network=self.network)
        self.clock = self.machine.clock
        options = conditions.settings.engine_options()
        self.observer = LogObserver(self.history, self.clock, options)
        self.server: RunningServer | None = None
        """While it serves."""
        self.processes: dict[str, SimProcess] = {}
        """The newest of each name."""
        self.askers = [Asker(self, f"client {no}") for no in range(conditions.clients)]
        self.askers += [
            Asker(self, f"session {no}", bytes([no + 1]) * SESSION_ID_BYTES)
            for no in range(conditions.sessions)
        ]
        self.workers = [HandlerWorker(self, f"worker {no}") for no in range(conditions.workers)]
        self._draw = random.Random(derived(seed, "world"))
        self._ended = False
        self._retired = False
        self._disk_may_fail = "disk" in conditions.faults
        self._clock_may_jump = "clock" in conditions.faults
        self._stopping: asyncio.Event | None = None
        self._known: set[bytes] = set()
        self._undoing: list[Callable[[], None]] = []

    @property
    def url(self) -> str:
        return f"headrace://{self.machine.name}:{PORT}"

    @property
    def engine(self) -> Engine | None:
        """Of the server, while it leads."""
        leader = self.server.node._leader if self.server is not None else None
        return leader.engine if leader is not None else None

    @property
    def actors(self) -> list[Actor]:
        return [*self.askers, *self.workers]

    def wall_ms(self) -> int:
        return self.clock.wall_ms()

    def know(self, ids: Iterable[bytes]) -> None:
        """These jobs may exist from here on."""
        for job_id in ids:
            if job_id and job_id not in self._known:
                self._known.add(job_id)
                self.ids.append(job_id)

    def note(self, what: str, **fields: Any) -> None:
        self.counts[what] += 1
        self.history.events.append(Happened(self.clock.mono_ns(), what, fields))

    # --- who lives

    def begin(self) -> None:
        self.start_server()
        for actor in self.actors:
            self.start(actor.name, actor.main)

    def start(self, name: str, main: Main) -> None:
        self.processes[name] = self.others.start(name, main)

    def ask(self, asker: Asker, command: Command) -> None:
        """The command leaves as soon as the asker's process runs and is connected."""
        if isinstance(command, Enqueue):
            self.asked.append(command)
            self.know(job.job_id for job in command.jobs)
        self.processes[asker.name].call(partial(asker.act, command))

    # --- the server

    def start_server(self) -> None:
        self.processes[SERVER] = process = self.machine.start(SERVER, self._serve)
        self.loop.create_task(self._look_after(process))

    async def _serve(self, env: Env) -> None:
        """The process of the server, from its start to its stop or failure."""
        ended = asyncio.Event()
        self._stopping = ended
        server = await serve(
            env,
            DIRECTORY,
            self.conditions.settings,
            report=self._report,
            on_failed=lambda error: ended.set(),
            make_log=partial(self._make_log, env),
        )
        self.server = server
        self.look_at_recovery()
        await ended.wait()
        await server.stop(self.drain_ms)
        self.server = None

    drain_ms = 0

    def stop_server(self, drain_ms: int) -> None:
        """SIGTERM: it ends in good order, if it is well; and is started again."""
        if self._stopping is not None and self.processes[SERVER].alive:
            self.drain_ms = drain_ms
            self.processes[SERVER].call(self._stopping.set)

    async def _look_after(self, process: SimProcess) -> None:
        """When it has ended another one is started, as an init system does."""
        try:
            await process.result()
        except (ProcessKilled, SimCrash):
            pass
        except Exception as error:
            self._judge_failed_start(error)
        self.server = self._stopping = None
        await asyncio.sleep(self._draw.choice(RESTART_MS) / 1_000)
        if not self._ended:
            self.start_server()

    def _judge_failed_start(self, error: Exception) -> None:
        """A crash alone never stops a start; a failing disk may, and says so."""
        self.note("server failed", error=f"{type(error).__name__}: {error}")
        disk_failed = isinstance(error, SyncFailed | DiskFailed | UnsafeDirectory | Lost | Refused)
        clock_jumped = isinstance(error, ClockPast)
        if not ((disk_failed and self._disk_may_fail) or (clock_jumped and self._clock_may_jump)):
            self.faults.append(f"start: {type(error).__name__}: {error}")

    def _make_log(self, env: Env) -> Log:
        settings = self.conditions.settings.log
        log = ObservedLog(
            env, DIRECTORY, segment_bytes=settings.segment_bytes, machine_version=MACHINE_VERSION
        )
        log.observer = self.observer
        return log

    def _report(self, event: str, **fields: Any) -> None:
        self.note(event, **fields)

    def look_at_recovery(self) -> None:
        """What the node has recovered is what the log says, seen by a second engine."""
        engine, observer = self.engine, self.observer
        assert engine is not None
        replica = observer.replica
        if (engine.last_index, engine.digest()) != (replica.last_index, replica.digest()):
            self.faults.append(
                f"recovery: the state at index {engine.last_index} differs from a replay of the"
                f" log up to {replica.last_index}"
            )
        self.recoveries.append(Recovery(self.clock.mono_ns(), *observer.found))

    def compare_live(self) -> None:
        """The live state is the replayed state, whenever nothing is between them."""
        engine, replica = self.engine, self.observer.replica
        if engine is None or engine.last_index != replica.last_index:
            return
        self.counts["states compared"] += 1
        if engine.digest() != replica.digest():
            self.faults.append(
                f"live state: at index {engine.last_index} it differs from a replay of the log"
            )

    # --- what breaks

    @property
    def worker_names(self) -> list[str]:
        return [worker.name for worker in self.workers]

    @property
    def asker_names(self) -> list[str]:
        return [asker.name for asker in self.askers]

    def kill(self, name: str) -> None:
        """SIGKILL; an asker or a worker is there again after a moment, as a new process."""
        self.note(f"{name} killed")
        self.processes[name].kill()
        if name != SERVER:
            self.loop.call_later(REBORN_S, self._start_again, name)

    def _start_again(self, name: str) -> None:
        if not self._retired and not self.processes[name].alive:
            [actor] = [one for one in self.actors if one.name == name]
            self.start(name, actor.main)

    def retire(self, actors: Iterable[Actor]) -> None:
        """They are gone for good."""
        self._retired = True
        for actor in actors:
            self.processes[actor.name].kill()

    def end(self) -> None:
        """Whatever ends from here on is not started again."""
        self._ended = self._retired = True

    def power_cut(self, dice: random.Random) -> None:
        """Of the server's machine."""
        self.note("power cut")
        self.machine.power_cut(dice)

    def pause(self, name: str, duration_ms: int) -> None:
        process = self.processes[name]
        self.note(f"{name} paused", for_ms=duration_ms)
        process.pause()
        self.until(duration_ms, process.go_on)

    # --- faults that end by themselves

    def until(self, duration_ms: int, undo: Callable[[], None]) -> None:
        """`undo` is called once: after this time, or when the faults of this life are over."""
        self._undoing.append(undo)
        self.loop.call_later(duration_ms / 1_000, self._undo, undo)

    def heal(self) -> None:
        """Nothing breaks any more."""
        for undo in list(self._undoing):
            self._undo(undo)
        self.machine.disk.faults.clear()
        self.network.heal()

    def _undo(self, undo: Callable[[], None]) -> None:
        if undo in self._undoing:
            self._undoing.remove(undo)
            undo()
