"""A real engine that writes the history of its own life, for checkers to judge.

Each command is a turn, a commit and a call of its own, one microsecond after another; what a
test wants to see caught, it changes in the history afterwards.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

from headrace.model.commands import Command
from headrace.model.effects import PushJobs
from headrace.model.errors import HeadraceError, UnknownJob
from headrace.model.records import Record
from headrace.model.replies import Reply, SessionPage, SessionView
from headrace.sim.checkers import ALL, Judgement, check_all
from headrace.sim.final import Final, SnapshotFacts
from headrace.sim.history import Call, HandlerBegan, HandlerEnded, History, PushedLease, Recorded
from tests.unit.engine.story import PLAIN, Story

NS_PER_MS = 1_000_000
INTERNAL = frozenset({"Maintain", "Expire", "MarkStarted"})
BY_CLIENT = "client 1"


class Telling(Story):
    """A `Story` whose commands are calls of `client 1`, and whose commits are recorded."""

    def __init__(self, options: object = PLAIN) -> None:
        self.history = History()
        self.at_ns = 0
        super().__init__(options)  # type: ignore[arg-type]

    def tick(self) -> int:
        self.at_ns += 1_000
        return self.at_ns

    def run(self, command: Command, seed: int = 7) -> Reply:
        if type(command).__name__ in INTERNAL:
            self.tick()
            return super().run(command, seed)
        call = self.history.call(BY_CLIENT, copy.deepcopy(command), self.tick())
        try:
            reply = super().run(command, seed)
        except HeadraceError as error:
            error.index = self.engine.last_index
            call.error = error.with_traceback(None)
            raise
        else:
            reply.index = self.engine.last_index
            call.reply = copy.deepcopy(reply)
        finally:
            call.returned_ns = self.tick()
        return reply

    def commit(self) -> list[Record]:
        first = len(self.committed) + 1
        records = super().commit()
        at_ns = self.tick()
        self.history.events += [
            Recorded(at_ns, index, self.now_ms, copy.deepcopy(record))
            for index, record in enumerate(records, first)
        ]
        return records

    def dispatch(self) -> list[PushJobs]:
        pushed = super().dispatch()
        at_ns = self.tick()
        for effect in pushed:
            self.history.events += [
                PushedLease(at_ns, "worker 1", job.job_id, group.token)
                for group in effect.groups
                for job in group.jobs
            ]
        return pushed

    def wait(self, duration_ms: int) -> None:
        super().wait(duration_ms)
        self.at_ns += duration_ms * NS_PER_MS

    def begin(self, job_id: bytes, token: int, attempt: int = 1) -> None:
        self.history.events.append(HandlerBegan(self.tick(), "worker 1", job_id, token, attempt))

    def end(self, job_id: bytes, token: int) -> None:
        self.history.events.append(HandlerEnded(self.tick(), "worker 1", job_id, token))

    # --- the end

    def final(self, **changed: object) -> Final:
        """Everything that can be known at the end; nothing has been broken for an hour."""
        from headrace.model.commands import ListSessions

        engine = self.engine
        page = engine.run(ListSessions())
        assert isinstance(page, SessionPage)
        facts: dict[str, object] = {
            "at_ns": self.at_ns,
            "log_now_ms": self.now_ms,
            "healed_ms": 3_600_000,
            "jobs": {job_id: self._view(job_id) for job_id in self.known_ids()},
            "leases": list(engine.all_leases()),
            "sessions": [_alive(view) for view in page.sessions],
            "gauges": engine.gauges(),
            "options": self.options,
            "live_digest": engine.digest(),
            "snapshots": [SnapshotFacts(engine.last_index, engine.digest(), engine.digest())],
        }
        return Final(**(facts | changed))  # type: ignore[arg-type]

    def known_ids(self) -> list[bytes]:
        found = dict.fromkeys(
            job.job_id
            for event in self.history.events
            if isinstance(event, Recorded)
            for job in getattr(event.record, "jobs", ())
        )
        return [job_id for job_id in found if self._is_known(job_id)]

    def _is_known(self, job_id: bytes) -> bool:
        try:
            self._view(job_id)
        except UnknownJob:
            return False
        return True

    def _view(self, job_id: bytes) -> object:
        return copy.deepcopy(self.engine.job_view(job_id))


def _alive(view: SessionView) -> SessionView:
    view.last_seen_ms = 10
    return view


# --- judging


def judged(story: Telling, **changed: object) -> Judgement:
    return check_all(story.history, story.final(**changed))


def broken(story: Telling, **changed: object) -> set[str]:
    """Names of the checkers that complain."""
    return {violation.checker for violation in judged(story, **changed).violations}


def complaints(name: str, story: Telling, **changed: object) -> list[str]:
    """What one checker says."""
    return [str(one) for one in ALL[name]().check(story.history, story.final(**changed))]


def last_call(story: Telling, kind: type[Command]) -> Call:
    return [call for call in story.history.calls if type(call.command) is kind][-1]


def records_of(story: Telling, kind: type[Record]) -> list[Recorded]:
    return [
        event
        for event in story.history.events
        if isinstance(event, Recorded) and type(event.record) is kind
    ]


def rewrite(story: Telling, kind: type[Record], change: Callable[[Record], None]) -> None:
    """The newest record of this kind says something else."""
    change(records_of(story, kind)[-1].record)


def insert(story: Telling, record: Record, at_index: int | None = None) -> None:
    """One record more, at the end or in the middle of the log; what follows moves on."""
    events = story.history.events
    seen = [event for event in events if isinstance(event, Recorded)]
    index = at_index or seen[-1].index + 1
    at_ns = story.tick() if at_index is None else seen[index - 1].at_ns
    place = len(events) if at_index is None else events.index(seen[index - 1])
    for later, event in enumerate(events):
        if isinstance(event, Recorded) and event.index >= index:
            events[later] = Recorded(event.at_ns, event.index + 1, event.now_ms, event.record)
    events.insert(place, Recorded(at_ns, index, story.now_ms, record))


def drop(story: Telling, kind: type[Record]) -> None:
    """The newest record of this kind never was; those behind it move up."""
    gone = records_of(story, kind)[-1]
    events = story.history.events
    events.remove(gone)
    for place, event in enumerate(events):
        if isinstance(event, Recorded) and event.index > gone.index:
            events[place] = Recorded(event.at_ns, event.index - 1, event.now_ms, event.record)
