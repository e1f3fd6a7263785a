"""When leases end by themselves: lost workers, timeouts, single leases.

Theory. Leases and timeouts are measured on the monotonic clock, less the time in which
this node could not have heard of anybody: while an append stalls, and while the loop was
paused (seen by a timer that fires late). So a stopped process, a slow disk or a long
garbage collection never costs a worker its jobs. They restart with their full length
after recovery.

A session's heartbeat is one write to `SessionFacts.seen_ns`; its deadline is looked at
once a lease and moved on. Started frames are kept as they came and looked at
STARTED_LOG_AFTER_MS later: only jobs that still run then are marked in the log, and only
those can reach a timeout.

Must never decide by itself: it says which commands are due (`Expire`, `MarkStarted`,
`CloseSession`), in steps of at most STEP_JOBS_MAX leases, and the engine checks every
pair again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial

from headrace.engine.engine import Engine
from headrace.model.commands import CloseSession, Command, EndedLease, Expire, MarkStarted
from headrace.model.env import Clock
from headrace.model.ids import ID_BYTES
from headrace.model.limits import (
    DEADLINE_RECHECK_MS,
    RECOVERY_GRACE_MS,
    STARTED_LOG_AFTER_MS,
    STEP_JOBS_MAX,
    TIMEOUT_GRACE_MS,
)
from headrace.runtime.sessions import SessionFacts, Sessions
from headrace.runtime.wheel import Wheel

NS_PER_MS = 1_000_000
_RECHECK_NS = DEADLINE_RECHECK_MS * NS_PER_MS

Lease = tuple[bytes, int]
Look = Callable[[int], None]
"""What to do at a deadline, given the time on the clock of leases."""


class LeaseWatch:
    """All deadlines of one leader."""

    def __init__(self, engine: Engine, clock: Clock, sessions: Sessions) -> None:
        self._engine = engine
        self._clock = clock
        self._sessions = sessions
        self._paused_ns = 0
        self._wheel: Wheel[Look] = Wheel()
        self._fresh: dict[int, list[Lease]] = {}
        """Started frames not looked at yet."""
        self._fresh_no = 0
        self._extended: dict[bytes, tuple[int, int]] = {}
        """Job → (token, deadline) of leases without a session whose end was moved."""
        self._expiring: deque[bytes] = deque()
        self._found = _Found()

    # --- the clock of leases

    def now_ns(self) -> int:
        return self._clock.mono_ns() - self._paused_ns

    def pause(self, paused_ns: int) -> None:
        """Nothing could be heard for that long: every deadline is that much later."""
        self._paused_ns += paused_ns

    def resume_after(self, paused_ns: int) -> None:
        """The loop stood still; heartbeats that came meanwhile have not been read yet.

        The timer shows only how long it stood still after it was due, so every session
        has its full lease again rather than that time.
        """
        self.pause(paused_ns)
        self._sessions.renew_all(self.now_ns())

    def next_ns(self) -> int | None:
        """When the next step is due, on the clock of leases; None when nothing is watched."""
        return 0 if self._expiring else self._wheel.next_ns()

    # --- what is watched

    def watch_all(self) -> None:
        """Everything in the engine has its full time before it, and RECOVERY_GRACE_MS at
        least. Once, after recovery."""
        now_ns = self.now_ns()
        for session_id in self._engine.session_ids():
            facts = self.watch_session(session_id)
            facts.seen_ns += max(0, RECOVERY_GRACE_MS * NS_PER_MS - facts.lease_ns)
            for held in self._engine.leases_of(session_id):
                lease = self._engine.lease_of(held.job_id)
                if lease is not None and lease.timeout_ms and lease.started:
                    self._watch_timeout(lease.job_id, lease.token, lease.timeout_ms, now_ns)
        if self._engine.state.leased_alone:
            self._watch_singles()

    def _watch_singles(self) -> None:
        for lease in self._engine.all_leases():
            if not lease.session_id:
                lease_ms = max(lease.lease_ms, RECOVERY_GRACE_MS)
                self.watch_claimed([lease.job_id], lease.token, lease.timeout_ms, lease_ms)

    def watch_session(self, session_id: bytes) -> SessionFacts:
        """The session has a full lease from now on."""
        now_ns = self.now_ns()
        known = self._sessions.get(session_id) is not None
        facts = self._sessions.open(session_id, self._engine.session_lease_ms(session_id), now_ns)
        if not known:
            self._wheel.add(now_ns + facts.lease_ns, partial(self._look_at_session, facts))
        return facts

    def watch_claimed(
        self, job_ids: list[bytes], token: int, timeout_ms: int, lease_ms: int
    ) -> None:
        """A client without a session has these from now on, and may be running them.

        One entry for all, 16 bytes a job: it stays for the whole lease, whatever becomes
        of the jobs, and a fast client has claimed a million others by then.
        """
        now_ns = self.now_ns()
        deadline_ns = now_ns + lease_ms * NS_PER_MS
        look = partial(self._look_at_claimed, b"".join(job_ids), token, deadline_ns)
        self._look_later(deadline_ns, now_ns, look)
        if timeout_ms:
            for job_id in job_ids:
                self._watch_timeout(job_id, token, timeout_ms, now_ns)

    def extend(self, job_id: bytes, token: int, lease_ms: int) -> None:
        """The single lease ends `lease_ms` from now; nothing for any other lease."""
        lease = self._engine.lease_of(job_id)
        if lease is None or lease.token != token or lease.session_id:
            return
        now_ns = self.now_ns()
        deadline_ns = now_ns + lease_ms * NS_PER_MS
        known = self._extended.get(job_id)
        self._extended[job_id] = (token, deadline_ns)
        if known is None or known[0] != token or deadline_ns < known[1]:
            self._look_later(deadline_ns, now_ns, partial(self._look_at_extended, job_id, token))

    def note_started(self, leases: list[Lease]) -> None:
        """Their holders run these from now on."""
        if not leases:
            return
        now_ns = self.now_ns()
        self._fresh_no += 1
        self._fresh[self._fresh_no] = leases
        self._wheel.add(
            now_ns + STARTED_LOG_AFTER_MS * NS_PER_MS,
            partial(self._look_at_started, self._fresh_no, now_ns),
        )

    def reserved_of(self, session_id: bytes) -> list[Lease]:
        """Leases of the session that have not started, as far as we have heard."""
        leases = self.ended_leases(session_id)
        return [(lease.job_id, lease.token) for lease in leases if not lease.started]

    def fresh_of(self, session_id: bytes) -> list[Lease]:
        """Leases of the session that have started, which the log does not know yet."""
        fresh = {lease for frame in self._fresh.values() for lease in frame}
        if not fresh:
            return []
        held = self._engine.leases_of(session_id)
        leases = [(lease.job_id, lease.token) for lease in held if not lease.started]
        return [lease for lease in leases if lease in fresh]

    def ended_leases(self, session_id: bytes) -> list[EndedLease]:
        """All that the session holds, with what is known of their start."""
        leases = self._engine.leases_of(session_id)
        fresh = {lease for frame in self._fresh.values() for lease in frame}
        for lease in leases:
            if not lease.started:
                lease.started = (lease.job_id, lease.token) in fresh
        return leases

    # --- deadlines

    def step(self) -> list[Command]:
        """What is due now, at most STEP_JOBS_MAX leases of it."""
        found = self._found = _Found()
        now_ns = self.now_ns()
        while found.left > 0 and (look := self._wheel.pop_due(now_ns)) is not None:
            found.left -= 1
            look(now_ns)
        if found.left > 0 and self._expiring:
            found.closing = self._expire_session(self._expiring[0], found.left)
        return found.commands()

    def _look_later(self, deadline_ns: int, now_ns: int, look: Look) -> None:
        self._wheel.add(min(deadline_ns, now_ns + _RECHECK_NS), look)

    def _look_at_session(self, facts: SessionFacts, now_ns: int) -> None:
        session_id = facts.session_id
        if self._sessions.get(session_id) is not facts:
            return
        deadline_ns = facts.seen_ns + facts.lease_ns
        if deadline_ns > now_ns:
            self._wheel.add(deadline_ns, partial(self._look_at_session, facts))
        else:
            facts.expiring = True
            # Else the jobs of one step would be pushed to it again before the next.
            self._engine.set_connected(session_id, False)
            self._expiring.append(session_id)

    def _expire_session(self, session_id: bytes, leases_max: int) -> list[Command]:
        if self._sessions.get(session_id) is None:
            self._expiring.popleft()
            return []
        leases = self.ended_leases(session_id)
        if len(leases) > leases_max:
            return [Expire(leases[:leases_max], "worker_lost")]
        self._expiring.popleft()
        close = CloseSession(session_id, "expired")
        return [Expire(leases, "worker_lost"), close] if leases else [close]

    def _look_at_claimed(self, ids: bytes, token: int, deadline_ns: int, now_ns: int) -> None:
        size_bytes = self._found.left * ID_BYTES
        now, rest = ids[:size_bytes], ids[size_bytes:]
        if rest:
            self._wheel.add(now_ns, partial(self._look_at_claimed, rest, token, deadline_ns))
        self._found.left -= len(now) // ID_BYTES
        each = (now[at : at + ID_BYTES] for at in range(0, len(now), ID_BYTES))
        held = [job_id for job_id in each if self._engine.holds(job_id, token)]
        if deadline_ns <= now_ns:
            self._found.lost += [
                EndedLease(job_id, token, True)
                for job_id in held
                if self._extended.get(job_id, (0, 0))[0] != token
            ]
        elif held:
            look = partial(self._look_at_claimed, b"".join(held), token, deadline_ns)
            self._look_later(deadline_ns, now_ns, look)

    def _look_at_extended(self, job_id: bytes, token: int, now_ns: int) -> None:
        known = self._extended.get(job_id)
        if known is None or known[0] != token:
            return
        if not self._engine.holds(job_id, token):
            del self._extended[job_id]
        elif known[1] > now_ns:
            self._look_later(known[1], now_ns, partial(self._look_at_extended, job_id, token))
        else:
            del self._extended[job_id]
            self._found.lost.append(EndedLease(job_id, token, True))

    def _look_at_started(self, fresh_no: int, since_ns: int, now_ns: int) -> None:
        leases = self._fresh.pop(fresh_no)
        now, rest = leases[: self._found.left], leases[self._found.left :]
        if rest:
            self._fresh[fresh_no] = rest
            self._wheel.add(now_ns, partial(self._look_at_started, fresh_no, since_ns))
        self._found.left -= len(now)
        for job_id, token in now:
            self._look_at_running(job_id, token, since_ns)

    def _look_at_running(self, job_id: bytes, token: int, since_ns: int) -> None:
        lease = self._engine.lease_of(job_id)
        if lease is None or lease.token != token:
            return
        if not lease.started:
            self._found.started.append((job_id, token))
        if lease.timeout_ms:
            self._watch_timeout(job_id, token, lease.timeout_ms, since_ns)

    def _watch_timeout(self, job_id: bytes, token: int, timeout_ms: int, since_ns: int) -> None:
        deadline_ns = since_ns + (timeout_ms + TIMEOUT_GRACE_MS) * NS_PER_MS
        look = partial(self._look_at_timeout, job_id, token, deadline_ns)
        self._look_later(deadline_ns, self.now_ns(), look)

    def _look_at_timeout(self, job_id: bytes, token: int, deadline_ns: int, now_ns: int) -> None:
        if not self._engine.holds(job_id, token):
            return
        if deadline_ns > now_ns:
            look = partial(self._look_at_timeout, job_id, token, deadline_ns)
            self._look_later(deadline_ns, now_ns, look)
        else:
            self._found.timed_out.append(EndedLease(job_id, token, True))


class _Found:
    """What one step has come upon."""

    def __init__(self) -> None:
        self.left = STEP_JOBS_MAX
        self.started: list[Lease] = []
        self.timed_out: list[EndedLease] = []
        self.lost: list[EndedLease] = []
        self.closing: list[Command] = []

    def commands(self) -> list[Command]:
        found: list[Command] = []
        if self.started:
            found.append(MarkStarted(self.started))
        if self.timed_out:
            found.append(Expire(self.timed_out, "timeout"))
        if self.lost:
            found.append(Expire(self.lost, "worker_lost"))
        return found + self.closing
