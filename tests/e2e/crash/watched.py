"""A link that notes what a worker says of its leases, and what it is answered.

It stands where an application's own target stands; everything else passes through.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

from headrace.client.target import AnyLink, LinkEvents, Target
from headrace.model.commands import Ack, Command, Started
from headrace.model.ids import id_to_text
from tests.e2e.crash.journal import Journal


class WatchedTarget:
    def __init__(self, target: Target, journal: Journal) -> None:
        self._target = target
        self._journal = journal

    def __getattr__(self, name: str) -> Any:
        return getattr(self._target, name)

    def make_link(self, events: LinkEvents) -> AnyLink:
        return _WatchedLink(self._target.make_link(events), self._journal)


class _WatchedLink:
    def __init__(self, link: AnyLink, journal: Journal) -> None:
        self._link = link
        self._journal = journal

    def __getattr__(self, name: str) -> Any:
        return getattr(self._link, name)

    def call(self, command: Command) -> asyncio.Future[Any]:
        answer = self._link.call(command)
        if isinstance(command, Ack):
            answer.add_done_callback(partial(self._acked, command))
        return answer

    def send(self, command: Command) -> bool:
        if isinstance(command, Started):
            for job_id, token in command.leases:
                self._journal.note("announced", id_to_text(job_id), token)
        return self._link.send(command)

    def _acked(self, command: Ack, answer: asyncio.Future[Any]) -> None:
        if answer.cancelled() or answer.exception() is not None:
            return
        refusals = {one.position: one.code for one in answer.result().problems or ()}
        for position, (job_id, token, _) in enumerate(command.results):
            code = refusals.get(position)
            if code is None:
                self._journal.note("acked", id_to_text(job_id), token)
            else:
                self._journal.note("ack_refused", id_to_text(job_id), token, code)
