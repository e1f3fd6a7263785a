"""What the node needs of whoever asks: a place for replies and pushes.

A server connection is one; embedded callers and tests are others.
"""

from __future__ import annotations

from typing import Protocol

from headrace.model.errors import HeadraceError
from headrace.model.pushes import Push
from headrace.model.replies import Reply


class Peer(Protocol):
    """One asker. None of these may block, raise, or call back into the node."""

    def send_reply(self, request_id: int, reply: Reply) -> None:
        """The answer to that request; it is durable as far as it says."""

    def send_error(self, request_id: int, error: HeadraceError) -> None: ...

    def send_push(self, push: Push) -> None: ...

    def flush(self) -> None:
        """The node has said all that it has to say for now: write."""
