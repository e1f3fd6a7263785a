"""The world of one life: machines, network, one server, and everybody who uses it.

Theory. One loop on a virtual clock runs every process; the driver (`life`) belongs to none
of them and takes the steps of the plan one after another. What a step begins goes on by
itself: a dead server is started again by its supervisor, a paused process goes on when its
time has come.

Must never decide for the code under test: the world only starts, breaks and watches.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable
from functools import partial
from typing import Any

from headrace.engine.engine import Engine
from headrace.model.commands import Command, Enqueue
from headrace.server.compose import RunningServer
from headrace.sim.actors import Asker, HandlerWorker
from headrace.sim.checkers.liveness import COMEBACK_MS
from headrace.sim.checkup import check_up
from headrace.sim.conditions import Conditions
from headrace.sim.final import Checkup, Recovery
from headrace.sim.history import Happened, History
from headrace.sim.hosting import Embedded, Hosting, OwnProcess
from headrace.sim.observe import LogObserver
from headrace.sim.rot import Rotten, rot
from headrace.sim.seeds import derived
from headrace.testing.sim_loop import SimLoop
from headrace.testing.sim_network import SimNetwork
from headrace.testing.sim_process import SimMachine, SimProcess

SESSION_ID_BYTES = 16
REBORN_S = 0.4
OWN_BUGS = ("leader_failed", "message_not_sent")
LEADERS_END = ("Lost", "Refused", "SyncFailed", "DiskFailed")
"""What a leader may fail with: the disk did."""

Main = Callable[[Any], Coroutine[Any, Any, Any]]
Actor = Asker | HandlerWorker


class World:
    """Made by the driver on its loop; `begin` puts everybody to work."""

    def __init__(self, loop: SimLoop, conditions: Conditions) -> None:
        seed = conditions.seed
        self.loop = loop
        self.began_s = loop.time()
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
        self.checkups: list[Checkup] = []
        self.network = SimNetwork(loop, derived(seed, "network"))
        self.machine = SimMachine(loop, derived(seed, "a"), name="server", network=self.network)
        self.others = self.machine
        """Where clients and workers run."""
        if not conditions.embedded:
            self.others = SimMachine(loop, derived(seed, "b"), name="others", network=self.network)
        self.clock = self.machine.clock
        options = conditions.settings.engine_options()
        self.observer = LogObserver(self.history, self.clock, options)
        self.processes: dict[str, SimProcess] = {}
        """The newest of each name."""
        self.born_ns: dict[str, int] = {}
        """When it began."""
        self.askers = [Asker(self, f"client {no}") for no in range(conditions.clients)]
        self.askers += [
            Asker(self, f"session {no}", bytes([no + 1]) * SESSION_ID_BYTES)
            for no in range(conditions.sessions)
        ]
        self.workers = [HandlerWorker(self, f"worker {no}") for no in range(conditions.workers)]
        self.hosting: Hosting = Embedded(self) if conditions.embedded else OwnProcess(self)
        self.rotten: Rotten | None = None
        """The fault that the next start has to find."""
        self.is_over = False
        """Whatever ends from here on is not started again."""
        self._healed_s = math.inf
        self._retired = False
        self._known: set[bytes] = set()
        self._tasks: list[asyncio.Task[None]] = []
        """asyncio does not hold on to them."""
        self._undoing: list[Callable[[], None]] = []

    @property
    def url(self) -> str:
        return self.hosting.url

    @property
    def engine(self) -> Engine | None:
        """Of the server, while it leads."""
        return self.server.node.engine if self.server is not None else None

    @property
    def is_well(self) -> bool:
        """Nothing has been broken for so long that no fault explains anything any more."""
        return self.loop.time() - self._healed_s > COMEBACK_MS / 1_000

    @property
    def actors(self) -> list[Actor]:
        return [*self.askers, *self.workers]

    def wall_ms(self) -> int:
        """Of those who ask; the server may have another opinion."""
        return self.others.clock.wall_ms()

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
        self.hosting.begin()
        for actor in self.actors:
            self.start(actor.name, actor.main)

    def start(self, name: str, main: Main) -> None:
        self.processes[name] = self.others.start(name, main)
        self.born_ns[name] = self.clock.mono_ns()

    def ask(self, asker: Asker, command: Command) -> None:
        """The command leaves as soon as a process of the asker runs and is connected."""
        if isinstance(command, Enqueue):
            self.asked.append(command)
            self.know(job.job_id for job in command.jobs)
        process = self.processes[asker.name]
        if process.alive:
            process.call(partial(asker.act, command))
        else:
            asker.keep(command)

    # --- the server, whoever runs it

    @property
    def server(self) -> RunningServer | None:
        """While it serves."""
        process = self.hosting.process
        return self.hosting.server if process is not None and process.alive else None

    @property
    def server_process(self) -> SimProcess | None:
        return self.hosting.process

    def process_of(self, pid: int) -> SimProcess | None:
        running = self.machine.running()
        return next((process for process in running if process.pid == pid), None)

    def report(self, event: str, **fields: Any) -> None:
        """What the node says; a bug of its own is no fault of disk or clock."""
        self.note(event, **fields)
        if event in OWN_BUGS and fields.get("kind") not in LEADERS_END:
            self.faults.append(f"node: {event}: {fields}")

    def look_at_recovery(self, server: RunningServer) -> None:
        """What the node has recovered is what the log says, seen by a second engine."""
        engine, observer = server.node.engine, self.observer
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

    def check_up(self) -> None:
        """While nobody serves: the tools of operators find what was damaged, and only that."""
        disk = self.machine.disk
        if self.observer.last_index and not disk.dead:
            self.counts["checkups"] += 1
            self.checkups.append(check_up(disk, self.clock.mono_ns(), self.rotten))

    # --- what breaks

    @property
    def worker_names(self) -> list[str]:
        return [worker.name for worker in self.workers]

    @property
    def asker_names(self) -> list[str]:
        return [asker.name for asker in self.askers]

    def kill(self, process: SimProcess | None) -> None:
        """SIGKILL; an asker or a worker is there again after a moment, as a new process."""
        if process is not None and process.alive:
            self.note(f"{process.name} killed")
            process.kill()
            self.loop.call_later(REBORN_S, self._start_missing)

    def close(self, process: SimProcess | None) -> None:
        """An asker or a worker ends in good order, and is there again after a moment."""
        if process is None or not process.alive:
            return
        self.note(f"{process.name} closed")
        actor = next((actor for actor in self.actors if actor.name == process.name), None)
        if actor is not None:
            process.call(actor.leave)
            self._tasks.append(self.loop.create_task(self._reborn_after(process)))

    async def _reborn_after(self, process: SimProcess) -> None:
        await process.wait()
        await asyncio.sleep(REBORN_S)
        self._start_missing()

    def _start_missing(self) -> None:
        for actor in () if self._retired else self.actors:
            if not self.processes[actor.name].alive:
                self.start(actor.name, actor.main)

    def retire(self, actors: Iterable[Actor]) -> None:
        """They are gone for good."""
        self._retired = True
        for actor in actors:
            self.processes[actor.name].kill()

    def end(self) -> None:
        """Whatever ends from here on is not started again."""
        self.is_over = self._retired = True

    def power_cut(self, machine: SimMachine, dice: random.Random) -> None:
        """With everybody who runs there."""
        self.note("power cut", machine=machine.name)
        machine.power_cut(dice)
        self.loop.call_later(REBORN_S, self._start_missing)

    def rot(self, path: str, offset: int, bits: int) -> None:
        """These bits are wrong on the medium, until the next start has ended well or not."""
        self.rotten = rot(self.machine.disk, path, offset, bits)

    def unrot(self) -> None:
        """What has rotted is as it was, unless it is gone or was written anew."""
        rotten, self.rotten = self.rotten, None
        if rotten is not None and rotten.is_there(self.machine.disk):
            self.machine.disk.poke(rotten.path, rotten.right)

    def pause(self, process: SimProcess | None, duration_ms: int) -> None:
        if process is not None:
            self.note(f"{process.name} paused", for_ms=duration_ms)
            process.pause()
            self.until(duration_ms, process.go_on)

    # --- faults that end by themselves

    def until(self, duration_ms: int, undo: Callable[[], None]) -> None:
        """`undo` is called once: after this time, or when the faults of this life are over."""
        self._undoing.append(undo)
        self.loop.call_later(duration_ms / 1_000, self._undo, undo)

    def heal(self) -> None:
        """Nothing breaks any more."""
        self._healed_s = self.loop.time()
        for undo in list(self._undoing):
            self._undo(undo)
        self.machine.disk.faults.clear()
        self.network.heal()

    def _undo(self, undo: Callable[[], None]) -> None:
        if undo in self._undoing:
            self._undoing.remove(undo)
            undo()
