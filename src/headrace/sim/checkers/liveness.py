"""Progress: once nothing is broken any more, every job ends or waits for a reason that is legal.

Judged only when `Final.healed_ms` says that the faults have been over for long enough.
"""

from __future__ import annotations

from headrace.model import commands as c
from headrace.model.limits import DEADLINE_STEP_MS, RECOVERY_GRACE_MS, REPEAT_MS
from headrace.model.replies import SessionView
from headrace.sim.checkers.base import Breaches, Checker, Life
from headrace.sim.checkers.ledger import LEASED, READY, SCHEDULED, JobStory, Step
from headrace.sim.final import UNANSWERED
from headrace.sim.history import NEVER, Call, HandlerBegan, HandlerEnded, Happened, PushedLease

HEALED_MS = 30_000
"""After this nothing that a fault has delayed is excused any more."""
LATE_MS = 2_000
"""Timers, a turn, a commit and a push: a due job is served within this by an idle node."""
DYING_MS = 10_000
"""Those who are ended before the faults are declared over died within this."""
COMEBACK_MS = 15_000
"""Once nothing breaks any more the server is there within this, and works."""
NS_PER_MS = 1_000_000


def is_healed(life: Life) -> bool:
    return life.final.healed_ms >= HEALED_MS


ALL_WELL = frozenset({"node_leads", "server_ready", "snapshot_published"})


def calm_until_ns(life: Life) -> int:
    """Before this nothing was broken; `NEVER` for a history that does not tell of faults."""
    told = [event for event in life.history.events if type(event) is Happened]
    broken = (event.at_ns for event in told if event.what not in ALL_WELL)
    return next(broken, life.final.at_ns) if told else NEVER


class EveryJobMovesOn(Checker):
    """A job waits for its time, for a queue that is paused, or for a worker with room."""

    invariants = ("I11", "I7")
    clauses = (2, 4)
    promise = "After the faults are over every job becomes final or waits for a legal reason."

    def breaches(self, life: Life) -> Breaches:
        if not is_healed(life):
            return
        for story in life.ledger.stories.values():
            why = ""
            if story.state == SCHEDULED:
                why = _overdue(life, story)
            elif story.state == READY:
                why = _unserved(life, story)
            if why:
                yield self.violation(why, story.steps[-1].event, job_id=story.job_id)


def _overdue(life: Life, story: JobStory) -> str:
    """By log time; and by the simulation's, in which a log clock that stands still is late."""
    step = story.steps[-1]
    late_ms = life.final.log_now_ms - story.run_at_ms
    waited_ms = _waited_ms(life, step) - (story.run_at_ms - step.now_ms)
    late_ms = max(late_ms, waited_ms)
    return f"scheduled, and due for {late_ms} ms" if late_ms > LATE_MS else ""


def _waited_ms(life: Life, step: Step) -> int:
    """Since the step, as far as a server was there all the time."""
    since_ms = (life.final.at_ns - step.event.at_ns) // NS_PER_MS
    return min(since_ms, life.final.healed_ms - COMEBACK_MS)


def _unserved(life: Life, story: JobStory) -> str:
    spec = story.spec
    settings = life.ledger.settings.get(spec.queue)
    if settings is not None and settings.paused:
        return ""
    for view in life.final.sessions:
        serves = spec.queue in view.queues and spec.kind in view.kinds
        if serves and view.connected and view.leased < view.credit:
            return f"ready, and {view.name} has room for it"
    return ""


class NoStuckLease(Checker):
    """A lease lives as long as its holder gives signs of life, and its holder knows of it."""

    invariants = ("I11",)
    clauses = (3,)
    promise = "No lease outlives its time and grace; none is held by a worker that lacks it."

    def breaches(self, life: Life) -> Breaches:
        if not is_healed(life):
            return
        sessions = {view.session_id: view for view in life.final.sessions}
        known = _known_leases(life)
        for story in life.ledger.stories.values():
            if story.state == LEASED:
                claim = life.ledger.claims.get(story.token)
                why = _stuck(life, story, sessions.get(story.session_id), known)
                if why:
                    yield self.violation(why, claim, job_id=story.job_id)
        yield from self._same_leases(life)

    def _same_leases(self, life: Life) -> Breaches:
        """What the node holds is what its log says."""
        if life.final.leases is None:
            return
        live = {lease.job_id: lease.token for lease in life.final.leases}
        for story in life.ledger.stories.values():
            token = story.token if story.state == LEASED else None
            if live.pop(story.job_id, None) != token:
                message = f"lease {token} by the log, which the node does not share"
                yield self.violation(message, story.steps[-1].event, job_id=story.job_id)
        for job_id in live:
            yield self.violation("held by the node, and not in the log", job_id=job_id)


def _stuck(
    life: Life, story: JobStory, session: SessionView | None, known: set[tuple[bytes, int]]
) -> str:
    claim = story.at(story.token)
    assert claim is not None
    held_ms = max(life.final.log_now_ms - claim.now_ms, _waited_ms(life, claim))
    if not story.session_id:
        lease_ms = _single_lease_ms(life, story)
        over_ms = held_ms - lease_ms - RECOVERY_GRACE_MS - LATE_MS
        return f"its lease of {lease_ms} ms is {over_ms} ms over" if over_ms > 0 else ""
    if session is None:
        return "leased to a session that is gone"
    opened = life.ledger.sessions.get(story.session_id)
    lease_ms = opened.lease_ms if opened is not None else 0
    if not session.connected and lease_ms + RECOVERY_GRACE_MS < HEALED_MS:
        return "leased to a session that nobody has come back to"
    silent_ms = session.last_seen_ms
    if silent_ms > max(lease_ms, RECOVERY_GRACE_MS) + DEADLINE_STEP_MS + LATE_MS:
        return f"leased to a session that has been silent for {silent_ms} ms"
    lost = (story.job_id, story.token) not in known and held_ms > HEALED_MS
    return f"leased for {held_ms} ms to a session that never got it" if lost else ""


def _single_lease_ms(life: Life, story: JobStory) -> int:
    """As claimed, or as last extended."""
    claim = life.ledger.claims[story.token]
    longest: int = claim.record.lease_ms  # type: ignore[attr-defined]
    if life.asked.of_lease.get((story.job_id, story.token)):
        extends = [
            item.call.command.lease_ms  # type: ignore[attr-defined]
            for item in life.asked.of_lease[story.job_id, story.token]
            if item.verb == "extend"
        ]
        longest += sum(extends)
    return longest


def _known_leases(life: Life) -> set[tuple[bytes, int]]:
    kinds = (PushedLease, HandlerBegan, HandlerEnded)
    return {
        (event.job_id, event.token) for event in life.history.events if isinstance(event, kinds)
    }


class EveryCallEnds(Checker):
    """Nobody is left waiting: calls are answered, refused, or fail as unknown."""

    invariants = ("I11",)
    clauses = (2,)
    promise = "After the faults are over no call stays open beyond the time that it may take."
    needs_log = False

    def breaches(self, life: Life) -> Breaches:
        if not is_healed(life) or life.final.at_ns == NEVER:
            return
        for call in life.history.calls:
            if call.reply is not None or call.error is not None:
                continue
            if call.actor in life.final.gone_actors or _died(life, call):
                continue
            if type(call.command).__name__ in UNANSWERED:
                continue
            open_ms = (life.final.at_ns - call.called_ns) // NS_PER_MS
            if open_ms > _patience_ms(call):
                name = type(call.command).__name__
                yield self.violation(f"{name} of {call.actor} is open for {open_ms} ms", call)


class CalmCallsAreQuick(Checker):
    """As long as nothing is broken, nobody waits for longer than was asked for."""

    invariants = ("I11", "I7")
    clauses = (2,)
    promise = "Before the first fault every call is answered in its time."
    needs_log = False

    def breaches(self, life: Life) -> Breaches:
        calm_ns = calm_until_ns(life)
        for call in life.history.calls:
            wait_ms = call.command.wait_ms if isinstance(call.command, c.Claim | c.WaitJob) else 0
            due_ns = call.called_ns + (wait_ms + LATE_MS) * NS_PER_MS
            name = type(call.command).__name__
            died = call.returned_ns == NEVER and call.actor in life.final.gone_actors
            until_ns = calm_ns - DYING_MS * NS_PER_MS if died else calm_ns
            if due_ns >= until_ns or name in UNANSWERED:
                continue
            if call.returned_ns == NEVER or call.returned_ns > due_ns:
                message = f"{name} of {call.actor} had no answer within {wait_ms + LATE_MS} ms"
                yield self.violation(message, call, at_ns=due_ns)


def _died(life: Life, call: Call) -> bool:
    """The process that called has."""
    return call.called_ns < life.final.born_ns.get(call.actor, 0)


def _patience_ms(call: Call) -> int:
    wait_ms = call.command.wait_ms if isinstance(call.command, c.Claim | c.WaitJob) else 0
    return REPEAT_MS + LATE_MS + wait_ms
