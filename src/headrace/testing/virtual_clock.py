"""Time that a test moves by hand: the wall clock of an application in memory."""

from __future__ import annotations

from datetime import UTC, datetime

from headrace.client.durations import Duration, duration_ms
from headrace.model.env import Clock, Env, EnvParts

_EPOCH = datetime(2030, 1, 1, tzinfo=UTC)


class VirtualClock:
    """Stands still until it is told to go on; never goes back."""

    def __init__(self, now: datetime = _EPOCH) -> None:
        self.now_ms = round(now.timestamp() * 1_000)
        """Unix ms."""

    @property
    def now(self) -> datetime:
        return datetime.fromtimestamp(self.now_ms / 1_000, UTC)

    def advance(self, duration: Duration) -> None:
        self.now_ms += duration_ms(duration, "duration")

    def advance_to_ms(self, at_ms: int) -> None:
        """Nothing, when it is later already."""
        self.now_ms = max(self.now_ms, at_ms)


class _WallClock:
    """The virtual wall; monotonic time goes on, since loops and timeouts are real."""

    def __init__(self, virtual: VirtualClock, real: Clock) -> None:
        self._virtual = virtual
        self.mono_ns = real.mono_ns
        self.boot_ns = real.boot_ns

    def wall_ms(self) -> int:
        return self._virtual.now_ms


def env_at(virtual: VirtualClock, real: Env) -> Env:
    """`real` with the wall clock of `virtual`."""
    clock = _WallClock(virtual, real.clock)
    return EnvParts(
        real.disk, clock, real.entropy, real.host, real.threads, real.network, real.processes
    )
