"""The state as rows, taken while it goes on changing; and rows back to state."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from headrace.engine.evolve import machine_version_differs
from headrace.engine.finished import RingEntry, unpack
from headrace.engine.job import LEASED, Job, held_bytes
from headrace.engine.keys import TakenKey, key_row
from headrace.engine.state import EngineState
from headrace.engine.table import Table, Walk
from headrace.model.errors import InvariantViolated, invariant
from headrace.model.records import MACHINE_VERSION
from headrace.model.rows import (
    AnyRow,
    EndedRow,
    JobRow,
    KeyRow,
    MetaRow,
    QueueRow,
    RememberedRow,
    SessionRow,
)


class SnapshotWalk:
    """The state as it stood when the walk began, in slices.

    Small tables are copied at the start; jobs, final jobs and keys are walked, with a
    copy of each entry that changes before the walk comes by.
    """

    def __init__(self, state: EngineState) -> None:
        """Raises: `InvariantViolated` while another walk is under way."""
        invariant(
            all(table.walk is None for table in _tables(state)),
            "at most one snapshot is taken at a time",
        )
        self.index = state.index
        self._state = state
        self._head = _head_rows(state)
        self._walks: list[Walk[object, AnyRow]] = [
            state.jobs.begin_walk(_job_row),  # type: ignore[list-item]
            state.ended.begin_walk(_ended_row),  # type: ignore[list-item]
            state.keys.begin_walk(),  # type: ignore[list-item]
        ]

    def next_rows(self, rows_max: int) -> list[AnyRow]:
        """At most about `rows_max` rows more; empty when the snapshot is complete."""
        rows = [row for _, row in zip(range(rows_max), self._head, strict=False)]
        while len(rows) < rows_max and self._walks:
            taken = self._walks[0].next_rows(rows_max - len(rows))
            if not taken:
                self._walks.pop(0)
            rows += taken
        return rows

    def cancel(self) -> None:
        """The state is free of the walk; no more rows come."""
        if self._walks:
            for table in _tables(self._state):
                table.end_walk()
        self._walks = []
        self._head = iter(())


def rows_of(state: EngineState) -> Iterator[AnyRow]:
    """Every row of the state as it stands; it must not change before the last is taken."""
    yield from _head_rows(state)
    for _, job in state.jobs.items():
        yield job.row()
    for _, packed in state.ended.items():
        yield EndedRow(packed)
    for scope, taken in state.keys.table.items():
        yield key_row(scope, taken)


def _tables(state: EngineState) -> tuple[Table[Any], ...]:
    return state.jobs, state.ended, state.keys.table


def _job_row(_job_id: bytes, job: Job) -> JobRow:
    return job.row()


def _ended_row(_job_id: bytes, packed: bytes) -> EndedRow:
    return EndedRow(packed)


def _head_rows(state: EngineState) -> Iterator[AnyRow]:
    """What is copied at the start: everything but jobs, final jobs and keys."""
    rows: list[AnyRow] = [
        MetaRow(
            state.index,
            state.now_ms,
            state.next_number,
            state.next_ended_no,
            state.keys.next_number,
            state.next_session_no,
            state.epoch_number,
            MACHINE_VERSION,
        )
    ]
    rows += [queue.row() for queue in state.queues.values()]
    rows += [session.row() for session in state.sessions.values()]
    rows += state.remembered.rows()
    return iter(rows)


class Loader:
    """Builds the state of an empty engine from rows, in any order after the first."""

    def __init__(self, state: EngineState) -> None:
        if state.index:
            raise InvariantViolated("rows are loaded into an empty engine only")
        self._state = state
        self._jobs: list[Job] = []
        self._ended: list[tuple[RingEntry, str]] = []

    def load(self, rows: Iterable[AnyRow]) -> None:
        for row in rows:
            if type(row) is JobRow:
                self._load_job(row)
            elif type(row) is EndedRow:
                self._load_ended(row)
            else:
                self._load_other(row)

    def _load_job(self, row: JobRow) -> None:
        state = self._state
        spec = state.spec(row.spec)
        spec.job_count += 1
        job = Job(
            row.job_id,
            spec,
            row.payload,
            row.state,
            row.priority,
            row.number,
            row.enqueued_at_ms,
            row.run_at_ms,
            row.attempt,
            row.token,
            row.leased_at_ms,
            row.session_no,
            row.lease_ms,
            row.flags,
            row.cold,
        )
        state.jobs.shards[row.job_id[-1]][row.job_id] = job
        self._jobs.append(job)

    def _load_ended(self, row: EndedRow) -> None:
        finished = unpack(row.packed)
        entry = RingEntry(
            finished.job_id, row.packed, finished.state, finished.ended_no, finished.ended_at_ms
        )
        self._state.ended.put(finished.job_id, row.packed)
        self._ended.append((entry, finished.spec.queue))

    def _load_other(self, row: AnyRow) -> None:
        state = self._state
        if isinstance(row, MetaRow):
            self._load_meta(row)
        elif isinstance(row, QueueRow):
            queue = state.queue(row.queue)
            if row.settings is not None:
                state.configure(row.queue, row.settings)
            queue.totals[: len(row.totals)] = row.totals
        elif isinstance(row, SessionRow):
            state.open_session(row)
        elif isinstance(row, RememberedRow):
            state.remembered.load(row)
        elif isinstance(row, KeyRow):
            taken = TakenKey(row.job_id, row.digest, row.expires_at_ms, row.number)
            state.keys.load(row.scope, taken)

    def _load_meta(self, row: MetaRow) -> None:
        if row.machine_version != MACHINE_VERSION:
            raise machine_version_differs("snapshot", row.machine_version)
        state = self._state
        state.index = row.index
        state.now_ms = row.now_ms
        state.next_number = row.next_number
        state.next_session_no = row.next_session_no
        state.epoch_number = row.epoch_number
        state.keys.next_number = row.next_key_no
        state.next_ended_no = row.next_ended_no

    def finish(self) -> None:
        """All rows are loaded: the indexes that rows do not hold are rebuilt."""
        self._place_jobs()
        self._rebuild_rings()

    def _place_jobs(self) -> None:
        state = self._state
        self._jobs.sort(key=lambda job: job.number)
        state.job_count = len(self._jobs)
        for job in self._jobs:
            queue = state.queues[job.spec.queue]
            queue.counts[job.state] += 1
            state.count_payload(queue, held_bytes(job))
            if job.state != LEASED:
                state.place(job)
                state.start_by.watch(job)
            elif job.session_no:
                state.sessions_by_no[job.session_no].leases[job.job_id] = job
            else:
                state.leased_alone += 1
        self._jobs = []

    def _rebuild_rings(self) -> None:
        state = self._state
        self._ended.sort(key=lambda item: item[0].ended_no)
        for entry, queue in self._ended:
            state.keep(state.queues[queue], entry)
        self._ended = []
