"""Stories of `headrace backup` and `restore` that die at a chosen call, and the power with them.

What a command said it had done is there after the cut; what it had not finished is never
taken for whole; and its source is as it was.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

from headrace import App
from tests.e2e.crash.cluster import CLI, Server, run_cli
from tests.e2e.crash.kills import SMALL_FILES
from tests.e2e.crash.power import Machine
from tests.e2e.crash.syscalls import PAYLOAD_BYTES, Point, wrapper

JOBS = 60
"""Of `PAYLOAD_BYTES`: a segment that is sealed, one that is not, and a snapshot."""
DEEPEST = {"fdatasync": 8, "fsync": 8, "pwrite64": 8, "rename": 3}
COMMAND_S = 60


def copies_meet_points(directory: Path, seed: int) -> Counter[str]:
    """A backup and a restore of it; one of four is left alone until it has ended."""
    draw = random.Random(seed)
    story = _Story(directory, draw)
    data, backup, restored = (story.machine.root / name for name in ("data", "backup", "restored"))
    story.fill(data)
    story.copy(["backup", str(data), str(backup)], data, backup)
    story.copy(["restore", str(backup), str(restored), "--yes"], backup, restored)
    story.tally["power cuts"] += story.machine.cut_count
    story.tally["cuts that lost writes"] += story.machine.lossy_cut_count
    return story.tally


class _Story:
    def __init__(self, directory: Path, draw: random.Random) -> None:
        self.machine = Machine(directory / "disk")
        self.tally: Counter[str] = Counter()
        self._directory = directory
        self._draw = draw

    def fill(self, data: Path) -> None:
        """A directory with jobs, whose server has ended in good order."""
        server = Server(data, self._directory, **SMALL_FILES, **self.machine.environ)
        server.start()
        try:
            asyncio.run(_enqueue(server.url))
            assert server.child.terminate() == 0
        finally:
            server.child.kill()
        self.tally["jobs"] += JOBS

    def copy(self, command: list[str], source: Path, target: Path) -> None:
        """The target has what the source has, at the latest after the command was repeated."""
        digest = _digest(source)
        syscall = self._draw.choice([*DEEPEST, ""])
        point = None
        if syscall:
            when = self._draw.randint(1, DEEPEST[syscall])
            point = Point(syscall, "signal=SIGKILL", when)
        code = self._run(command, point)
        self.machine.cut(self._draw)
        self.tally["copies"] += 1
        assert _digest(source) == digest, f"the source has changed ({point})"
        found = _digest(target)
        assert found in ("", digest), f"half a copy passes for a whole one ({point})"
        if code == 0:
            assert found == digest, f"a copy that was told of is gone ({point})"
            return
        assert code == -signal.SIGKILL, f"exit code {code} ({point})"
        self.tally["copies killed"] += 1
        if not found:
            self._move_away(target)
            assert self._run(command, None) == 0
            assert _digest(target) == digest

    def _move_away(self, target: Path) -> None:
        """What is left of it, as its user would; in a process that the machine knows of."""
        program = "import os, sys; os.path.exists(sys.argv[1]) and os.rename(*sys.argv[1:])"
        paths = [str(target), f"{target}.dead"]
        self._spawn([sys.executable, "-c", program, *paths])

    def _run(self, command: list[str], point: Point | None) -> int:
        wrapped = wrapper(point, self._directory / "calls") if point else []
        return self._spawn([*wrapped, sys.executable, "-c", CLI, *command])

    def _spawn(self, command: list[str]) -> int:
        environ = {**os.environ, **self.machine.environ, "PYTHONDONTWRITEBYTECODE": "1"}
        with (self._directory / "command.log").open("ab") as log:
            ran = subprocess.run(
                command, stdout=log, stderr=log, env=environ, timeout=COMMAND_S, check=False
            )
        return ran.returncode


def _digest(directory: Path) -> str:
    """Of the state in it; `` when it is no whole directory."""
    verified = run_cli("verify", str(directory), "--deep", "--json")
    if verified.returncode != 0:
        return ""
    deep: dict[str, str] = json.loads(verified.stdout)["deep"]
    return deep["digest"]


async def _enqueue(url: str) -> None:
    async with App(url) as app:
        client = await app.client()
        for _ in range(JOBS):
            await client.enqueue("q", "k", bytes(PAYLOAD_BYTES))
