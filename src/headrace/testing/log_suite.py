"""The conformance suite: what every log must do, whoever wrote it.

    class TestMyLog(LogSuite):
        @pytest.fixture
        def site(self) -> LogSite:
            return MySite()

A `LogSite` is a place where one log lives. It gives handles on that log, one after the
other as after restarts, or two at a time as for two processes, and it can crash. What a
log cannot do is said by its `Capabilities`; no test asks which log it is.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from itertools import islice
from typing import Protocol

import pytest

from headrace.log.base import Commit, Epoch, Fenced, Log, SnapshotInfo, TailTooOld
from headrace.model.errors import InvariantViolated, Locked


class LogSite(Protocol):
    """Where one log lives, empty at first."""

    def new_log(self) -> Log:
        """Another handle on the log that lives here, not opened."""

    def crash(self) -> None:
        """Every handle given so far is dead, as if its process and machine had stopped."""


class LogSuite:
    """Inherit it, and say where the log lives by a fixture `site`."""

    @pytest.fixture
    def site(self) -> LogSite:
        raise NotImplementedError("a suite for one log overrides `site`")

    @pytest.fixture
    def log(self, site: LogSite) -> Log:
        """Opened, not leading."""
        log = site.new_log()
        log.open()
        return log

    # --- open, lead, close

    def test_new_log_is_created_clean_and_empty(self, site: LogSite) -> None:
        log = site.new_log()
        opened = log.open()

        assert (opened.created, opened.clean) == (True, True)
        assert (opened.first_index, opened.last_index, opened.dropped_bytes) == (1, 0, 0)
        assert (len(opened.cluster_id), len(opened.node_id)) == (16, 16)
        assert recovered(log) == []

    def test_log_keeps_its_ids_over_restarts(self, site: LogSite) -> None:
        first = site.new_log()
        opened = first.open()
        first.lead("a")
        first.close()
        again = site.new_log().open()

        assert (again.cluster_id, again.node_id) == (opened.cluster_id, opened.node_id)
        assert not again.created

    def test_second_open_is_locked_until_the_first_closes(self, site: LogSite) -> None:
        first = site.new_log()
        first.open()
        second = site.new_log()
        with pytest.raises(Locked) as caught:
            second.open()
        first.close()
        second.open()

        assert caught.value.details["pid"] > 0
        assert caught.value.details["host"]

    def test_crash_frees_the_lock(self, site: LogSite, log: Log) -> None:
        log.lead("a")
        site.crash()

        site.new_log().open()

    def test_epochs_grow_over_restarts_and_crashes(self, site: LogSite, log: Log) -> None:
        epochs = [log.lead("a"), log.lead("a")]
        log.close()
        log = reopened(site)
        epochs.append(log.lead("b"))
        site.crash()
        epochs.append(reopened(site).lead("c"))

        numbers = [epoch.number for epoch in epochs]
        assert numbers == sorted(set(numbers))
        assert len({epoch.nonce for epoch in epochs}) == len(epochs)

    # --- append

    def test_append_returns_the_index_of_the_last_record(self, log: Log) -> None:
        epoch = log.lead("a")

        assert log.append(epoch, commit(1, 1, record_count=3)) == 3
        assert log.append(epoch, commit(2, 4)) == 4
        assert log.append(epoch, commit(3, 5, record_count=0)) == 4

    def test_appended_commits_come_back_exactly(self, log: Log) -> None:
        commits = [
            commit(1, 1, record_count=2, body=b"\0" * 3000, now_ms=5),
            commit(2, 3, record_count=0, body=b""),
            commit(3, 3, body=bytes(range(256)) * 7, now_ms=2**47),
        ]
        epoch = log.lead("a")
        for one in commits:
            log.append(epoch, one)

        assert recovered(log) == commits

    def test_repeated_append_writes_nothing(self, log: Log) -> None:
        epoch = log.lead("a")
        one = commit(1, 1, record_count=2)

        assert [log.append(epoch, one), log.append(epoch, one)] == [2, 2]
        assert recovered(log) == [one]

    def test_repeated_append_after_a_restart_writes_nothing(self, site: LogSite, log: Log) -> None:
        one = commit(1, 1, record_count=2)
        log.append(log.lead("a"), one)
        log.close()
        log = reopened(site)

        assert log.append(log.lead("a"), one) == 2
        assert recovered(log) == [one]

    def test_commit_must_follow_the_one_before(self, log: Log) -> None:
        epoch = log.lead("a")
        log.append(epoch, commit(1, 1, record_count=2))
        for wrong_index in (2, 4):
            with pytest.raises(InvariantViolated):
                log.append(epoch, commit(9, wrong_index))

        assert log.append(epoch, commit(2, 3)) == 3

    def test_old_epoch_is_fenced(self, log: Log) -> None:
        old = log.lead("a")
        new = log.lead("a")
        impostor = Epoch(new.number, bytes(8))
        for epoch in (old, impostor):
            with pytest.raises(Fenced):
                log.append(epoch, commit(1, 1))
            with pytest.raises(Fenced):
                log.begin_snapshot(epoch, 0)
            with pytest.raises(Fenced):
                log.truncate(epoch, 1)

        assert log.append(new, commit(1, 1)) == 1

    def test_nothing_is_written_before_leading(self, log: Log) -> None:
        with pytest.raises(Fenced):
            log.append(Epoch(1, bytes(8)), commit(1, 1))

    # --- durability

    def test_acknowledged_commits_survive_a_crash(self, site: LogSite, log: Log) -> None:
        if not log.capabilities.durable:
            pytest.skip("this log does not promise it")
        commits = append_some(log, log.lead("a"), 20)
        site.crash()
        log = reopened(site)

        assert recovered(log) == commits
        epoch = log.lead("b")
        commits.append(commit(99, next_index(commits)))
        log.append(epoch, commits[-1])
        site.crash()
        assert recovered(reopened(site)) == commits

    def test_crash_is_not_clean_and_close_is(self, site: LogSite, log: Log) -> None:
        if not log.capabilities.durable:
            pytest.skip("this log does not promise it")
        append_some(log, log.lead("a"), 3)
        site.crash()
        log = site.new_log()
        assert not log.open().clean
        log.lead("b")
        log.close()

        assert site.new_log().open().clean

    def test_closed_log_comes_back_whole(self, site: LogSite, log: Log) -> None:
        commits = append_some(log, log.lead("a"), 20)
        log.close()
        log = site.new_log()
        opened = log.open()

        assert opened.last_index == next_index(commits) - 1
        assert recovered(log) == commits

    # --- tail

    def test_tail_begins_at_the_commit_asked_for(self, log: Log) -> None:
        commits = append_some(log, log.lead("a"), 10)
        for start in (0, 4, 9):
            assert list(log.tail(commits[start].first_index)) == commits[start:]

        assert list(log.tail(next_index(commits))) == []

    def test_tail_leaves_out_a_commit_that_began_before(self, log: Log) -> None:
        epoch = log.lead("a")
        log.append(epoch, commit(1, 1, record_count=5))
        log.append(epoch, commit(2, 6))

        assert [one.first_index for one in log.tail(3)] == [6]

    def test_reader_without_the_lock_sees_what_is_durable(self, site: LogSite, log: Log) -> None:
        commits = append_some(log, log.lead("a"), 10)
        reader = site.new_log()
        opened = reader.open(read_only=True)

        assert opened.last_index == next_index(commits) - 1
        assert list(reader.tail(1)) == commits
        with pytest.raises(Fenced):
            reader.append(Epoch(1, bytes(8)), commit(1, 1))
        reader.close()
        assert log.append(log.lead("a"), commit(77, next_index(commits))) > 0

    # --- snapshots and truncation

    def test_recovery_begins_at_the_newest_snapshot(self, site: LogSite, log: Log) -> None:
        epoch = log.lead("a")
        commits = append_some(log, epoch, 5)
        save(log, epoch, 2, [b"older"])
        save(log, epoch, 4, [b"first", b"x" * 100_000, b"last"])
        log.close()
        log = reopened(site)
        snapshot, after = log.recover()

        assert snapshot is not None
        assert snapshot.info.index == 4
        assert list(snapshot.blocks()) == [b"first", b"x" * 100_000, b"last"]
        assert list(after) == commits[4:]
        assert [info.index for info in log.snapshots()] == [2, 4]

    def test_snapshot_is_invisible_until_published(self, site: LogSite, log: Log) -> None:
        epoch = log.lead("a")
        commits = append_some(log, epoch, 3)
        aborted = log.begin_snapshot(epoch, 3)
        aborted.write(b"never")
        aborted.abort()
        log.begin_snapshot(epoch, 3).write(b"unfinished")

        assert log.snapshots() == []
        site.crash()
        if log.capabilities.durable:
            again = reopened(site)
            assert again.snapshots() == []
            assert recovered(again) == commits

    def test_snapshot_is_written_on_another_thread_beside_appends(
        self, site: LogSite, log: Log
    ) -> None:
        epoch = log.lead("a")
        commits = append_some(log, epoch, 5)
        writer = log.begin_snapshot(epoch, 5)
        blocks = [bytes([number]) * 50_000 for number in range(1, 100)]
        thread = threading.Thread(target=lambda: [writer.write(block) for block in blocks])
        thread.start()
        for index in range(6, 60):
            commits.append(commit(index, index))
            log.append(epoch, commits[-1])
        thread.join()
        writer.publish()
        log.close()
        snapshot, after = reopened(site).recover()

        assert snapshot is not None
        assert list(snapshot.blocks()) == blocks
        assert list(after) == commits[5:]

    def test_snapshot_of_a_lost_epoch_is_fenced(self, log: Log) -> None:
        epoch = log.lead("a")
        append_some(log, epoch, 3)
        writer = log.begin_snapshot(epoch, 3)
        writer.write(b"block")
        log.lead("a")
        with pytest.raises(Fenced):
            writer.publish()

        assert log.snapshots() == []

    def test_snapshot_of_an_index_that_is_not_durable_is_refused(self, log: Log) -> None:
        epoch = log.lead("a")
        append_some(log, epoch, 3)
        writer = log.begin_snapshot(epoch, 4)
        with pytest.raises(InvariantViolated):
            writer.publish()

    def test_second_snapshot_of_an_index_changes_nothing(self, log: Log) -> None:
        epoch = log.lead("a")
        append_some(log, epoch, 3)
        first = save(log, epoch, 3, [b"first"])

        assert save(log, epoch, 3, [b"again"]) == first
        assert log.snapshots() == [first]

    def test_abort_after_publish_is_harmless(self, log: Log) -> None:
        epoch = log.lead("a")
        append_some(log, epoch, 3)
        writer = log.begin_snapshot(epoch, 3)
        writer.write(b"block")
        info = writer.publish()
        writer.abort()

        assert log.snapshots() == [info]

    def test_truncation_keeps_two_snapshots_and_what_follows_the_older(
        self, site: LogSite, log: Log
    ) -> None:
        epoch = log.lead("a")
        commits = append_some(log, epoch, 60)
        assert log.truncate(epoch, 61) == 1, "without two snapshots everything is needed"
        for index in (20, 40, 50):
            save(log, epoch, index, [b"at %d" % index])
        first_kept = log.truncate(epoch, 61)

        assert first_kept <= 41
        assert [info.index for info in log.snapshots()] == [40, 50]
        assert list(islice(log.tail(41), 100)) == commits[40:]
        log.close()
        log = reopened(site)
        snapshot, after = log.recover()
        assert snapshot is not None
        assert (snapshot.info.index, list(after)) == (50, commits[50:])

    def test_truncation_stops_where_it_is_told(self, log: Log) -> None:
        epoch = log.lead("a")
        commits = append_some(log, epoch, 60)
        for index in (40, 50):
            save(log, epoch, index, [b"state"])
        log.truncate(epoch, 10)

        assert list(log.tail(10)) == commits[9:]

    def test_tail_before_the_truncation_is_too_old(self, log: Log) -> None:
        epoch = log.lead("a")
        append_some(log, epoch, 60)
        for index in (59, 60):
            save(log, epoch, index, [b"state"])
        first_kept = log.truncate(epoch, 60)

        assert first_kept > 1, "sixty commits of this size fill more than one segment"
        with pytest.raises(TailTooOld):
            log.tail(first_kept - 1)

    # --- measures

    def test_wal_bytes_count_from_the_newest_snapshot(self, log: Log) -> None:
        epoch = log.lead("a")
        append_some(log, epoch, 10)
        before = log.wal_bytes()
        save(log, epoch, 10, [b"state"])
        after = log.wal_bytes()
        log.append(epoch, commit(50, 11, body=b"x" * 1000))

        assert before >= 10 * len(BODY)
        assert after < len(BODY)
        assert log.wal_bytes() >= after + 1000

    def test_probe_and_idle_change_nothing(self, log: Log) -> None:
        epoch = log.lead("a")
        commits = append_some(log, epoch, 3)
        probe = log.probe()
        log.idle()

        assert probe.ok
        assert 0 <= probe.sync_p50_ms <= probe.sync_p99_ms
        assert log.room() > 0
        assert recovered(log) == commits


BODY = b"sixty of these fill more than one segment of a few KiB;" * 10


def commit(
    number: int, first_index: int, *, record_count: int = 1, body: bytes = BODY, now_ms: int = 1
) -> Commit:
    return Commit(number.to_bytes(16, "big"), first_index, record_count, now_ms, body)


def append_some(log: Log, epoch: Epoch, count: int) -> list[Commit]:
    """`count` commits of one record each, from index 1."""
    commits = [commit(index, index) for index in range(1, count + 1)]
    for one in commits:
        log.append(epoch, one)
    return commits


def next_index(commits: Sequence[Commit]) -> int:
    return commits[-1].first_index + commits[-1].record_count


def save(log: Log, epoch: Epoch, index: int, blocks: Sequence[bytes]) -> SnapshotInfo:
    writer = log.begin_snapshot(epoch, index)
    for block in blocks:
        writer.write(block)
    return writer.publish()


def reopened(site: LogSite) -> Log:
    log = site.new_log()
    log.open()
    return log


def recovered(log: Log) -> list[Commit]:
    _, commits = log.recover()
    return list(commits)
