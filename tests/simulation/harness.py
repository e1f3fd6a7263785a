"""A node on simulated time, peers that check what they are told, and commands to give it."""

from __future__ import annotations

import asyncio
import contextlib
import random
from typing import Any, Protocol

from headrace.codec.messages import UNANSWERED
from headrace.codec.records import decode_records
from headrace.codec.rows import decode_rows
from headrace.engine.engine import Engine
from headrace.log.base import Commit, Epoch, Log
from headrace.log.file.log import FileLog
from headrace.log.memory import MemoryLog, MemoryStore
from headrace.model import commands as c
from headrace.model.errors import HeadraceError
from headrace.model.ids import make_job_id, slot_of_queue
from headrace.model.job import JobSpec
from headrace.model.options import EngineOptions
from headrace.model.pushes import JobsPushed, Push
from headrace.model.queue import DURABILITY_ASYNC, QueueSettings
from headrace.model.records import Record
from headrace.model.replies import PushedJob, Reply
from headrace.runtime.node import Node, NodeOptions
from headrace.testing.sim_disk import Fault, SimCrash
from headrace.testing.sim_loop import SimNodeEnv, SimThread

CREDIT = 10


class ScriptedLog(MemoryLog):
    """A memory log that fails as told: `errors` are raised, one an append, None is success."""

    def __init__(self, env: Any, store: MemoryStore | None = None) -> None:
        super().__init__(env, store)
        self.errors: list[Exception | None] = []
        self.room_bytes = 1 << 40
        self.idle_count = 0
        self.idle_error: Exception | None = None

    def append(self, epoch: Epoch, commit: Commit) -> int:
        error = self.errors.pop(0) if self.errors else None
        if error is not None:
            raise error
        return super().append(epoch, commit)

    def room(self) -> int:
        return self.room_bytes

    def idle(self) -> None:
        self.idle_count += 1
        if self.idle_error is not None:
            raise self.idle_error


class Store(Protocol):
    """What a log has promised."""

    last_index: int


class CheckingPeer:
    """Remembers what it is told, and that nothing came before it was durable."""

    def __init__(self, store: Store) -> None:
        self.answers: dict[int, Reply | HeadraceError] = {}
        self.pushes: list[Push] = []
        self.flush_count = 0
        self._store = store
        self._waiting: dict[int, asyncio.Future[None]] = {}
        self._pushed: asyncio.Event = asyncio.Event()

    def send_reply(self, request_id: int, reply: Reply) -> None:
        if reply.durability != DURABILITY_ASYNC:
            assert reply.index <= self._store.last_index, "an answer left before it was durable"
        self._note(request_id, reply)

    def send_error(self, request_id: int, error: HeadraceError) -> None:
        assert error.index <= self._store.last_index or error.outcome == "unknown"
        self._note(request_id, error)

    def send_push(self, push: Push) -> None:
        if isinstance(push, JobsPushed):
            for group in push.groups:
                assert group.token <= self._store.last_index, "a job left before its claim"
        self.pushes.append(push)
        self._pushed.set()

    def flush(self) -> None:
        self.flush_count += 1

    def _note(self, request_id: int, answer: Reply | HeadraceError) -> None:
        assert request_id not in self.answers, "answered twice"
        self.answers[request_id] = answer
        waiting = self._waiting.pop(request_id, None)
        if waiting is not None:
            waiting.set_result(None)

    async def answer(self, request_id: int) -> Any:
        """The reply to that request. Raises the refusal, if it is one."""
        if request_id not in self.answers:
            self._waiting[request_id] = asyncio.get_running_loop().create_future()
            await self._waiting[request_id]
        answer = self.answers[request_id]
        if isinstance(answer, HeadraceError):
            raise answer
        return answer

    def jobs(self) -> list[tuple[PushedJob, int]]:
        """Every job that was pushed, with its token."""
        return [
            (job, group.token)
            for push in self.pushes
            if isinstance(push, JobsPushed)
            for group in push.groups
            for job in group.jobs
        ]

    async def job(self, count: int = 1) -> tuple[PushedJob, int]:
        """The `count`-th job that was pushed, once it is."""
        while len(self.jobs()) < count:
            self._pushed.clear()
            await self._pushed.wait()
        return self.jobs()[count - 1]


class World:
    """One node and its log; `crash` and `restart` keep what the log keeps."""

    def __init__(self, env: SimNodeEnv, **options: Any) -> None:
        self.env = env
        self.store = MemoryStore(env)
        self.options = NodeOptions(
            tune_gc=False, engine=options.pop("engine", EngineOptions(verify=True)), **options
        )
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.failures: list[BaseException] = []
        self._request_id = 0
        self._job_no = 0

    def new_log(self) -> Log:
        self.log = ScriptedLog(self.env, self.store)
        return self.log

    def reader(self) -> Log:
        """A log that only reads what this one has written."""
        return MemoryLog(self.env, self.store)

    async def start(self) -> World:
        self.node = Node(
            self.env,
            self.new_log(),
            self.options,
            report=self._report,
            on_failed=self.failures.append,
        )
        await self.node.start()
        self.peer = self.new_peer()
        return self

    def _report(self, event: str, **fields: Any) -> None:
        self.events.append((event, fields))

    def reported(self, event: str) -> list[dict[str, Any]]:
        return [fields for name, fields in self.events if name == event]

    @property
    def engine(self) -> Engine:
        assert self.node._leader is not None
        return self.node._leader.engine

    @property
    def disk(self) -> SimThread:
        """The thread on which commits are made durable."""
        return self.env.threads.by_name["headrace-commit"]

    @property
    def commits(self) -> list[Commit]:
        return self.store.commits

    def records(self) -> list[Record]:
        """Everything that the log keeps, in order."""
        return [
            record
            for commit in self.commits
            for record in decode_records(commit.body, commit.record_count)
        ]

    def new_peer(self) -> CheckingPeer:
        return CheckingPeer(self.store)

    def send(self, command: c.Command, peer: CheckingPeer | None = None) -> int:
        """The request id under which it will be answered."""
        self._request_id += 1
        unanswered = type(command) in UNANSWERED
        self.node.submit(command, peer or self.peer, 0 if unanswered else self._request_id)
        return self._request_id

    async def ask(self, command: c.Command, peer: CheckingPeer | None = None) -> Any:
        """The durable reply. Raises the refusal, if it is one."""
        return await (peer or self.peer).answer(self.send(command, peer))

    async def pause(self, duration_ms: float = 0) -> None:
        """Simulated time passes."""
        await asyncio.sleep(duration_ms / 1000)

    async def settle(self) -> None:
        """Everything under way has come to its end; what is due later has not begun."""
        for _ in range(5):
            await asyncio.sleep(self.disk.latency_s * 2)

    async def crash(self, draw: random.Random | None = None) -> None:
        """The process is gone. The call that its disk was at took effect, or not."""
        call = self.disk.interrupted()
        for thread in self.env.threads.by_name.values():
            thread.hold()
        if call is not None and draw is not None and draw.random() < 0.5:
            call()
        self.store.crash()

    # --- commands

    def job_id(self, queue: str = "q") -> bytes:
        self._job_no += 1
        return make_job_id(1, slot_of_queue(queue), self._job_no.to_bytes(8, "big"))

    def enqueue(
        self, *job_ids: bytes, queue: str = "q", kind: str = "k", **fields: Any
    ) -> c.Enqueue:
        spec = JobSpec(queue, kind, timeout_ms=fields.pop("timeout_ms", 0))
        ids = job_ids or (self.job_id(queue),)
        payload = fields.pop("payload", b"{}")
        return c.Enqueue([spec], [c.NewJob(job_id, 0, payload, **fields) for job_id in ids])

    def open_session(
        self, number: int = 1, *, credit: int = CREDIT, lease_ms: int = 30_000, **fields: Any
    ) -> c.OpenSession:
        return c.OpenSession(
            session_id(number),
            f"worker-{number}",
            "host",
            number,
            "build",
            fields.pop("kinds", ("k",)),
            fields.pop("queues", ("q",)),
            credit,
            lease_ms=lease_ms,
        )

    async def worker(self, number: int = 1, **fields: Any) -> CheckingPeer:
        """A peer whose session is open."""
        peer = self.new_peer()
        await self.ask(self.open_session(number, **fields), peer)
        return peer

    async def configure(self, queue: str = "q", **settings: Any) -> None:
        await self.ask(c.ConfigureQueue(queue, QueueSettings(**settings)))

    async def state_of(self, job_id: bytes) -> Any:
        return (await self.ask(c.GetJob(job_id))).job


class DiskStore:
    """What a file log has promised."""

    last_index = 0


class CountingFileLog(FileLog):
    def __init__(self, env: SimNodeEnv, store: DiskStore) -> None:
        super().__init__(env, "/data", segment_bytes=32 * 1024)
        self._store = store

    def append(self, epoch: Epoch, commit: Commit) -> int:
        self._store.last_index = super().append(epoch, commit)
        return self._store.last_index


class FileWorld(World):
    """A node whose log is files on a disk that tears, loses and refuses."""

    def __init__(self, env: SimNodeEnv, **options: Any) -> None:
        super().__init__(env, **options)
        self.disk_store = DiskStore()

    def new_log(self) -> Log:
        return CountingFileLog(self.env, self.disk_store)

    def reader(self) -> Log:
        log = FileLog(self.env, "/data", segment_bytes=32 * 1024)
        log.open(read_only=True)
        return log

    def new_peer(self) -> CheckingPeer:
        return CheckingPeer(self.disk_store)

    async def crash(self, draw: random.Random | None = None) -> None:
        """The machine is gone, often in the middle of what its disk was at."""
        assert draw is not None
        call, disk = self.disk.interrupted(), self.env.disk
        for thread in self.env.threads.by_name.values():
            thread.hold()
        if call is not None and draw.random() < 0.8:
            disk.faults[disk.calls + draw.randint(1, 4)] = Fault(crash=draw.choice(_MOMENTS))
            with contextlib.suppress(SimCrash, HeadraceError):
                call()
        disk.faults.clear()
        disk.crash(draw)


_MOMENTS = ("before", "after")


def session_id(number: int) -> bytes:
    return number.to_bytes(16, "big")


def replayed(world: World) -> Engine:
    """An engine that has seen nothing but the log."""
    engine = Engine(world.options.engine)
    snapshot, commits = world.reader().recover()
    if snapshot is not None:
        for block in snapshot.blocks():
            engine.load_rows(decode_rows(block))
        engine.finish_load()
    for commit in commits:
        records = decode_records(commit.body, commit.record_count)
        for index, record in enumerate(records, commit.first_index):
            engine.apply(index, record)
    return engine
