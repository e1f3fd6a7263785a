"""Pushes: frames that the server sends unasked (request id 0)."""

from __future__ import annotations

import msgspec

from headrace.model.replies import JobView, PushedGroup


class Push(msgspec.Struct, array_like=True, gc=False):
    """Base of all pushes."""


class JobsPushed(Push):
    """Jobs claimed for this session; each is held under its group's token."""

    groups: list[PushedGroup]


class CancelPushed(Push):
    """Stop these: drop what has not started, cancel what has, and confirm by nack or release."""

    leases: list[tuple[bytes, int]]


class RecallPushed(Push):
    """Give back those of these that have not started; another worker is idle."""

    leases: list[tuple[bytes, int]]


class FinishedPushed(Push):
    """Jobs that this connection watches are final; with their result, without payload."""

    jobs: list[JobView]


class DrainPushed(Push):
    """The server is going to stop: finish what runs, expect a reconnect."""

    deadline_ms: int


class PingPushed(Push):
    """Answer with PONG; a peer that stays silent is disconnected."""

    now_ms: int
