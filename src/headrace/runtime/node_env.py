"""The parts of an `Env` that a node takes: neither files nor sockets."""

from __future__ import annotations

from typing import Protocol

from headrace.model.env import Clock, Entropy, IoThreads


class NodeEnv(Protocol):
    @property
    def clock(self) -> Clock: ...

    @property
    def entropy(self) -> Entropy: ...

    @property
    def threads(self) -> IoThreads: ...
