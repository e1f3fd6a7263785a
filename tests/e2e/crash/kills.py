"""Stories of processes that die at random moments, or whose machine does.

Each runs real processes under load, kills some of them again and again, lets the rest come to
an end, and judges: what members journal, what the server says and what the log says must be
one story. The moments are drawn from a seed; the interleaving is the machine's.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

from headrace.log.file.layout import Layout
from headrace.log.file.lock import read_holder
from headrace.model.replies import JobView
from headrace.runtime.env import real_env
from tests.e2e.crash.cluster import Members, Server
from tests.e2e.crash.draining import drained, pause, wait_until
from tests.e2e.crash.journal import History
from tests.e2e.crash.judging import judge
from tests.e2e.crash.member import Part
from tests.e2e.crash.power import Machine

INTERRUPTED = 130
SUCCESSION_S = 20
JOBS_MIN = 100
KEEP_ALL = {"HEADRACE_QUEUE__SUCCEEDED_COUNT": "1000000", "HEADRACE_LOGGING__FORMAT": "text"}
SMALL_FILES = {
    "HEADRACE_LOG__SEGMENT_BYTES": "1MiB",
    "HEADRACE_LOG__SNAPSHOT_WAL_BYTES": "1MiB",
}
Tally = Counter[str]
"""What was done, and what it was done to."""


class ServerStory:
    """Producers and workers of one server; each cycle kills the server, a worker, or both, or
    asks the server to stop. With `machine`, the power goes off when the server is killed."""

    def __init__(
        self,
        directory: Path,
        seed: int,
        *,
        small_files: bool = False,
        machine: Machine | None = None,
    ) -> None:
        self.tally = Tally()
        self._draw = random.Random(seed)
        self._machine = machine
        self._small_files = small_files
        self._journal = directory / "journal"
        self._data = (machine.root if machine else directory) / "data"
        environ = {**KEEP_ALL, **(SMALL_FILES if small_files else {})}
        environ |= machine.environ if machine else {}
        self._server = Server(self._data, directory, **environ)
        part = Part(
            target="", journal=str(self._journal), seed=seed, padding_bytes=6_000 * small_files
        )
        self._members = Members(part, directory)
        self._workers = ["worker 0", "worker 1"]

    def run(self, cycles: int) -> Tally:
        """What was done. Raises: `AssertionError` for every promise that was broken."""
        self._server.begin()
        try:
            self._begin()
            for _ in range(cycles):
                self._cycle()
            views = self._end()
        finally:
            self._members.kill_all()
            self._server.child.kill()
        if self._machine is not None:
            assert self._machine.unseen() == []
            self.tally["cuts that lost writes"] += self._machine.lossy_cut_count
        self.tally += judge(self._journal, self._data, views, reads_log=not self._small_files)
        return self.tally

    def _begin(self) -> None:
        self._server.adopt(self._server.child.wait_ready())
        self._members.aim_at(self._server.url)
        self._members.begin("producer", produces=True)
        for name in self._workers:
            self._members.begin(name, works=True)
        for child in self._members.children.values():
            child.wait_ready()

    def _cycle(self) -> None:
        draw = self._draw
        pause(draw.uniform(0.02, 0.5))
        victims = draw.choice(["server", "server", "worker", "worker", "both", "politely"])
        self.tally["cycles"] += 1
        if victims == "politely":
            assert self._stopped() in (0, INTERRUPTED), self._server.child.last_words()
            self.tally["servers stopped"] += 1
        elif victims != "worker":
            self._kill_server("servers killed")
        if victims in ("worker", "both"):
            name = draw.choice(self._workers)
            self._members.kill(name)
            self._members.begin(name, works=True)
            self.tally["workers killed"] += 1
        if victims != "worker":
            self._restart()

    def _kill_server(self, counted_as: str) -> None:
        self._server.child.kill()
        self.tally[counted_as] += 1
        if self._machine is not None:
            self._machine.cut(self._draw)
            self.tally["power cuts"] += 1

    def _restart(self) -> None:
        """Some starts are killed as well, wherever they are by then."""
        if self._draw.random() < 0.25:
            self._server.begin()
            pause(self._draw.uniform(0.0, 0.5))
            self._kill_server("starts killed")
        self._server.start()

    def _stopped(self) -> int:
        """Its exit code: it was asked, and once more if it waits for workers that are dead."""
        self._server.child.send(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._server.child.exit_code(1)
        return self._server.child.terminate()

    def _end(self) -> list[JobView]:
        """All jobs there are, after everything ran and everybody ended in good order."""
        for name in self._workers:
            self._members.children[name].wait_ready()
        wait_for_load(self._journal)
        self._members.terminate("producer")
        views = asyncio.run(drained(self._server.url, self._journal))
        for name in self._workers:
            self._members.terminate(name)
        assert self._server.child.terminate() == 0, self._server.child.last_words()
        assert bool(list(self._data.glob("snapshots/*.snap"))) == self._small_files
        return views


class EmbeddedStory:
    """Processes that share a directory; each cycle kills its owner, or another of them, or
    asks it to end."""

    def __init__(self, directory: Path, seed: int) -> None:
        self.tally = Tally()
        self.successions_s: list[float] = []
        self._draw = random.Random(seed)
        self._journal, self._data = directory / "journal", directory / "data"
        part = Part(target=str(self._data), journal=str(self._journal), seed=seed, producers=3)
        self._members = Members(part, directory)
        self._names = ["member 0", "member 1", "member 2"]

    def run(self, cycles: int) -> Tally:
        """What was done. Raises: `AssertionError` for every promise that was broken."""
        children = self._members.children
        try:
            for name in self._names:
                self._members.begin(name, works=True, produces=True)
            for name in self._names:
                children[name].wait_ready()
            for _ in range(cycles):
                self._cycle()
            for name in self._names:
                children[name].wait_ready()
            wait_for_load(self._journal)
            views = asyncio.run(self._end())
        finally:
            self._members.kill_all()
        self.tally += judge(self._journal, self._data, views)
        return self.tally

    def _cycle(self) -> None:
        draw, members = self._draw, self._members
        pause(draw.uniform(0.1, 0.6))
        owner = owner_of(self._data, members)
        name = owner if owner and draw.random() < 0.67 else draw.choice(list(members.children))
        self.tally["cycles"] += 1
        if draw.random() < 0.2:
            members.children[name].wait_ready()
            members.terminate(name)
            self.tally["members stopped"] += 1
        else:
            members.kill(name)
            self.tally["owners killed" if name == owner else "members killed"] += 1
        if name == owner:
            self._wait_for_owner()
        members.begin(name, works=True, produces=True)

    def _wait_for_owner(self) -> None:
        begun_s = time.monotonic()
        while not owner_of(self._data, self._members):
            assert time.monotonic() < begun_s + SUCCESSION_S, "nobody took over"
            pause(0.005)
        self.successions_s.append(time.monotonic() - begun_s)
        self.tally["successions"] += 1

    async def _end(self) -> list[JobView]:
        """Everybody but one ends in good order; that one runs what is left."""
        self._members.begin("last", works=True).wait_ready()
        self._members.terminate_together(self._names)
        views = await drained(str(self._data), self._journal)
        self._members.terminate("last")
        return views


def wait_for_load(journal: Path) -> None:
    """However slow the machine is, the story is about more than a few jobs."""
    wait_until(lambda: len(History(journal).ids("taken")) > JOBS_MIN)


def owner_of(data: Path, members: Members) -> str:
    """The member that owns the directory; `` while nobody does."""
    pid = read_holder(real_env().disk, Layout(str(data))).pid
    return next((name for name, child in members.children.items() if child.pid == pid), "")
