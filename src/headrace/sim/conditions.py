"""In which world one life takes place: how many take part, with which settings, what may break."""

from __future__ import annotations

import random

import msgspec

from headrace.model.settings import (
    EngineSettings,
    LogSettings,
    QueueDefaults,
    ServerSettings,
    Settings,
)
from headrace.sim.seeds import derived

SERVER = "server"
PORT = 7431
DIRECTORY = "/data"
QUEUES = ("mail", "video", "report")
KINDS = ("send", "cut", "sum")
ORPHAN_KIND = "orphan"
"""Nobody runs it: its jobs wait for ever, and rightly so."""
LEASE_MS = 2_000
FAULT_CLASSES = ("kill", "power", "pause", "network", "disk", "rot", "clock", "worker")
EMBEDDED_PROBABILITY = 0.15
THOROUGH_PROBABILITY = 0.1
_DAY_MS = 86_400_000


class Conditions(msgspec.Struct, frozen=True):
    """Drawn from the root seed; the same seed is the same world."""

    seed: int
    embedded: bool
    """No server of its own: clients and workers share a directory, one of them owns it."""
    clients: int
    sessions: int
    """Workers made of bare commands, which also do what no SDK would."""
    workers: int
    """Workers of the SDK."""
    faults: tuple[str, ...]
    """Classes of faults that may happen."""
    settings: Settings
    outlived: bool
    """Who takes part lives on when the faults are over; otherwise they die then, and one good
    worker takes over."""
    thorough: bool
    """The live state is compared with a replay at every step, not only at some."""


def conditions_of(seed: int) -> Conditions:
    draw = random.Random(derived(seed, "conditions"))
    calm = draw.random() < 0.1
    return Conditions(
        seed=seed,
        embedded=draw.random() < EMBEDDED_PROBABILITY,
        clients=draw.randint(1, 3),
        sessions=draw.randint(0, 2),
        workers=draw.randint(0, 2),
        faults=() if calm else tuple(one for one in FAULT_CLASSES if draw.random() < 0.6),
        settings=_settings(draw),
        outlived=draw.random() < 0.5,
        thorough=draw.random() < THOROUGH_PROBABILITY,
    )


def _settings(draw: random.Random) -> Settings:
    """Small files, short memories: what takes days in production happens in seconds."""
    return Settings(
        server=ServerSettings(listen=(f"127.0.0.1:{PORT}",), unix_socket=draw.random() < 0.3),
        log=LogSettings(
            segment_bytes=draw.choice((8_192, 32_768, 1 << 20)),
            snapshot_wal_bytes=draw.choice((4_000, 20_000, 1 << 30)),
            snapshot_age_ms=draw.choice((2_000, 3_600_000)),
        ),
        engine=EngineSettings(
            jobs_max=draw.choice((60, 1_000_000)),
            payload_memory_bytes=draw.choice((20_000, 1 << 30)),
            finished_bytes=draw.choice((6_000, 1 << 20)),
        ),
        queue=QueueDefaults(
            attempt_max=draw.choice((2, 3, 8)),
            backoff_base_ms=draw.choice((0, 50, 2_000)),
            backoff_cap_ms=4_000,
            crash_max=draw.choice((1, 3)),
            succeeded_age_ms=draw.choice((1_000, _DAY_MS)),
            succeeded_count=draw.choice((3, 10_000)),
            dead_count=draw.choice((2, 10_000)),
        ),
    )
