"""A progress bar over a copy that goes on by itself: it watches how much is there."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from headrace.cli.output import progress

LOOK_S = 0.2


@contextmanager
def watched(target: str, source: str) -> Iterator[None]:
    """While the block fills `target` from `source`, a person sees how far it is."""
    with progress("copying", _size_bytes(source)) as advance:
        done = threading.Event()

        def watch() -> None:
            while not done.wait(LOOK_S):
                advance(_size_bytes(target))

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            done.set()
            watcher.join()


def _size_bytes(directory: str) -> int:
    total = 0
    for folder, _, names in os.walk(directory):
        for name in names:
            try:
                total += os.stat(os.path.join(folder, name)).st_size
            except OSError:  # truncated meanwhile
                continue
    return total
