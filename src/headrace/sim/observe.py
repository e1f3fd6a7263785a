"""Where a life is watched: at the log, and at the links of clients and workers.

What is watched is the real log and the real link; both pass everything on unchanged.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from functools import partial
from typing import Any, cast

from headrace.client.target import AnyLink, LinkEvents, Target
from headrace.codec.records import decode_records
from headrace.engine.engine import Engine
from headrace.log.base import Commit, Epoch, SnapshotInfo
from headrace.log.file.log import FileLog
from headrace.log.file.snapshot_file import FileSnapshot
from headrace.log.file.snapshot_writer import FileSnapshotWriter
from headrace.model.commands import Command
from headrace.model.env import Clock
from headrace.model.errors import HeadraceError, Internal
from headrace.model.handshake import Welcome
from headrace.model.options import EngineOptions
from headrace.model.pushes import FinishedPushed, JobsPushed, Push
from headrace.sim.history import Call, Connected, History, PushedLease, Recorded, ToldEnd
from headrace.sim.shelf import engine_of


class LogObserver:
    """Every record of the log, once, in order; and a second engine that knows nothing else."""

    def __init__(self, history: History, clock: Clock, options: EngineOptions) -> None:
        self.history = history
        self.replica = Engine(options)
        self.last_index = 0
        self.faults: list[str] = []
        """What a log must never do."""
        self.found = (0, 0, 0)
        """By the newest recovery: index of its snapshot, records behind it, last index."""
        self.snapshots_compared = 0
        self._clock = clock
        self._bodies: dict[int, bytes] = {}
        self._digests: dict[int, str] = {}
        """Of the replica, where a snapshot was taken."""

    def durable(self, commit: Commit) -> None:
        """The commit is on the medium; of one that was seen before, nothing happens."""
        if commit.first_index <= self.last_index:
            self._compare(commit)
            return
        if commit.first_index != self.last_index + 1:
            self.faults.append(
                f"the log goes on at index {commit.first_index} after {self.last_index}"
            )
            return
        if not commit.record_count:
            return
        at_ns = self._clock.mono_ns()
        self._bodies[commit.first_index] = commit.body
        for record in decode_records(commit.body, commit.record_count):
            self.last_index += 1
            self.replica.apply(self.last_index, record)
            if self.last_index in self._digests:
                self._digests[self.last_index] = self.replica.digest()
            self.history.events.append(Recorded(at_ns, self.last_index, commit.now_ms, record))

    def recovered(self, snapshot_index: int, commits: Iterator[Commit]) -> Iterator[Commit]:
        """The commits, each compared with what was durable before."""
        last, count = snapshot_index, 0
        for commit in commits:
            self.durable(commit)
            last = commit.first_index + commit.record_count - 1
            count += commit.record_count
            yield commit
        self.found = (snapshot_index, count, last)
        if last < self.last_index:
            self.faults.append(f"records {last + 1} to {self.last_index} were durable and are gone")

    def snapshot_begun(self, index: int) -> None:
        """What the replica is at that index, now or soon, is kept."""
        self._digests[index] = self.replica.digest() if index == self.last_index else ""

    def snapshot_published(self, index: int, blocks: list[bytes]) -> None:
        """Only what was durable by then, and just that, is in it."""
        self.snapshots_compared += 1
        if engine_of(blocks).digest() != self._digests.get(index):
            self.faults.append(f"the snapshot of index {index} differs from a replay of the log")

    def _compare(self, commit: Commit) -> None:
        if commit.record_count and self._bodies.get(commit.first_index) != commit.body:
            self.faults.append(f"the commit at index {commit.first_index} has changed")


class ObservedLog(FileLog):
    """The file log, watched."""

    observer: LogObserver

    def append(self, epoch: Epoch, commit: Commit) -> int:
        index = super().append(epoch, commit)
        self.observer.durable(commit)
        return index

    def begin_snapshot(self, epoch: Epoch, index: int) -> FileSnapshotWriter:
        writer = super().begin_snapshot(epoch, index)
        self.observer.snapshot_begun(index)
        return cast(FileSnapshotWriter, ObservedWriter(writer, self.observer, index))

    def recover(self) -> tuple[FileSnapshot | None, Iterator[Commit]]:
        snapshot, commits = super().recover()
        index = snapshot.info.index if snapshot else 0
        return snapshot, self.observer.recovered(index, commits)


class ObservedWriter:
    """Keeps what it passes on, until it is published and was compared."""

    def __init__(self, writer: FileSnapshotWriter, observer: LogObserver, index: int) -> None:
        self._writer = writer
        self._observer = observer
        self._index = index
        self._blocks: list[bytes] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._writer, name)

    def write(self, block: bytes) -> bool:
        self._blocks.append(bytes(block))
        return self._writer.write(block)

    def publish(self) -> SnapshotInfo:
        info = self._writer.publish()
        self._observer.snapshot_published(self._index, self._blocks)
        return info


class ObservedTarget:
    """Stands where an application's own target stands."""

    def __init__(self, target: Target, actor: str, history: History, clock: Clock) -> None:
        self._target = target
        self._actor = actor
        self._history = history
        self._clock = clock

    def __getattr__(self, name: str) -> Any:
        return getattr(self._target, name)

    def make_link(self, events: LinkEvents) -> AnyLink:
        def on_push(push: Push) -> None:
            if isinstance(push, JobsPushed):
                self._note_push(push)
            elif isinstance(push, FinishedPushed):
                self._note_ends(push)
            events.on_push(push)

        def on_connected(welcome: Welcome) -> None:
            self._history.events.append(Connected(self._clock.mono_ns(), self._actor))
            events.on_connected(welcome)

        watched = LinkEvents(on_push, on_connected, events.on_lost, events.on_failed)
        link = self._target.make_link(watched)
        return ObservedLink(link, self._actor, self._history, self._clock)

    def _note_ends(self, push: FinishedPushed) -> None:
        at_ns = self._clock.mono_ns()
        self._history.events.extend(
            ToldEnd(at_ns, self._actor, job.job_id, job.state) for job in push.jobs
        )

    def _note_push(self, push: JobsPushed) -> None:
        at_ns = self._clock.mono_ns()
        self._history.events.extend(
            PushedLease(at_ns, self._actor, job.job_id, group.token)
            for group in push.groups
            for job in group.jobs
        )


class ObservedLink:
    """A link whose calls are part of the history."""

    def __init__(self, link: AnyLink, actor: str, history: History, clock: Clock) -> None:
        self._link = link
        self._actor = actor
        self._history = history
        self._clock = clock

    def __getattr__(self, name: str) -> Any:
        return getattr(self._link, name)

    def call(self, command: Command) -> asyncio.Future[Any]:
        call = self._history.call(self._actor, command, self._clock.mono_ns())
        answer = self._link.call(command)
        answer.add_done_callback(partial(self._ended, call))
        return answer

    def send(self, command: Command) -> bool:
        """What nobody answers stays open; what found no connection was never asked."""
        at_ns = self._clock.mono_ns()
        left: bool = self._link.send(command)
        if left:
            self._history.call(self._actor, command, at_ns)
        return left

    def _ended(self, call: Call, answer: asyncio.Future[Any]) -> None:
        if answer.cancelled():
            return
        call.returned_ns = self._clock.mono_ns()
        error = answer.exception()
        if error is None:
            call.reply = answer.result()
        elif isinstance(error, HeadraceError) and not isinstance(error, Internal):
            call.error = error
        else:
            raise error  # a bug, which the loop tells the machine
