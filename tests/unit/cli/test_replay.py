"""Replaying outside a server: snapshot against log, and which jobs a record is about."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from headrace.cli.repair import affected_jobs
from headrace.cli.replay import jobs_of, replay_deeply
from headrace.codec.records import encode_records
from headrace.codec.rows import encode_rows
from headrace.engine.engine import Engine
from headrace.log.base import Commit, Epoch
from headrace.log.file.log import FileLog
from headrace.model import records
from headrace.model.commands import Cancel, Command, Enqueue, NewJob
from headrace.model.errors import ReplayDiverged
from headrace.model.ids import id_from_text, id_to_text
from headrace.model.job import JobError, JobSpec
from headrace.runtime.env import real_env

IDS = [f"0190f3a2-7b1c-7def-8123-{number:012x}" for number in range(10)]
ID = id_from_text(IDS[0])


def enqueue(number: int, payload: bytes = b"{}") -> Command:
    return Enqueue([JobSpec("q", "k")], [NewJob(id_from_text(IDS[number]), 0, payload)])


class Writer:
    """An engine and its log, led by hand."""

    def __init__(self, directory: Path) -> None:
        self.engine = Engine()
        self.log = FileLog(real_env(), str(directory))
        self.log.open()
        self.epoch: Epoch = self.log.lead("test")
        self.log.recover()
        self.engine.start_epoch(self.epoch.number, self.epoch.nonce, "test", 1_000)
        self.commit()

    def run(self, command: Command) -> None:
        self.engine.begin_turn(self.engine.now_ms + 1)
        self.engine.run(command)
        self.commit()

    def commit(self) -> None:
        written, _ = self.engine.take_turn()
        first_index = self.engine.last_index + 1 - len(written)
        body = encode_records(written)
        commit_id = first_index.to_bytes(16, "big")
        self.log.append(self.epoch, Commit(commit_id, first_index, len(written), 1_000, body))

    def snapshot(self, of: Engine | None = None) -> None:
        """Of our state, or of another one that is published as if it were ours."""
        writer = self.log.begin_snapshot(self.epoch, self.engine.last_index)
        walk = (of or self.engine).begin_snapshot()
        while rows := walk.next_rows(100):
            writer.write(encode_rows(rows))
        writer.publish()


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[Writer]:
    writer = Writer(tmp_path / "d")
    for number in range(3):
        writer.run(enqueue(number))
    yield writer
    writer.log.close()


def deeply(tmp_path: Path) -> object:
    return replay_deeply(real_env(), str(tmp_path / "d"), lambda done, total=None: None)


def test_snapshot_and_log_are_compared_with_the_whole_log(writer: Writer, tmp_path: Path) -> None:
    writer.snapshot()
    writer.run(enqueue(3))
    writer.run(Cancel(id_from_text(IDS[1])))

    report = replay_deeply(real_env(), str(tmp_path / "d"), lambda done, total=None: None)

    assert report.replayed_from_start
    assert 0 < report.snapshot_index < report.last_index == writer.engine.last_index
    assert report.digest == writer.engine.digest()


def test_snapshot_of_another_state_has_diverged(writer: Writer, tmp_path: Path) -> None:
    other = Writer(tmp_path / "other")
    for number in range(3):
        other.run(enqueue(number, b'{"other": true}'))
    assert other.engine.last_index == writer.engine.last_index
    writer.snapshot(of=other.engine)
    other.log.close()

    with pytest.raises(ReplayDiverged, match="gives another state"):
        deeply(tmp_path)


def test_records_that_could_not_have_happened_have_diverged(writer: Writer, tmp_path: Path) -> None:
    impossible = records.JobsSucceeded([(id_from_text(IDS[0]), 17, None)])
    index = writer.engine.last_index + 1
    body = encode_records([impossible])
    writer.log.append(writer.epoch, Commit(index.to_bytes(16, "big"), index, 1, 1_000, body))

    with pytest.raises(ReplayDiverged, match="do not fit the state"):
        deeply(tmp_path)


# --- records and the jobs that they are about

OF_NO_JOB = [
    records.EpochStarted(1, b"n", "node"),
    records.TimePassed(1),
    records.QueueConfigured("q", records.QueueSettings()),
    records.SessionOpened(ID, "n", "h", 1, "b", (), (), False, 1),
    records.SessionClosed(ID),
    records.FinishedPruned("q", 0, 1),
    records.IdsForgotten(1),
    records.KeysExpired(1),
]
OF_ONE_JOB = [
    records.JobsEnqueued(JobSpec("q", "k"), [records.EnqueuedJob(ID, b"", 1)]),
    records.JobsClaimed(b"s" * 16, [ID]),
    records.JobsStarted([(ID, 1)]),
    records.JobsSucceeded([(ID, 1, None)]),
    records.JobFailed(ID, 1, JobError("E"), 0),
    records.JobsReleased([records.JobReleased(ID, 1)]),
    records.LeasesExpired("timeout", [records.ExpiredLease(ID, 1, True, 0)]),
    records.JobsCancelled([(ID, 0)], ""),
    records.CancelRequested(ID, 1),
    records.JobRescheduled(ID, 0),
    records.PriorityChanged(ID, 1),
    records.JobRevived(ID),
    records.JobsDeleted([ID]),
    records.ProgressReported(ID, 1, b""),
    records.JobLogged(ID, 1, []),
]


@pytest.mark.parametrize("record", OF_ONE_JOB, ids=lambda record: type(record).__name__)
def test_record_names_its_job(record: records.Record) -> None:
    assert list(jobs_of(record)) == [id_to_text(ID)]


@pytest.mark.parametrize("record", OF_NO_JOB, ids=lambda record: type(record).__name__)
def test_record_of_no_job_names_none(record: records.Record) -> None:
    assert list(jobs_of(record)) == []


def test_every_record_is_one_or_the_other() -> None:
    known = {type(record) for record in (*OF_ONE_JOB, *OF_NO_JOB)}
    assert known == set(records.AnyRecord.__args__)


def test_affected_jobs_are_listed_with_what_each_loses() -> None:
    body = encode_records([OF_ONE_JOB[0], OF_ONE_JOB[1], records.TimePassed(9)])
    lost = affected_jobs([Commit(b"c" * 16, 7, 3, 0, body)])
    assert lost == {id_to_text(ID): ["JobsEnqueued", "JobsClaimed"]}
    assert msgspec.json.encode(lost)
