"""The log run through a second engine, once, with a stop at every index that a reader saw.

Live state, replayed state, and a snapshot with what follows it must be the same; and since
each answer names the index that it observed, whatever a reader was told must be what replay
answers at just that index.
"""

from __future__ import annotations

from collections import defaultdict

import msgspec

from headrace.engine.engine import Engine
from headrace.model import commands as c
from headrace.model.errors import ClientError, HeadraceError
from headrace.model.replies import QueuePage, QueueReply, Reply
from headrace.sim.checkers.asked import index_of
from headrace.sim.final import Final
from headrace.sim.history import Call, Recorded

READS = (c.GetJob, c.WaitJob, c.ListJobs, c.GetQueue, c.ListQueues)
"""What is answered from the state alone. Sessions, statistics and explanations also show what
only the leader of that moment knows."""

Answer = Reply | str
"""Of a refusal, its code."""


class Seen:
    """What one reader was told, and what replay answers at that index."""

    __slots__ = ("call", "replayed", "told")

    def __init__(self, call: Call, told: Answer, replayed: Answer) -> None:
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
                    self.seen.append(Seen(call, _told(call), self._answer(call.command)))
            self.engine.check_state()
        except HeadraceError as error:
            self.fault = f"at index {self.engine.last_index}: {error}"
        except (KeyError, IndexError) as error:
            self.fault = f"at index {self.engine.last_index}: {error!r}"

    def _answer(self, command: c.Command) -> Answer:
        if isinstance(command, c.WaitJob):
            command = c.GetJob(command.job_id)
        try:
            return _timeless(self.engine.run(command))
        except ClientError as error:
            return error.code


def _told(call: Call) -> Answer:
    if call.reply is not None:
        return _timeless(call.reply)
    assert call.error is not None
    return call.error.code


def _timeless(reply: Reply) -> Reply:
    """Without what depends on the moment and not on the state."""
    if isinstance(reply, QueueReply) and reply.queue is not None:
        queue = msgspec.structs.replace(reply.queue, oldest_ready_ms=0)
        return QueueReply(queue=queue)
    if isinstance(reply, QueuePage):
        queues = [msgspec.structs.replace(view, oldest_ready_ms=0) for view in reply.queues]
        return QueuePage(queues=queues, cursor=reply.cursor)
    plain = Reply()
    return msgspec.structs.replace(reply, index=plain.index, durability=plain.durability)


def _reads_by_index(calls: list[Call]) -> dict[int, list[Call]]:
    """Reads that the server has answered or refused for their own sake."""
    found: defaultdict[int, list[Call]] = defaultdict(list)
    for call in calls:
        if isinstance(call.command, READS) and (
            call.reply is not None or isinstance(call.error, ClientError)
        ):
            found[index_of(call)].append(call)
    return found
