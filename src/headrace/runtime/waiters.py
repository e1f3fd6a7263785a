"""Who waits: parked claims, and waits for the end of a job.

No polling: a parked claim is tried again at the end of a turn in which jobs became ready
for it, so that enqueue and claim share one commit; a wait is answered in the turn in
which its job ended. The answers then wait for the disk like all others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from headrace.model.commands import Claim
from headrace.model.limits import WAIT_MS_MAX
from headrace.runtime.peer import Peer

K = TypeVar("K")
C = TypeVar("C")
H = TypeVar("H")
W = TypeVar("W")


class Waiter(Generic[K, C]):
    """One request that is answered later, at the latest when its time is over."""

    __slots__ = ("key", "peer", "request_id", "command", "timer")

    def __init__(self, key: K, peer: Peer, request_id: int, command: C) -> None:
        self.key = key
        self.peer = peer
        self.request_id = request_id
        self.command = command
        self.timer: asyncio.TimerHandle | None = None

    def stop_timer(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


class Waiting(Generic[K, C]):
    """Waiters by what they wait for, first come first served."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, overdue: Callable[[Waiter[K, C]], None]
    ) -> None:
        self._loop = loop
        self._overdue = overdue
        self._by_key: dict[K, dict[Waiter[K, C], None]] = {}
        self._by_peer: dict[Peer, dict[Waiter[K, C], None]] = {}
        self.count = 0

    def park(self, key: K, peer: Peer, request_id: int, command: C, wait_ms: int) -> None:
        """It is taken out by `remove`, or given to `overdue` after `wait_ms`."""
        waiter = Waiter(key, peer, request_id, command)
        self._by_key.setdefault(key, {})[waiter] = None
        self._by_peer.setdefault(peer, {})[waiter] = None
        self.count += 1
        wait_s = min(wait_ms, WAIT_MS_MAX) / 1000
        waiter.timer = self._loop.call_later(wait_s, self._end_wait, waiter)

    def waited_for(self) -> list[K]:
        """The keys of all waiters, each once."""
        return list(self._by_key)

    def first(self, key: K) -> Waiter[K, C] | None:
        waiters = self._by_key.get(key)
        return next(iter(waiters)) if waiters else None

    def take(self, key: K) -> list[Waiter[K, C]]:
        """All who wait for `key`; they wait no more."""
        waiters = list(self._by_key.get(key, ()))
        for waiter in waiters:
            self.remove(waiter)
        return waiters

    def remove(self, waiter: Waiter[K, C]) -> None:
        waiter.stop_timer()
        discard(self._by_key, waiter.key, waiter)
        discard(self._by_peer, waiter.peer, waiter)
        self.count -= 1

    def drop_peer(self, peer: Peer) -> None:
        """Nobody at `peer` waits any more."""
        for waiter in list(self._by_peer.get(peer, ())):
            self.remove(waiter)

    def take_all(self) -> Iterator[Waiter[K, C]]:
        for key in self.waited_for():
            yield from self.take(key)

    def _end_wait(self, waiter: Waiter[K, C]) -> None:
        self.remove(waiter)
        self._overdue(waiter)


def discard(index: dict[H, dict[W, None]], key: H, waiter: W) -> None:
    """`waiter` is not under `key` any more, and a key without waiters is gone."""
    waiters = index[key]
    del waiters[waiter]
    if not waiters:
        del index[key]


ClaimKey = tuple[tuple[str, ...], tuple[str, ...]]
"""(queues, kinds): claims that want the same are asked for once a turn."""


def claim_key(command: Claim) -> ClaimKey:
    return (tuple(command.queues), tuple(command.kinds))
