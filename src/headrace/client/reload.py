"""`headrace worker --reload`: the worker process is started anew when a source changes.

For development. The watcher imports nothing of the application, so a syntax error ends
only the child; the next change starts it again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence

from headrace.model.env import ChildProcess, Disk, Env
from headrace.model.limits import DRAIN_MS_DEFAULT, RELOAD_POLL_MS, WATCHED_FILES_MAX

_SKIPPED = ("__pycache__", "node_modules", "venv", "site-packages")


async def run_reloading(
    env: Env,
    argv: Sequence[str],
    stopped: asyncio.Event,
    on_reload: Callable[[str], None] = lambda path: None,
) -> None:
    """`argv` runs, and is run again after each change of a `.py` file, until `stopped`.

    `on_reload` is told the path that changed. The child is asked to end, and killed if it
    has not after its drain time.
    """
    root = env.host.working_directory()
    while not stopped.is_set():
        seen = dict(_sources(env.disk, root))
        child = await env.processes.spawn(argv, piped=False)
        changed = await _change(env.disk, root, seen, stopped)
        await _end(child)
        if changed:
            on_reload(changed)


async def _change(disk: Disk, root: str, seen: dict[str, int], stopped: asyncio.Event) -> str:
    """Path of a source that is not as it was; `` when it is time to stop."""
    while True:
        try:
            async with asyncio.timeout(RELOAD_POLL_MS / 1_000):
                await stopped.wait()
                return ""
        except TimeoutError:
            now = dict(_sources(disk, root))
        if now != seen:
            differ = now.items() ^ seen.items()
            return min(path for path, _ in differ)


async def _end(child: ChildProcess) -> None:
    child.terminate()
    try:
        async with asyncio.timeout(DRAIN_MS_DEFAULT / 1_000):
            await child.wait()
    except TimeoutError:
        child.kill()
        await child.wait()


def _sources(disk: Disk, root: str) -> Iterator[tuple[str, int]]:
    """(path, time of change) of each Python file below `root`, hidden folders left out."""
    folders, count = [root], 0
    while folders and count < WATCHED_FILES_MAX:
        folder = folders.pop()
        for name in _names(disk, folder):
            path = f"{folder}/{name}"
            found = disk.stat(path)
            if found is None or name.startswith(".") or name in _SKIPPED:
                continue
            if found.is_dir:
                folders.append(path)
            elif name.endswith(".py"):
                count += 1
                yield path, found.changed_ns


def _names(disk: Disk, folder: str) -> list[str]:
    try:
        return disk.listdir(folder)
    except OSError:
        return []
