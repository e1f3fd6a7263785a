"""Is there an order of these operations that explains every answer? Wing, Gong and Lowe.

Theory. A history is linearizable when each operation can be given one moment between its call
and its return such that, in this order, every answer is right (Herlihy and Wing, 1990). The
search takes, of all operations that are under way, one that may come next, and goes on with
what is left; when nothing may come next it goes back (Wing and Gong, 1993). What makes it fast
enough is remembering every pair of (operations placed, state) once it has been tried (Lowe,
"Testing for linearizability", 2017).

An operation without a return may have happened at any time since its call, or never: it is
placed only when it changes something, and nobody misses it in the end.

Jobs do not depend on each other, so each is searched alone, which keeps histories short. A
search that would take too long says so: undecided is not linearizable.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Generic, TypeVar

import msgspec

CONFIGURATIONS_MAX = 20_000
FOR_EVER = 1 << 62
"""`returned_ns` of an operation of which nobody knows whether it happened."""

S = TypeVar("S", bound=Hashable)


class Operation(Generic[S]):
    """One call and what it does; `step` gives the state after it, or None where its answer
    would be wrong."""

    __slots__ = ("called_ns", "label", "returned_ns", "source", "step")

    def __init__(
        self,
        label: str,
        called_ns: int,
        returned_ns: int,
        step: Callable[[S], S | None],
        source: object = None,
    ) -> None:
        self.label = label
        self.called_ns = called_ns
        self.returned_ns = returned_ns
        self.step = step
        self.source = source

    def __repr__(self) -> str:
        return self.label


class Linearization(msgspec.Struct, frozen=True):
    """What the search found."""

    verdict: bool | None
    """None: undecided, the bound was reached."""
    stuck: object = None
    """Of a history that has no order: the `source` of the first answer that no order reaches."""
    stuck_label: str = ""
    configurations: int = 0


class _Search(Generic[S]):
    """Events of all operations in a doubly linked list, so that placing one costs O(1)."""

    def __init__(self, operations: Sequence[Operation[S]]) -> None:
        self.operations = operations
        events: list[tuple[int, int, int]] = []
        self.left = 0
        for number, operation in enumerate(operations):
            # A call comes before a return of the same moment: the two are concurrent.
            events.append((operation.called_ns, 0, number))
            if operation.returned_ns < FOR_EVER:
                events.append((operation.returned_ns, 1, number))
                self.left += 1
        events.sort()
        self.events = events
        self.head = len(events)
        self.after = [*range(1, len(events) + 1), 0]
        self.before = [len(events), *range(len(events))]
        self.call_at = [0] * len(operations)
        self.return_at = [-1] * len(operations)
        for place, (_, is_return, number) in enumerate(events):
            (self.return_at if is_return else self.call_at)[number] = place

    def take(self, number: int) -> None:
        self._unlink(self.call_at[number])
        if self.return_at[number] >= 0:
            self._unlink(self.return_at[number])
            self.left -= 1

    def give_back(self, number: int) -> None:
        """In the opposite order of `take`."""
        if self.return_at[number] >= 0:
            self._link(self.return_at[number])
            self.left += 1
        self._link(self.call_at[number])

    def _unlink(self, place: int) -> None:
        before, after = self.before[place], self.after[place]
        self.after[before], self.before[after] = after, before

    def _link(self, place: int) -> None:
        self.after[self.before[place]] = place
        self.before[self.after[place]] = place


def linearize(
    operations: Sequence[Operation[S]],
    initial: S,
    configurations_max: int = CONFIGURATIONS_MAX,
) -> Linearization:
    """Whether some order explains all answers, from `initial` on."""
    search = _Search(operations)
    state, placed = initial, 0
    tried: set[tuple[int, S]] = set()
    path: list[tuple[int, S, int]] = []
    fewest_left, stuck = search.left + 1, -1
    place = search.after[search.head]
    while search.left:
        _, is_return, number = search.events[place]
        if not is_return:
            operation = operations[number]
            following = operation.step(state)
            idle = following == state and operation.returned_ns >= FOR_EVER
            if following is not None and not idle:
                key = (placed | 1 << number, following)
                if key not in tried:
                    if len(tried) >= configurations_max:
                        return Linearization(None, configurations=len(tried))
                    tried.add(key)
                    path.append((number, state, placed))
                    placed, state = key
                    search.take(number)
                    place = search.after[search.head]
                    continue
            place = search.after[place]
            continue
        if search.left < fewest_left:
            fewest_left, stuck = search.left, number
        if not path:
            found = operations[stuck]
            return Linearization(False, found.source, found.label, len(tried))
        number, state, placed = path.pop()
        search.give_back(number)
        place = search.after[search.call_at[number]]
    return Linearization(True, configurations=len(tried))
