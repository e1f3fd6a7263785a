"""Measuring whether, and how fast, this disk makes a write durable."""

from __future__ import annotations

from contextlib import suppress

from headrace.log.base import Probe
from headrace.log.file.directory import NETWORK_FILESYSTEMS
from headrace.log.file.disk_io import opened, remove_if_there, write_fully
from headrace.log.file.layout import Layout
from headrace.model.env import LogEnv

PROBE_SYNCS = 32
PROBE_WRITE_BYTES = 4096
MEMORY_FILESYSTEMS = frozenset(("tmpfs", "ramfs"))


def probe_disk(env: LogEnv, layout: Layout) -> Probe:
    """Preallocated writes of 4 KiB with `fdatasync`, in a file that is gone afterwards."""
    try:
        times_ms = sorted(_measure(env, layout))
        kind = env.disk.filesystem(layout.root)
    except OSError as error:
        return Probe(False, f"cannot write and sync in {layout.wal}: {error.strerror}.", 0.0, 0.0)
    finally:
        with suppress(OSError):
            remove_if_there(env.disk, layout.probe)
    message = ""
    if kind in NETWORK_FILESYSTEMS:
        message = f"{layout.root} is on a network file system ({kind}); use a local disk."
    elif kind in MEMORY_FILESYSTEMS:
        message = f"{layout.root} is in memory ({kind}): it survives a crash, but no reboot."
    return Probe(
        ok=kind not in NETWORK_FILESYSTEMS,
        message=message,
        sync_p50_ms=times_ms[len(times_ms) // 2],
        sync_p99_ms=times_ms[-1],
    )


def _measure(env: LogEnv, layout: Layout) -> list[float]:
    remove_if_there(env.disk, layout.probe)
    times_ms = []
    with opened(env.disk, layout.probe, create=True, write=True) as fd:
        env.disk.preallocate(fd, PROBE_SYNCS * PROBE_WRITE_BYTES)
        env.disk.fdatasync(fd)
        for number in range(PROBE_SYNCS):
            block = env.entropy.random_bytes(PROBE_WRITE_BYTES)
            begun_ns = env.clock.mono_ns()
            write_fully(env.disk, fd, block, number * PROBE_WRITE_BYTES)
            env.disk.fdatasync(fd)
            times_ms.append((env.clock.mono_ns() - begun_ns) / 1e6)
    return times_ms
