"""System calls that fail under a real process, one chosen call at a time (strace injects).

A point is one call of a run: the Nth of its name that a thread of the server makes, in starting
too. It fails with an error, or the process dies in it. Whatever fails, what was acknowledged
before is there after the next start.
"""

from __future__ import annotations

import asyncio
import random
import signal
from collections import Counter
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import msgspec

from headrace import App
from headrace.client.client import Client
from headrace.model.errors import HeadraceError
from headrace.model.job import State
from tests.e2e.crash.cluster import Server, run_cli
from tests.e2e.crash.draining import all_jobs
from tests.e2e.crash.kills import SMALL_FILES
from tests.e2e.crash.power import Machine
from tests.e2e.crash.rights import no_injection, require

IO_FAILED = 74
DEADLINE_S = 90
JOBS_MAX = 120
PAYLOAD_BYTES = 24_576
"""Enough for some segments and snapshots in one run."""
ERRORS = ("error=EIO", "error=ENOSPC")
FAULTS = (*ERRORS, "signal=SIGKILL")
DEEPEST = {
    "fdatasync": 360,
    "fsync": 18,
    "pwrite64": 200,
    "pwritev2": 350,
    "rename": 13,
    "openat": 24,
    "ftruncate": 4,
    "fallocate": 4,
    "unlink": 1,
}
"""About how many calls of each name one run makes: depths are drawn up to there."""


class Point(msgspec.Struct, frozen=True):
    """`fdatasync:error=EIO:when=9`"""

    syscall: str
    fault: str
    when: int

    def __str__(self) -> str:
        return f"{self.syscall}:{self.fault}:when={self.when}"

    @property
    def kills(self) -> bool:
        return self.fault.startswith("signal")


def point_of(text: str) -> Point:
    syscall, fault, when = text.split(":")
    return Point(syscall, fault, int(when.removeprefix("when=")))


def point_at(number: int) -> Point:
    """Every name with every fault in turn, each at a depth that is drawn."""
    draw = random.Random(number)
    names = list(DEEPEST)
    syscall, fault = names[number % len(names)], FAULTS[number // len(names) % len(FAULTS)]
    # Starts make many kinds of calls once or twice: half of the points are early.
    deepest = DEEPEST[syscall] if draw.random() < 0.5 else min(DEEPEST[syscall], 4)
    return Point(syscall, fault, draw.randint(1, deepest))


class Story:
    """One server that meets a point, and the next one, which finds what is left.

    With `machine`, what dies takes the power with it.
    """

    def __init__(self, directory: Path, machine: Machine | None = None) -> None:
        self._machine = machine
        # Compiled modules are files too, and their renames are none of our points.
        environ = {
            **SMALL_FILES,
            "PYTHONDONTWRITEBYTECODE": "1",
            # A job that was claimed when the server failed has no worker to wait for.
            "HEADRACE_SERVER__DRAIN_MS": "0s",
            **(machine.environ if machine else {}),
        }
        root = machine.root if machine else directory
        self.server = Server(root / "data", directory, **environ)
        self.taken: set[bytes] = set()
        """Jobs that were acknowledged."""
        self.acked: set[bytes] = set()
        """Of these, those whose success was acknowledged."""
        self.is_met = False
        """The call was made, and failed."""
        self._calls = directory / "calls"

    def survives(self, point: Point, jobs_max: int = JOBS_MAX) -> int | None:
        """The exit code of the server that met it, None when it lived on.

        Raises: `AssertionError` for what does not hold after the next start; `DoesNotRun`.
        """
        self.server.wrapper = wrapper(point, self._calls, *self._paths(point))
        try:
            code = self._meet(point, jobs_max)
            last_words = self.server.child.last_words()
            self.server.child.kill()
            if self._machine is not None:
                self._machine.cut(random.Random(str(point)))
            self.server.wrapper = []
            self.server.start()
            found = asyncio.run(self._states())
            assert self.server.child.terminate() == 0, self.server.child.last_words()
        finally:
            self.server.child.kill()
        self._judge(found, last_words, code, point)
        return code

    def tally(self) -> Counter[str]:
        return Counter(
            {
                "points": 1,
                "points met": int(self.is_met),
                "power cuts": self._machine.cut_count if self._machine else 0,
                "cuts that lost writes": self._machine.lossy_cut_count if self._machine else 0,
                "jobs": len(self.taken),
                "operations": len(self.taken) + 2 * len(self.acked),
            }
        )

    # --- inside

    def _meet(self, point: Point, jobs_max: int) -> int | None:
        child = self.server.begin()
        try:
            self.server.adopt(child.wait_ready())
        except AssertionError:  # it ended before it was ready
            pass
        else:
            asyncio.run(self._load(jobs_max))
        done = len(self.acked) == jobs_max
        code = None if done else child.exit_code()
        calls = self._calls.read_text(errors="replace") if self._calls.exists() else ""
        self.is_met = "(INJECTED)" in calls or (point.kills and code == -signal.SIGKILL)
        return code

    async def _load(self, jobs_max: int) -> None:
        """One job after the other, from enqueue to success, as long as the server lives."""
        async with App(self.server.url) as app, asyncio.timeout(DEADLINE_S):
            client = await app.client()
            while len(self.acked) < jobs_max and self._lives():
                await self._while_it_lives(self._one_job(client))

    async def _one_job(self, client: Client) -> None:
        job = await client.enqueue("q", "k", bytes(PAYLOAD_BYTES))
        self.taken.add(job.job_id)
        [group] = await client.claim(["q"], ["k"])
        [claimed] = group.jobs
        await client.ack(claimed.job_id, group.token)
        self.acked.add(claimed.job_id)

    async def _while_it_lives(self, work: Coroutine[Any, Any, None]) -> None:
        """It was done, or refused; or the server died under it."""
        task = asyncio.ensure_future(work)
        while not task.done() and self._lives():
            await asyncio.wait([task], timeout=0.1)
        if not task.done():
            task.cancel()
        elif isinstance(error := task.exception(), HeadraceError):
            await asyncio.sleep(error.retry_after_ms / 1_000 or 0.05)
        else:
            task.result()

    def _lives(self) -> bool:
        return self.server.child.process.poll() is None

    async def _states(self) -> dict[bytes, State]:
        async with App(self.server.url) as app, asyncio.timeout(DEADLINE_S):
            views = await all_jobs(await app.client())
            return {view.job_id: State(view.state) for view in views}

    def _judge(
        self, found: dict[bytes, State], last_words: str, code: int | None, point: Point
    ) -> None:
        succeeded = {job_id for job_id, state in found.items() if state == State.SUCCEEDED}
        assert self.taken <= found.keys(), "an acknowledged job is lost"
        assert len(found) - len(self.taken) <= 1, "at most the call under way may have happened"
        assert self.acked <= succeeded, "an acknowledged success is lost"
        assert len(succeeded) - len(self.acked) <= 1
        assert "Traceback" not in last_words, last_words
        if point.kills:
            assert code in (None, -signal.SIGKILL)
        else:
            assert code in (None, IO_FAILED), last_words
        verified = run_cli("verify", str(self.server.directory), "--deep")
        assert verified.returncode == 0, verified.stdout + verified.stderr

    def _paths(self, point: Point) -> list[Path]:
        """The interpreter opens hundreds of files of its own: only ours count."""
        if point.syscall != "openat":
            return []
        data = self.server.directory
        names = ["", "LOCK", "meta", "meta/CURRENT", "meta/CURRENT.tmp", "meta/WATERMARK"]
        names += ["meta/WATERMARK.tmp", "wal", "wal/spare.tmp", "wal/probe.tmp", "snapshots"]
        names += ["wal/00000000000000000001-00000001.wal"]
        return [data / name for name in names]


def wrapper(point: Point | str, calls: Path, *paths: Path) -> list[str]:
    """The command before a command whose call shall fail; with `paths`, only if about them.

    Raises: `DoesNotRun` where nobody may trace.
    """
    require(no_injection())
    syscall = str(point).partition(":")[0]
    tracing = ["-e", f"trace={syscall}", "-e", f"inject={point}"]
    tracing += [f"--trace-path={path}" for path in paths]
    return ["strace", "-f", "-qq", "-o", str(calls), *tracing]
