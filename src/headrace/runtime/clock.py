"""Log time: the one clock that commands see.

Theory. Log time runs on the clock that counts suspended time (`Clock.boot_ns`) and is
slewed towards the wall clock, never set. So it never goes back and never stands still:
between two readings it advances by 90 to 110 % of the time that passed.

The wall clock can be wrong for a while (a dead battery, an operator's slip). A jump
that boot time does not confirm is followed up to WALL_SLEW_MS_MAX from where the wall
clock stood when the node started, and reported; the rest is ignored until the next start.

Must never be read twice for one turn, and never be used for leases or timeouts: those
are measured on the monotonic clock (`leases.py`).
"""

from __future__ import annotations

from headrace.model.env import Clock
from headrace.model.errors import ClockPast
from headrace.model.limits import (
    CLOCK_BACKWARD_MS_MAX,
    CLOCK_SLEW_PERCENT,
    WALL_SLEW_MS_MAX,
)
from headrace.runtime.reports import Report, ignore_report

NS_PER_MS = 1_000_000
_DEAD_BAND_NS = 2 * NS_PER_MS
"""The wall clock is read in ms: smaller differences are its grain, not drift."""


class LogClock:
    """Log time from `floor_ms`, the newest time in the log, on.

    Raises: `ClockPast` when the wall clock is over a day behind the log: starting then
    would hold every schedule back by that much.
    """

    def __init__(self, clock: Clock, floor_ms: int, report: Report = ignore_report) -> None:
        wall_ms = clock.wall_ms()
        _check_not_past(wall_ms, floor_ms)
        self._clock = clock
        self._report = report
        self._boot_ns = clock.boot_ns()
        self._wall_offset_ns = wall_ms * NS_PER_MS - self._boot_ns
        self._offset_ns = max(wall_ms, floor_ms) * NS_PER_MS - self._boot_ns
        self._jumped = False

    def now_ms(self) -> int:
        """Log time now: at least what the last call returned."""
        boot_ns = self._clock.boot_ns()
        elapsed_ns = boot_ns - self._boot_ns
        if elapsed_ns > 0:
            self._boot_ns = boot_ns
            self._slew(elapsed_ns)
        return (self._boot_ns + self._offset_ns) // NS_PER_MS

    def ahead_of_wall_ms(self) -> int:
        """How far log time is before the wall clock; negative when behind."""
        return self.now_ms() - self._clock.wall_ms()

    def _slew(self, elapsed_ns: int) -> None:
        drift_ns = self._target_offset_ns() - self._offset_ns
        if abs(drift_ns) >= _DEAD_BAND_NS:
            step_ns = elapsed_ns * CLOCK_SLEW_PERCENT // 100
            self._offset_ns += max(-step_ns, min(step_ns, drift_ns))

    def _target_offset_ns(self) -> int:
        offset_ns = self._clock.wall_ms() * NS_PER_MS - self._boot_ns
        jump_ns = offset_ns - self._wall_offset_ns
        followed_ns = max(-_JUMP_NS_MAX, min(_JUMP_NS_MAX, jump_ns))
        self._note_jump(jump_ns, followed_ns)
        return self._wall_offset_ns + followed_ns

    def _note_jump(self, jump_ns: int, followed_ns: int) -> None:
        jumped = jump_ns != followed_ns
        if jumped and not self._jumped:
            self._report(
                "wall_clock_jumped",
                jump_ms=jump_ns // NS_PER_MS,
                followed_ms=followed_ns // NS_PER_MS,
            )
        self._jumped = jumped


_JUMP_NS_MAX = WALL_SLEW_MS_MAX * NS_PER_MS


def _check_not_past(wall_ms: int, floor_ms: int) -> None:
    behind_ms = floor_ms - wall_ms
    if behind_ms > CLOCK_BACKWARD_MS_MAX:
        raise ClockPast(
            f"The wall clock is {behind_ms // 1000} s behind the newest time in the log.",
            hint="Set the clock of this machine, then start again.",
            wall_ms=wall_ms,
            log_ms=floor_ms,
        )
