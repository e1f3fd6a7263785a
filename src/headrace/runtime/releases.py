"""What waits for the disk: replies and effects, let out in the order of their index.

Must never let anything out before its index is durable; `say` is for what promises
nothing (early replies of async queues) or is durable already.

Replies of an index leave before its effects, so a worker knows that its session is open
before the first job is pushed to it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import msgspec

from headrace.model.effects import Effect
from headrace.model.errors import HeadraceError
from headrace.model.replies import JobView, Reply
from headrace.runtime.peer import Peer


class PushFinished(msgspec.Struct):
    """Tell `peer`, which watches these, that they have ended: an effect of the node's own."""

    peer: Peer
    jobs: list[JobView]


Answer = Reply | HeadraceError
Owed = Effect | PushFinished
Deliver = Callable[[Owed, int], Peer | None]
"""Sends an effect of that index; returns the peer that was told, to be flushed."""


class Releases:
    """Invariant: indices in both queues never fall from left to right."""

    def __init__(self, deliver: Deliver) -> None:
        self._deliver = deliver
        self._answers: deque[tuple[int, Peer, int, Answer]] = deque()
        self._effects: deque[tuple[int, Owed]] = deque()
        self._touched: dict[Peer, None] = {}

    @property
    def waiting(self) -> int:
        """Answers that wait."""
        return len(self._answers)

    def hold(self, index: int, peer: Peer, request_id: int, answer: Answer) -> None:
        """`answer` leaves with the first release at or above `index`."""
        answer.index = index
        self._answers.append((index, peer, request_id, answer))

    def hold_effect(self, index: int, effect: Owed) -> None:
        self._effects.append((index, effect))

    def hold_finished(self, index: int, peer: Peer, jobs: list[JobView]) -> None:
        """`peer`, which watches these jobs, hears that they have ended."""
        self.hold_effect(index, PushFinished(peer, jobs))

    def say(self, peer: Peer, request_id: int, answer: Answer) -> None:
        """`answer` is with the peer; it is written at the next release."""
        self._send(peer, request_id, answer)
        self._touched[peer] = None

    def release(self, durable_index: int) -> None:
        """Everything up to `durable_index` is with its peer, each of which is flushed once."""
        self._release_answers(durable_index)
        self._release_effects(durable_index)
        if self._touched:
            touched, self._touched = self._touched, {}
            for peer in touched:
                peer.flush()

    def fail(self, make_error: Callable[[], HeadraceError]) -> None:
        """Everybody who waits gets an error of their own; effects are forgotten."""
        self._effects.clear()
        while self._answers:
            _, peer, request_id, _ = self._answers.popleft()
            self.say(peer, request_id, make_error())
        self.release(0)

    def _release_answers(self, durable_index: int) -> None:
        answers, touched = self._answers, self._touched
        while answers and answers[0][0] <= durable_index:
            _, peer, request_id, answer = answers.popleft()
            if isinstance(answer, Reply):
                peer.send_reply(request_id, answer)
            else:
                peer.send_error(request_id, answer)
            touched[peer] = None

    def _release_effects(self, durable_index: int) -> None:
        effects = self._effects
        while effects and effects[0][0] <= durable_index:
            index, effect = effects.popleft()
            peer = self._deliver(effect, index)
            if peer is not None:
                self._touched[peer] = None

    @staticmethod
    def _send(peer: Peer, request_id: int, answer: Answer) -> None:
        if isinstance(answer, Reply):
            peer.send_reply(request_id, answer)
        else:
            peer.send_error(request_id, answer)
