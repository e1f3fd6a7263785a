"""Durability: no answer rests on a record that is not in the log, now and after every crash."""

from __future__ import annotations

from itertools import pairwise

from headrace.sim.checkers.asked import UNKNOWN, index_of, outcome_of
from headrace.sim.checkers.base import Breaches, Checker, Life
from headrace.sim.checkers.early import says_early
from headrace.sim.history import NEVER, Call


class LogKeepsWhatItHad(Checker):
    """Records follow one another and stay what they were, whatever crashes in between."""

    invariants = ("I13", "I1")
    clauses = (1,)
    promise = "A durable record stays in the log, at its index, unchanged."
    needs_log = False

    def breaches(self, life: Life) -> Breaches:
        for fault in life.final.log_faults:
            yield self.violation(fault)
        seen = life.ledger.records
        for earlier, later in pairwise(seen):
            if later.index != earlier.index + 1:
                message = f"the log goes on at index {later.index} after {earlier.index}"
                yield self.violation(message, earlier, later)
        kept = life.final.records
        if not kept or kept is seen or not seen:
            return
        for event in kept:
            place = event.index - seen[0].index
            if 0 <= place < len(seen) and seen[place].record != event.record:
                yield self.violation(f"record {event.index} has changed", seen[place], event)
        if kept[-1].index < seen[-1].index:
            message = f"the log ends at {kept[-1].index}; {seen[-1].index} was durable"
            yield self.violation(message, kept[-1], seen[-1])


class AnswersAreDurable(Checker):
    """An answer leaves when the index that it observed is durable, and not before."""

    invariants = ("I13",)
    clauses = (1,)
    promise = "No answer, grant or refusal is ahead of the disk."

    def breaches(self, life: Life) -> Breaches:
        last = life.ledger.records[-1].index
        for call in life.history.calls:
            index = index_of(call)
            if call.number in life.asked.early:
                continue
            if says_early(call):
                yield self.violation("answered early, and its queue is not `async`", call)
            if not index or outcome_of(call)[0] == UNKNOWN:
                continue
            if index > last:
                yield self.violation(f"an answer observed index {index}; the log has {last}", call)
                continue
            durable_ns = life.ledger.seen_ns(index)
            if durable_ns is not None and NEVER != call.returned_ns < durable_ns:
                message = f"answered {durable_ns - call.returned_ns} ns before it was durable"
                yield self.violation(message, call)


class NoAnswerFromThePast(Checker):
    """Whoever asks after somebody was answered sees at least what that answer showed."""

    invariants = ("I13", "I12")
    clauses = (5,)
    promise = "Indexes that answers observe never go back, on any connection, over any restart."
    needs_log = False

    def breaches(self, life: Life) -> Breaches:
        answered = [
            call
            for call in life.history.calls
            if index_of(call) and not says_early(call) and call.returned_ns != NEVER
        ]
        by_return = sorted(answered, key=lambda call: call.returned_ns)
        newest: Call | None = None
        place = 0
        for call in sorted(answered, key=lambda call: call.called_ns):
            while by_return[place].returned_ns < call.called_ns:
                if newest is None or index_of(by_return[place]) > index_of(newest):
                    newest = by_return[place]
                place += 1
            if newest is not None and index_of(call) < index_of(newest):
                message = f"observed index {index_of(call)} after {index_of(newest)} was answered"
                yield self.violation(message, newest, call)
