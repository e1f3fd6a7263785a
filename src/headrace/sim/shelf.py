"""What a snapshot holds, and where the log behind the newest one of a directory leads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from headrace.codec.records import decode_records
from headrace.codec.rows import decode_rows
from headrace.engine.engine import Engine
from headrace.log.base import Commit
from headrace.log.file.log import FileLog
from headrace.model.env import LogEnv
from headrace.model.errors import HeadraceError
from headrace.model.records import MACHINE_VERSION, Record
from headrace.sim.final import SnapshotFacts

Compare = Callable[[int, Iterator[Commit]], Iterator[Commit]]
"""Takes what a recovery finds, the index of its snapshot first, and hands the commits on."""


def left_behind(
    env: LogEnv, directory: str, last_index: int, compare: Compare
) -> list[SnapshotFacts]:
    """Every commit has passed `compare`. Of the newest snapshot, with what follows up to
    `last_index`.

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
        snapshot_index = snapshot.info.index if snapshot is not None else 0
        engine = engine_of(snapshot.blocks() if snapshot is not None else ())
        loaded = engine.digest()
        for index, record in _records(compare(snapshot_index, commits)):
            if index <= last_index:
                engine.apply(index, record)
        found = SnapshotFacts(snapshot_index, loaded, engine.digest())
        return [found] if 0 < snapshot_index <= last_index else []
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
