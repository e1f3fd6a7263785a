"""`headrace worker --reload`: the worker in a child process, begun again when code changes.

A module that is imported anew inside a process leaves the old one behind in a hundred
places; a new process does not. Files are looked at by their times, twice a second: no
notification of any system sees every way in which editors write files.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

from headrace.cli.exits import OK, say

LOOK_S = 0.5
_NOT_CODE = ("__pycache__", "node_modules", "data", "build", "dist")


def run_reloading() -> int:
    """The exit code of the child that was running when somebody stopped this process."""
    stopped = threading.Event()
    arguments = [argument for argument in sys.argv[1:] if argument != "--reload"]
    command = [sys.executable, "-m", "headrace.cli.main", *arguments]
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    while True:
        seen = _times(os.getcwd())
        child = subprocess.Popen(command, start_new_session=True)
        changed = _wait_for_change(seen, stopped)
        _end(child)
        if not changed:
            return OK if child.returncode < 0 else child.returncode
        say(f"{changed} has changed; the worker starts again.")


def _wait_for_change(seen: dict[str, float], stopped: threading.Event) -> str:
    """The file that changed; `` when this process was told to stop."""
    while not stopped.wait(LOOK_S):
        now = _times(os.getcwd())
        for path in now.keys() | seen.keys():
            if now.get(path) != seen.get(path):
                return os.path.relpath(path)
    return ""


def _end(child: subprocess.Popen[bytes]) -> None:
    """It has drained, or been killed when it did not within its own deadline twice over."""
    child.terminate()
    try:
        child.wait(timeout=60)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def _times(directory: str) -> dict[str, float]:
    """Every Python file below → when it was changed."""
    found = {}
    for folder, folders, names in os.walk(directory):
        folders[:] = [name for name in folders if name[0] != "." and name not in _NOT_CODE]
        for name in names:
            if name.endswith(".py"):
                path = os.path.join(folder, name)
                try:
                    found[path] = os.stat(path).st_mtime
                except OSError:  # gone between listing and looking
                    continue
    return found
