"""Watches: which peers are told, once, of the end of which jobs.

A job that is final already is told with the reply to the watch, one that ends later in the
turn in which it ends; either way what is told then waits for the disk, like every effect.
A peer that is gone has no watches: on its next connection it says anew what it watches.

Must never look at a job that nobody watches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

from headrace.engine.engine import Engine
from headrace.model.errors import BatchTooLarge, ClientError, LimitReached
from headrace.model.limits import JOBS_PER_CALL_MAX, WATCHES_PER_CONNECTION_MAX
from headrace.model.replies import JobView, Problem, Settled
from headrace.runtime.waiters import discard

P = TypeVar("P")


class Watches(Generic[P]):
    """Invariant: both tables hold the same pairs of a peer and a job, each of them live."""

    def __init__(self, engine: Engine, tell: Callable[[int, P, list[JobView]], None]) -> None:
        """`tell` sees to it that the peer is told once that index is durable."""
        self._engine = engine
        self._tell = tell
        self._by_job: dict[bytes, dict[P, None]] = {}
        self._by_peer: dict[P, dict[bytes, None]] = {}

    @property
    def count(self) -> int:
        """Jobs that somebody watches."""
        return len(self._by_job)

    def watch(self, job_ids: list[bytes], peer: P) -> Settled:
        """`peer` is told of each of these once; the problems name those that nobody knows.

        Raises: `BatchTooLarge`, `LimitReached`; nothing is watched then.
        """
        if len(job_ids) > JOBS_PER_CALL_MAX:
            raise BatchTooLarge(
                f"The call has {len(job_ids)} ids; {JOBS_PER_CALL_MAX} are allowed.",
                hint="Split it.",
            )
        ended: dict[bytes, JobView] = {}
        live: dict[bytes, None] = {}
        problems: list[Problem] = []
        for position, job_id in enumerate(job_ids):
            try:
                view = self._engine.end_view(job_id)
            except ClientError as error:
                problems.append(Problem(position, error.code, error.message, error.hint))
                continue
            if view is None:
                live[job_id] = None
            else:
                ended[job_id] = view
        self._add(live, peer)
        if ended:
            self._tell(self._engine.last_index, peer, list(ended.values()))
        return Settled(problems=problems or None)

    def tell_ended(self, index: int, job_ids: Iterable[bytes]) -> None:
        """Who watches one of these is told when `index` is durable, and watches it no more."""
        told: dict[P, list[JobView]] = {}
        for job_id in job_ids:
            if job_id not in self._by_job:
                continue
            view = self._engine.end_view(job_id)
            if view is None:  # revived since, in the same turn: its end is still to come
                continue
            for peer in self._by_job.pop(job_id):
                discard(self._by_peer, peer, job_id)
                told.setdefault(peer, []).append(view)
        for peer, views in told.items():
            self._tell(index, peer, views)

    def drop_peer(self, peer: P) -> None:
        """Nothing is watched for `peer` any more."""
        for job_id in self._by_peer.pop(peer, ()):
            discard(self._by_job, job_id, peer)

    def _add(self, live: dict[bytes, None], peer: P) -> None:
        watched = self._by_peer.get(peer, {})
        if len(watched.keys() | live.keys()) > WATCHES_PER_CONNECTION_MAX:
            raise LimitReached(
                f"A connection watches {WATCHES_PER_CONNECTION_MAX} jobs at most.",
                hint="Watch more when some of these have ended, or on another connection.",
            )
        if live:
            self._by_peer.setdefault(peer, {}).update(live)
        for job_id in live:
            self._by_job.setdefault(job_id, {})[peer] = None
