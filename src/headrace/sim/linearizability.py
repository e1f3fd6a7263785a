"""Is there an order of these operations that explains every answer? Wing, Gong and Lowe.

Theory. A history is linearizable when each operation can be given one moment between its call
and its return such that, in this order, every answer is right (Herlihy and Wing, 1990). The
search takes, of all operations that are under way, one that may come next, and goes on with
what is left; when nothing may come next it goes back (Wing and Gong, 1993). What makes it fast
enough is remembering every pair of (operations placed, state) once it has been tried (Lowe,
"Testing for linearizability", 2017).

An operation without a return may have happened at any time since its call, or never: it is
placed only when it changes something, and nobody misses it in the end. Two rules keep the
search short without losing an order: a read that rules nothing out is placed at once, and of
two operations that do the same the earlier goes first.

Jobs do not depend on each other, so each is searched alone, which keeps histories short. A
search that would take too long says so: undecided is not linearizable.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Generic, TypeVar

import msgspec

CONFIGURATIONS_MAX = 20_000
FOR_EVER = 1 << 62
"""`returned_ns` of an operation of which nobody knows whether it happened."""

S = TypeVar("S", bound=Hashable)


class Operation(Generic[S]):
    """One call and what it does; `step` gives the state after it, or None where its answer
    would be wrong. Operations with the same label do the same."""

    __slots__ = ("called_ns", "is_read", "label", "returned_ns", "source", "step")

    def __init__(
        self,
        label: str,
        called_ns: int,
        returned_ns: int,
        step: Callable[[S], S | None],
        source: object = None,
        *,
        is_read: bool = False,
    ) -> None:
        """`is_read`: it never takes a state to another one, it only tells some apart."""
        self.label = label
        self.is_read = is_read
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
        self.twin_before = _twins(operations)
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

    def following(self, number: int, state: S, placed: int) -> S | None:
        """The state after this operation; None when it must not be placed here."""
        twin = self.twin_before[number]
        if twin >= 0 and not placed >> twin & 1:
            return None
        operation = self.operations[number]
        after = operation.step(state)
        # Nobody misses an operation without a return that changes nothing.
        return None if operation.returned_ns >= FOR_EVER and after == state else after

    def _unlink(self, place: int) -> None:
        before, after = self.before[place], self.after[place]
        self.after[before], self.before[after] = after, before

    def _link(self, place: int) -> None:
        self.after[self.before[place]] = place
        self.before[self.after[place]] = place

    def candidates(self) -> Iterator[int]:
        """What may come next: called before anything that is left has returned."""
        place = self.after[self.head]
        while place != self.head and not self.events[place][1]:
            yield self.events[place][2]
            place = self.after[place]


def _twins(operations: Sequence[Operation[S]]) -> list[int]:
    """For each operation, one that does the same, was not called later and not answered later;
    -1: none. Whatever order has the later one first is right as well with the two exchanged,
    so the earlier one goes first."""
    found = [-1] * len(operations)
    alike: dict[str, list[int]] = {}
    by_call = sorted(range(len(operations)), key=lambda n: operations[n].called_ns)
    for number in by_call:
        before = alike.setdefault(operations[number].label, [])
        returned_ns = operations[number].returned_ns
        found[number] = next(
            (one for one in reversed(before) if operations[one].returned_ns <= returned_ns), -1
        )
        before.append(number)
    return found


def _neutral(search: _Search[S], state: S) -> int | None:
    """A read that may come next and is right as things are: later it could only rule
    something out, so that no other choice need be tried here."""
    for number in search.candidates():
        operation = search.operations[number]
        if operation.is_read and operation.step(state) == state:
            return number
    return None


def linearize(
    operations: Sequence[Operation[S]],
    initial: S,
    configurations_max: int = CONFIGURATIONS_MAX,
) -> Linearization:
    """Whether some order explains all answers, from `initial` on."""
    search = _Search(operations)
    state, placed = initial, 0
    tried: set[tuple[int, S]] = set()
    path: list[tuple[int, S, int, bool]] = []
    """(operation placed, state and set before it, whether nothing else was to be tried)."""
    fewest_left, stuck = search.left + 1, -1
    place, is_new = search.after[search.head], True
    while search.left:
        neutral = _neutral(search, state) if is_new else None
        if neutral is not None:
            path.append((neutral, state, placed, True))
            placed |= 1 << neutral
            search.take(neutral)
            place = search.after[search.head]
            continue
        is_new = False
        _, is_return, number = search.events[place]
        if not is_return:
            following = search.following(number, state, placed)
            key = (placed | 1 << number, following)
            if following is None or key in tried:
                place = search.after[place]
                continue
            if len(tried) >= configurations_max:
                return Linearization(None, configurations=len(tried))
            tried.add((key[0], following))
            path.append((number, state, placed, False))
            placed, state = key[0], following
            search.take(number)
            place, is_new = search.after[search.head], True
            continue
        if search.left < fewest_left:
            fewest_left, stuck = search.left, number
        while path and path[-1][3]:
            search.give_back(path.pop()[0])
        if not path:
            found = operations[stuck]
            return Linearization(False, found.source, found.label, len(tried))
        number, state, placed, _ = path.pop()
        search.give_back(number)
        place = search.after[search.call_at[number]]
    return Linearization(True, configurations=len(tried))
