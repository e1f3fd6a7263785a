"""Replaying a log outside any server: for `verify --deep`, `dump` and `repair`.

Must never write: the log is open read-only, and may belong to a live server.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec

from headrace.cli.output import Progress
from headrace.codec.records import decode_records
from headrace.codec.rows import decode_rows
from headrace.engine.engine import Engine
from headrace.log.base import Commit, LogInfo, Snapshot
from headrace.log.file.log import FileLog
from headrace.model.env import Env
from headrace.model.errors import HeadraceError, InvariantViolated, ReplayDiverged, StopError
from headrace.model.ids import id_to_text
from headrace.model.records import MACHINE_VERSION, Record


@contextmanager
def read_only(env: Env, directory: str) -> Iterator[tuple[FileLog, LogInfo]]:
    """The log of a directory, also of a live one. Raises: the stop codes of what is wrong."""
    log = FileLog(env, directory, machine_version=MACHINE_VERSION)
    info = log.open(read_only=True)
    try:
        yield log, info
    finally:
        log.close()


class DeepReport(msgspec.Struct, frozen=True):
    """What replaying has shown."""

    last_index: int
    digest: str
    """Of the state at `last_index`."""
    snapshot_index: int
    """0 when there is no snapshot."""
    replayed_from_start: bool
    """The log reaches back to index 1, and replaying all of it gave the same digest."""


def replay_deeply(env: Env, directory: str, advance: Progress) -> DeepReport:
    """The state was rebuilt in every way there is, and was the same and sound each time.

    Raises: `ReplayDiverged`; the stop codes of what is wrong with the files.
    """
    with read_only(env, directory) as (log, info):
        snapshot, commits = log.recover()
        engine = Engine()
        _load(engine, snapshot)
        _apply(engine, commits, advance, info.last_index)
        _check(engine)
        digest, last_index = engine.digest(), engine.last_index
        from_start = snapshot is not None and info.first_index == 1
        if from_start:
            _compare(log, last_index, digest, advance)
        return DeepReport(
            last_index,
            digest,
            snapshot.info.index if snapshot else 0,
            from_start or snapshot is None,
        )


def _compare(log: FileLog, last_index: int, digest: str, advance: Progress) -> None:
    """All of the log gives the state that the snapshot and the rest of the log gave."""
    engine = Engine()
    until_there = (
        commit
        for commit in log.tail(1)
        if commit.first_index + commit.record_count <= last_index + 1
    )
    _apply(engine, until_there, advance, last_index)
    if engine.digest() != digest:
        raise ReplayDiverged(
            f"replaying the whole log up to index {last_index} gives another state than the"
            " newest snapshot and the log after it.",
            hint="Keep the directory as it is, and report this.",
        )


def _load(engine: Engine, snapshot: Snapshot | None) -> None:
    if snapshot is None:
        return
    try:
        for block in snapshot.blocks():
            engine.load_rows(decode_rows(block))
        engine.finish_load()
    except InvariantViolated as error:
        raise ReplayDiverged(
            f"the snapshot of index {snapshot.info.index} is no state: {error.message}.",
            hint="Keep the directory as it is, and report this.",
        ) from error


def _apply(engine: Engine, commits: Iterable[Commit], advance: Progress, total: int) -> None:
    for commit in commits:
        try:
            for index, record in records_of(commit):
                engine.apply(index, record)
        except StopError:
            raise
        except HeadraceError as error:
            raise ReplayDiverged(
                f"the records from index {commit.first_index} on do not fit the state before"
                f" them: {error.message}.",
                hint="Keep the directory as it is, and report this.",
            ) from error
        advance(engine.last_index, total)


def _check(engine: Engine) -> None:
    try:
        engine.check_state()
    except HeadraceError as error:
        raise ReplayDiverged(
            f"the state at index {engine.last_index} is not sound: {error.message}",
            hint="Keep the directory as it is, and report this.",
        ) from error


# --- records


def records_of(commit: Commit) -> Iterator[tuple[int, Record]]:
    return enumerate(decode_records(commit.body, commit.record_count), commit.first_index)


def jobs_of(record: Record) -> Iterator[str]:
    """Ids of the jobs that it is about, as text."""
    for name, value in msgspec.structs.asdict(record).items():
        if name == "job_id":
            yield id_to_text(value)
        elif name == "job_ids":
            yield from map(id_to_text, value)
        elif name in ("jobs", "leases", "results"):
            yield from (id_to_text(_job_id(entry)) for entry in value)


def _job_id(entry: Any) -> bytes:
    job_id: bytes = entry[0] if isinstance(entry, tuple | list) else entry.job_id
    return job_id
