"""Leases last: none ends by itself before its time, nor a session that was heard.

Times are those at which somebody outside could tell: a claim may have been decided any time
after it was asked, an expiry any time before it was durable. So what is called early here is
early for certain, without a bound on delays, whatever breaks meanwhile; a node that stands
still only makes leases longer.
"""

from __future__ import annotations

from headrace.model import commands as c
from headrace.model import records as r
from headrace.sim.checkers.asked import index_of
from headrace.sim.checkers.base import Breaches, Checker, Life
from headrace.sim.checkers.ledger import Step
from headrace.sim.checkers.liveness import is_healed
from headrace.sim.history import NEVER, Call, Recorded

NS_PER_MS = 1_000_000
WORKER_LOST = "worker_lost"
TIMEOUT = "timeout"
EXPIRED = "expired"


class LeasesLast(Checker):
    """Judged of lives that somebody watches the time of: they end long after their faults."""

    invariants = ("I4",)
    clauses = (3,)
    promise = "A lease lasts for its time, and a session as long as the node hears of it."

    def breaches(self, life: Life) -> Breaches:
        if not is_healed(life):
            return
        yield from self._sessions(life)
        for step in life.ledger.steps:
            if step.verb == "expire":
                why = _too_early(life, step)
                if why:
                    claim = life.ledger.claims.get(step.named)
                    yield self.violation(why, claim, step.event, job_id=step.job.job_id)

    def _sessions(self, life: Life) -> Breaches:
        signs = _signs_of_life(life)
        lease_ms: dict[bytes, int] = {}
        for event in life.ledger.records:
            record = event.record
            if isinstance(record, r.SessionOpened):
                lease_ms[record.session_id] = record.lease_ms
            elif isinstance(record, r.SessionClosed) and record.reason == EXPIRED:
                since_ns = event.at_ns - lease_ms.get(record.session_id, 0) * NS_PER_MS
                for call in signs.get(record.session_id, ()):
                    if call.called_ns > since_ns and index_of(call) < event.index:
                        message = f"a session of {call.actor} expired, and had just been heard"
                        yield self.violation(message, call, event)
                        break


def _signs_of_life(life: Life) -> dict[bytes, list[Call]]:
    """By session, the calls that were answered, and that each begin its lease anew."""
    found: dict[bytes, list[Call]] = {}
    for kind in (c.OpenSession, c.ResumeSession, c.Heartbeat):
        for call in life.asked.calls(kind):
            if call.reply is not None:
                session_id: bytes = call.command.session_id  # type: ignore[attr-defined]
                found.setdefault(session_id, []).append(call)
    return found


def _too_early(life: Life, step: Step) -> str:
    assert isinstance(step.event.record, r.LeasesExpired)
    reason = step.event.record.reason
    if reason == TIMEOUT:
        early_ms = _early_ms(step, _begun_ns(life, step), step.spec.timeout_ms)
        return f"timed out {early_ms} ms early" if early_ms > 0 else ""
    if reason != WORKER_LOST:
        return f"expired for {reason!r}, which is no reason"
    if step.session_id:
        lost = _session_ends(life, step)
        return "" if lost else "its worker counts as lost, and its session goes on"
    early_ms = max(0, min(_early_ms(step, *bound) for bound in _single_bounds(life, step)))
    return f"its lease ended {early_ms} ms early" if early_ms else ""


def _early_ms(step: Step, begun_ns: int, lasts_ms: int) -> int:
    if NEVER in (begun_ns, step.event.at_ns):
        return 0
    return (begun_ns + lasts_ms * NS_PER_MS - step.event.at_ns) // NS_PER_MS


def _begun_ns(life: Life, step: Step) -> int:
    """At the earliest: a session hears of its lease when that is durable, and a client without
    one may hold it since it asked."""
    call = life.asked.granted.get((step.job.job_id, step.named))
    claim = life.ledger.claims.get(step.named)
    if not step.session_id:
        return call.called_ns if call is not None else NEVER
    return claim.at_ns if claim is not None else NEVER


def _single_bounds(life: Life, step: Step) -> list[tuple[int, int]]:
    """From when it lasts for how long: as claimed, and as extended, which may shorten it."""
    claim = life.ledger.claims.get(step.named)
    claimed_ms = claim.record.lease_ms if claim is not None else 0  # type: ignore[attr-defined]
    items = life.asked.of_lease.get((step.job.job_id, step.named), [])
    extends = [item.call for item in items if item.verb == "extend"]
    found = [(call.called_ns, call.command.lease_ms) for call in extends]  # type: ignore[attr-defined]
    return [(_begun_ns(life, step), claimed_ms), *found]


def _session_ends(life: Life, step: Step) -> bool:
    """Before it is given another lease; a node that ends between the two may hear of it again."""
    place = step.index - life.ledger.records[0].index + 1
    for event in life.ledger.records[place:]:
        if _is_of(event, step.session_id):
            return not isinstance(event.record, r.JobsClaimed)
    return False


def _is_of(event: Recorded, session_id: bytes) -> bool:
    record = event.record
    if isinstance(record, r.EpochStarted):
        return True
    return isinstance(record, r.SessionClosed | r.JobsClaimed) and record.session_id == session_id
