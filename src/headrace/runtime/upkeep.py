"""What the node does by itself, and when: maintenance, leases, recalls, a look at the disk.

There is no clock tick. Each timer stands only while something is due that it waits for,
so an idle node sleeps and writes nothing. Work comes in bounded steps with the loop
between.
"""

from __future__ import annotations

from collections.abc import Callable

from headrace.log.base import Fenced, Lost
from headrace.model.commands import Maintain
from headrace.model.limits import (
    DISK_CHECK_MS,
    LOG_IDLE_MS,
    LOG_STALL_MS,
    MAINTAIN_WAIT_MS_MAX,
    RECALL_AFTER_MS,
)
from headrace.runtime.budget import Budget
from headrace.runtime.committer import Committer
from headrace.runtime.leases import LeaseWatch
from headrace.runtime.recall import Recall
from headrace.runtime.sessions import Sessions
from headrace.runtime.term import Term
from headrace.runtime.timer import Timer
from headrace.runtime.turns import Turns

NS_PER_S = 1_000_000_000
NS_PER_MS = 1_000_000
_BARREN_WAIT_MS = 1_000
"""When a step of maintenance finds nothing although it was due, the next comes this late."""


class Upkeep:
    """All timers of a leader but those of single waiters."""

    def __init__(
        self,
        term: Term,
        turns: Turns,
        committer: Committer,
        leases: LeaseWatch,
        sessions: Sessions,
        budget: Budget,
        failed: Callable[[BaseException], None],
    ) -> None:
        loop = term.loop
        self._engine = term.engine
        self._turns = turns
        self._committer = committer
        self._log = term.log
        self._leases = leases
        self._sessions = sessions
        self._budget = budget
        self._clock = term.clock
        self._loop = loop
        self._report = term.report
        self._failed = failed
        self._recall = Recall(term.engine, leases, sessions)
        self._barren_index = -1
        self._quiet_since_ns = 0
        self._burst = False
        self._stopped = False
        self._maintain = Timer(loop, self._maintain_now, failed)
        self._deadlines = Timer(loop, self._look_at_deadlines, failed)
        self._recalls = Timer(loop, self._look_for_recalls, failed)
        self._disk = Timer(loop, self._look_at_disk, failed)
        self._leisure = Timer(loop, self._look_for_leisure, failed)

    def plan(self) -> None:
        """Each timer stands where the state says; called at the end of every turn."""
        if self._stopped:
            return
        due_ms = self._engine.next_due_ms()
        if due_ms is not None:
            self._plan_maintenance(due_ms)
        deadline_ns = self._leases.next_ns()
        if deadline_ns is not None:
            self._deadlines.within((deadline_ns - self._leases.now_ns()) / NS_PER_S)

    def stop(self) -> None:
        """Nothing is planned any more."""
        self._stopped = True
        for timer in (self._maintain, self._deadlines, self._recalls, self._disk, self._leisure):
            timer.cancel()

    # --- the engine's own work

    def _plan_maintenance(self, due_ms: int) -> None:
        delay_ms = due_ms - self._turns.now_ms
        if delay_ms <= 0 and self._barren_index == self._engine.last_index:
            delay_ms = _BARREN_WAIT_MS
        self._maintain.within(min(delay_ms, MAINTAIN_WAIT_MS_MAX) / 1000)

    def _maintain_now(self) -> None:
        self._turns.open()
        due_ms = self._engine.next_due_ms()
        if due_ms is not None and due_ms <= self._turns.now_ms:
            before = self._engine.last_index
            self._turns.run_own(Maintain())
            self._barren_index = before if self._engine.last_index == before else -1

    # --- leases

    def _look_at_deadlines(self) -> None:
        late_s = self._loop.time() - self._deadlines.at_s
        if late_s > LOG_STALL_MS / 1000:
            self._report("loop_paused", paused_ms=int(late_s * 1000))
            self._leases.resume_after(int(late_s * NS_PER_S))
        if self._committer.stalled():
            self._deadlines.within(LOG_STALL_MS / 1000)
            return
        for command in self._leases.step():
            self._turns.run_own(command)
        self.plan()

    # --- recalls

    def watch_balance(self) -> None:
        """A session was given jobs, or came: some jobs may be better off elsewhere."""
        if not (self._recalls.is_set or self._stopped) and self._sessions.connected_count() > 1:
            self._recalls.within(RECALL_AFTER_MS / 1000)

    def _look_for_recalls(self) -> None:
        if self._recall.look():
            self._recalls.within(RECALL_AFTER_MS / 1000)

    # --- the log

    def note_durable(self, flight_ns: int, room_bytes: int) -> None:
        """A commit is durable that was `flight_ns` on its way."""
        self._burst = True
        self._quiet_since_ns = self._clock.mono_ns()
        if flight_ns > LOG_STALL_MS * NS_PER_MS:
            self._report("log_stalled", stalled_ms=flight_ns // NS_PER_MS)
            self._leases.pause(flight_ns)
        self._note_room(room_bytes)

    def note_refused(self) -> None:
        self._note_room(0)

    def note_idle(self) -> None:
        """Nothing waits for the disk."""
        if self._burst and not self._stopped:
            self._leisure.within(LOG_IDLE_MS / 1000)

    def _note_room(self, room_bytes: int) -> None:
        if (room_bytes <= 0) != (self._budget.room_bytes <= 0):
            self._report("disk_full" if room_bytes <= 0 else "disk_has_room", room_bytes=room_bytes)
        self._budget.room_bytes = room_bytes
        if room_bytes <= 0 and not self._stopped:
            self._disk.within(DISK_CHECK_MS / 1000)

    def _look_at_disk(self) -> None:
        self._committer.call(self._log.room, self._room_seen)

    def _room_seen(self, room_bytes: int | None, error: BaseException | None) -> None:
        self._note_room(0 if room_bytes is None else room_bytes)

    def _look_for_leisure(self) -> None:
        if not self._committer.idle:
            return
        quiet_ms = (self._clock.mono_ns() - self._quiet_since_ns) / NS_PER_MS
        if quiet_ms < LOG_IDLE_MS:
            self._leisure.within((LOG_IDLE_MS - quiet_ms) / 1000)
        else:
            self._burst = False
            self._committer.call(self._log.idle, self._leisure_used)

    def _leisure_used(self, result: None, error: BaseException | None) -> None:
        if isinstance(error, Lost | Fenced):
            self._failed(error)
        elif error is not None:
            self._report("log_idle_failed", error=str(error))
