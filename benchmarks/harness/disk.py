"""The disk's own speed: a preallocated 4 KiB write with fdatasync, nothing else."""

from __future__ import annotations

import os
import time

BLOCK_BYTES = 4_096
BLOCKS = 1_024
IN_MEMORY = ("tmpfs", "ramfs", "devtmpfs")


def refuse_memory(filesystem: str, directory: str) -> None:
    """Raises: `SystemExit` for a directory that keeps nothing."""
    if filesystem in IN_MEMORY:
        raise SystemExit(
            f"{directory} is on {filesystem}, where fdatasync costs nothing. "
            "Name a directory on a disk with --dir."
        )


def measure_sync(directory: str, for_s: float) -> list[float]:
    """Seconds of each `pwrite` with `fdatasync`, one after the other for that long."""
    path = os.path.join(directory, "sync-probe")
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        block = os.urandom(BLOCK_BYTES)
        for number in range(BLOCKS):
            os.pwrite(fd, block, number * BLOCK_BYTES)
        os.fsync(fd)
        return _samples(fd, block, for_s)
    finally:
        os.close(fd)
        os.unlink(path)


def _samples(fd: int, block: bytes, for_s: float) -> list[float]:
    samples = []
    end_s = time.monotonic() + for_s
    number = 0
    while (began_s := time.monotonic()) < end_s:
        os.pwrite(fd, block, number % BLOCKS * BLOCK_BYTES)
        os.fdatasync(fd)
        samples.append(time.monotonic() - began_s)
        number += 1
    return samples
