"""Which answers may be ahead of the disk, by what queues were configured to, and what undoes them.

A server that says `async` is not believed: enqueues and acks are answered early only when the
strictest queue that they touch wants it so.

May hide: an early answer in a queue whose setting was just being changed to `async`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain

from headrace.model.queue import DURABILITY_ASYNC
from headrace.sim.checkers.ledger import Ledger
from headrace.sim.history import NEVER, Call


def says_early(call: Call) -> bool:
    """By the server's own word."""
    return call.reply is not None and call.reply.durability == DURABILITY_ASYNC


def may_be_undone(ledger: Ledger, call: Call, connected_ns: list[int]) -> bool:
    """A node began anew after this early answer, and its log did not reach that far by then.

    An answer may be under way for long: it is of the node of the connection on which it came.
    `connected_ns`: when the connections of the caller began, as far as that is known. Of a
    history without a log nobody knows.
    """
    assert call.reply is not None
    index = call.reply.index
    since_ns = max((at_ns for at_ns in connected_ns if at_ns <= call.returned_ns), default=None)
    if since_ns is None:
        since_ns = call.returned_ns
    begun = (event for event in ledger.epochs if event.at_ns > since_ns)
    return not ledger.records or any(event.index <= index for event in begun)


class AsyncQueues:
    """When each queue may have been `async`."""

    def __init__(self, ledger: Ledger, configured: list[Call]) -> None:
        self._ledger = ledger
        self._configured = [
            call
            for call in configured
            if call.command.settings.durability == DURABILITY_ASYNC  # type: ignore[attr-defined]
        ]

    def all_may_be(self, queues: Iterable[str], call: Call) -> bool:
        return all(self._may_be(queue, call) for queue in queues)

    def any_may_be(self, queues: Iterable[str], call: Call) -> bool:
        return any(self._may_be(queue, call) for queue in queues)

    def _may_be(self, queue: str, call: Call) -> bool:
        """At the index that the call observed, at its time, or by a call of that moment: what
        that one had decided may be lost with the early answer."""
        in_force = chain(self._durabilities(queue, call), self._being_set(queue, call))
        return DURABILITY_ASYNC in in_force

    def _durabilities(self, queue: str, call: Call) -> Iterator[int]:
        assert call.reply is not None
        by_index = by_time = self._ledger.default_queue.durability
        for event in self._ledger.configured.get(queue, ()):
            durability: int = event.record.settings.durability  # type: ignore[attr-defined]
            if event.index <= call.reply.index:
                by_index = durability
            if event.at_ns <= call.called_ns:
                by_time = durability
            elif event.at_ns <= call.returned_ns:
                yield durability
        yield by_index
        yield by_time

    def _being_set(self, queue: str, call: Call) -> Iterator[int]:
        for other in self._configured:
            began = other.called_ns <= call.returned_ns
            went_on = other.returned_ns == NEVER or other.returned_ns >= call.called_ns
            if began and went_on and other.command.queue == queue:  # type: ignore[attr-defined]
                yield DURABILITY_ASYNC
