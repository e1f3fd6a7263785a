"""What a snapshot holds, and where the log behind the newest one of a directory leads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from headrace.codec.records import decode_records
from headrace.codec.rows import decode_rows
from headrace.engine.engine import Engine
from headrace.log.base import Commit
from headrace.log.file.log import FileLog
from headrace.model.env import LogEnv
from headrace.model.errors import HeadraceError
from headrace.model.records import MACHINE_VERSION, Record
from headrace.sim.final import SnapshotFacts


def newest_snapshot(env: LogEnv, directory: str, last_index: int) -> list[SnapshotFacts]:
    """Of the newest snapshot, with the records behind it up to `last_index`.

    Empty without one, when it is newer than that, and for a directory that cannot be read:
    whoever verifies it says why.
    """
    log = FileLog(env, directory, machine_version=MACHINE_VERSION)
    try:
        log.open(read_only=True)
    except HeadraceError:
        return []
    try:
        snapshot, commits = log.recover()
        if snapshot is None or snapshot.info.index > last_index:
            return []
        engine = engine_of(snapshot.blocks())
        loaded = engine.digest()
        for index, record in _records(commits):
            if index <= last_index:
                engine.apply(index, record)
        return [SnapshotFacts(snapshot.info.index, loaded, engine.digest())]
    finally:
        log.close()


def engine_of(blocks: Iterable[bytes]) -> Engine:
    """One with the state that a snapshot of these blocks holds."""
    engine = Engine()
    for block in blocks:
        engine.load_rows(decode_rows(block))
    engine.finish_load()
    return engine


def _records(commits: Iterator[Commit]) -> Iterator[tuple[int, Record]]:
    for commit in commits:
        yield from enumerate(decode_records(commit.body, commit.record_count), commit.first_index)
