"""From a log to an engine that may decide: snapshot, replay, a durable epoch.

Must never let the engine decide before `EpochStarted` of this epoch is durable: until
then another node could be leading. Runs on the I/O thread; nothing is served meanwhile.

The collector is off while state is built (a million objects that all stay would be
walked again and again); what was built is then frozen, out of its sight for good.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterable, Iterator

import msgspec

from headrace.codec.records import decode_records, encode_records
from headrace.codec.rows import decode_rows
from headrace.engine.engine import Engine
from headrace.log.base import Commit, Epoch, Log, LogInfo, Snapshot
from headrace.model.errors import FormatNewer, InvariantViolated, LogGap, ReplayDiverged
from headrace.model.options import EngineOptions
from headrace.model.records import MACHINE_VERSION, EpochStarted
from headrace.model.rows import AnyRow
from headrace.runtime.clock import LogClock
from headrace.runtime.committer import commit_id_of
from headrace.runtime.node_env import NodeEnv
from headrace.runtime.reports import Report, ignore_report

NS_PER_S = 1_000_000_000
GC_THRESHOLDS = (50_000, 20, 100)
"""Live state is frozen; what is left are short-lived structs, most of them untracked."""


class Recovered(msgspec.Struct, frozen=True):
    """An engine that equals the log, and the epoch in which it may decide."""

    engine: Engine
    epoch: Epoch
    log_clock: LogClock
    info: LogInfo
    snapshot_bytes: int
    """Size of the snapshot it came from; 0 without one."""
    record_count: int
    """Records replayed after the snapshot."""
    seconds: float


def recover(
    env: NodeEnv,
    log: Log,
    node: str,
    options: EngineOptions,
    *,
    tune_gc: bool = True,
    report: Report = ignore_report,
) -> Recovered:
    """Open the log, lead it, and rebuild the engine from it.

    Raises: what `Log.open`, `lead`, `recover` and `append` raise; `FormatNewer` when a
    newer engine wrote the log; `LogGap` when commits do not follow one another;
    `ReplayDiverged` when they give no sound state; `ClockPast`. The log is closed again then.
    """
    began_ns = env.clock.mono_ns()
    info = log.open()
    try:
        epoch = log.lead(node)
        snapshot, commits = log.recover()
        engine = Engine(options)
        with _collector_off(tune_gc), _diverging(engine):
            _load(engine, snapshot)
            record_count = _replay(engine, commits)
        if options.verify:
            with _diverging(engine):
                engine.check_state()
        log_clock = LogClock(env.clock, engine.now_ms, report)
        _start_epoch(log, epoch, node, engine, log_clock.now_ms())
    except BaseException:
        with contextlib.suppress(Exception):
            log.close()
        raise
    return Recovered(
        engine=engine,
        epoch=epoch,
        log_clock=log_clock,
        info=info,
        snapshot_bytes=snapshot.info.size_bytes if snapshot else 0,
        record_count=record_count,
        seconds=(env.clock.mono_ns() - began_ns) / NS_PER_S,
    )


@contextlib.contextmanager
def _diverging(engine: Engine) -> Iterator[None]:
    """Within it a state that cannot be is a fault of the data, not of this run."""
    try:
        yield
    except InvariantViolated as error:
        raise ReplayDiverged(
            f"The log gives no sound state at index {engine.last_index}: {error.message}.",
            hint="Keep the directory as it is, run `headrace verify DIR --deep`, and report this.",
        ) from error


def _load(engine: Engine, snapshot: Snapshot | None) -> None:
    if snapshot is not None:
        engine.load_rows(_rows(snapshot.blocks()))
        engine.finish_load()


def _rows(blocks: Iterable[bytes]) -> Iterator[AnyRow]:
    for block in blocks:
        yield from decode_rows(block)


def _replay(engine: Engine, commits: Iterable[Commit]) -> int:
    count = 0
    for commit in commits:
        expected = engine.last_index + 1
        if commit.first_index != expected:
            raise LogGap(
                f"The log goes on at index {commit.first_index}, not at {expected}.",
                hint="Run `headrace verify DIR`.",
            )
        for index, record in enumerate(
            decode_records(commit.body, commit.record_count), commit.first_index
        ):
            if type(record) is EpochStarted:
                _check_machine(record)
            engine.apply(index, record)
        count += commit.record_count
    return count


def _check_machine(record: EpochStarted) -> None:
    if record.machine_version > MACHINE_VERSION:
        raise FormatNewer(
            f"The log was written by an engine of version {record.machine_version}; "
            f"this one is version {MACHINE_VERSION} and would not come to the same state.",
            hint="Use the headrace that wrote it, or a newer one.",
        )


def _start_epoch(log: Log, epoch: Epoch, node: str, engine: Engine, now_ms: int) -> None:
    """`EpochStarted` is durable: from here on this engine decides."""
    first_index = engine.last_index + 1
    engine.start_epoch(epoch.number, epoch.nonce, node, now_ms)
    records, _ = engine.take_turn()
    commit = Commit(
        commit_id=commit_id_of(epoch, first_index),
        first_index=first_index,
        record_count=len(records),
        now_ms=engine.now_ms,
        body=encode_records(records),
    )
    log.append(epoch, commit)


@contextlib.contextmanager
def _collector_off(wanted: bool) -> Iterator[None]:
    if not wanted:
        yield
        return
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLDS)
    finally:
        if was_enabled:
            gc.enable()
