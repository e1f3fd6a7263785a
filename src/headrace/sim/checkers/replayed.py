"""The log run through a second engine, once, with a stop at every index that a reader saw.

Live state, replayed state, and a snapshot with what follows it must be the same; and since
each answer names the index that it observed, whatever a reader was told must be what replay
shows at just that index.
"""

from __future__ import annotations

from collections import defaultdict

from headrace.engine.engine import Engine
from headrace.model.commands import GetJob, WaitJob
from headrace.model.errors import HeadraceError, UnknownJob
from headrace.model.replies import JobReply, JobView
from headrace.sim.checkers.asked import index_of
from headrace.sim.final import Final
from headrace.sim.history import Call, Recorded


class Seen:
    """What one reader was told of a job, and what replay shows at that index."""

    __slots__ = ("call", "replayed", "told")

    def __init__(self, call: Call, told: JobView | None, replayed: JobView | None) -> None:
        self.call = call
        self.told = told
        self.replayed = replayed


class Replayed:
    """Needs a log that begins with its first record."""

    def __init__(self, records: list[Recorded], calls: list[Call], final: Final) -> None:
        self.engine = Engine(final.options)
        self.fault = ""
        """What replay refused, and where."""
        self.digests: dict[int, str] = {}
        """At the index of each snapshot."""
        self.seen: list[Seen] = []
        reads = _reads_by_index(calls)
        stops = {facts.index for facts in final.snapshots}
        try:
            for event in records:
                self.engine.apply(event.index, event.record)
                if event.index in stops:
                    self.digests[event.index] = self.engine.digest()
                for call in reads.get(event.index, ()):
                    self.seen.append(Seen(call, _told(call), self._view(call)))
            self.engine.check_state()
        except HeadraceError as error:
            self.fault = f"at index {self.engine.last_index}: {error}"
        except (KeyError, IndexError) as error:
            self.fault = f"at index {self.engine.last_index}: {error!r}"

    def _view(self, call: Call) -> JobView | None:
        command = call.command
        assert isinstance(command, GetJob | WaitJob)
        with_payload = command.with_payload if isinstance(command, GetJob) else True
        try:
            return self.engine.job_view(command.job_id, with_payload)
        except HeadraceError:
            return None


def _told(call: Call) -> JobView | None:
    return call.reply.job if isinstance(call.reply, JobReply) else None


def _reads_by_index(calls: list[Call]) -> dict[int, list[Call]]:
    """Answered reads; a refusal is one when it says that the job is unknown."""
    found: defaultdict[int, list[Call]] = defaultdict(list)
    for call in calls:
        if isinstance(call.command, GetJob | WaitJob) and (
            call.reply is not None or isinstance(call.error, UnknownJob)
        ):
            found[index_of(call)].append(call)
    return found
