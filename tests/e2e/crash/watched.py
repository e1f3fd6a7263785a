"""A link that notes what a worker says of its leases, and what it is answered.

It stands where an application's own target stands; everything else passes through.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import msgspec

from headrace.client.target import AnyLink, LinkEvents, Target
from headrace.model.commands import Ack, Command, Started
from headrace.model.ids import id_to_text
from headrace.model.pushes import JobsPushed, Push
from tests.e2e.crash.journal import Journal
from tests.e2e.crash.witness import TOLD


class WatchedTarget:
    def __init__(self, target: Target, journal: Journal) -> None:
        self._target = target
        self._journal = journal

    def __getattr__(self, name: str) -> Any:
        return getattr(self._target, name)

    def make_link(self, events: LinkEvents) -> AnyLink:
        def on_push(push: Push) -> None:
            if isinstance(push, JobsPushed):
                for group in push.groups:
                    for job in group.jobs:
                        self._journal.witness.pushed(job.job_id, group.token)
            events.on_push(push)

        changed = msgspec.structs.replace(events, on_push=on_push)
        return _WatchedLink(self._target.make_link(changed), self._journal)


class _WatchedLink:
    def __init__(self, link: AnyLink, journal: Journal) -> None:
        self._link = link
        self._journal = journal

    def __getattr__(self, name: str) -> Any:
        return getattr(self._link, name)

    def call(self, command: Command) -> asyncio.Future[Any]:
        number = self._told(command)
        answer = self._link.call(command)
        if number:
            answer.add_done_callback(partial(self._returned, number))
        if isinstance(command, Ack):
            answer.add_done_callback(partial(self._acked, command))
        return answer

    def send(self, command: Command) -> bool:
        self._told(command)
        if isinstance(command, Started):
            for job_id, token in command.leases:
                self._journal.note("announced", id_to_text(job_id), token)
        return self._link.send(command)

    def _told(self, command: Command) -> int:
        """The number of the call; 0 for one that decides nothing about jobs."""
        return self._journal.witness.called(command) if isinstance(command, TOLD) else 0

    def _returned(self, number: int, answer: asyncio.Future[Any]) -> None:
        if not answer.cancelled():
            error = answer.exception()
            reply = None if error is not None else answer.result()
            self._journal.witness.returned(number, reply, error)

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
