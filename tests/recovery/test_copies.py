"""Copies of a directory in use: with `headrace backup`, and with a plain `cp -r`."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable

import pytest

from headrace.log.base import Commit, Refused
from headrace.log.file.inspect import copy_consistent, restore, survey, verify
from headrace.log.file.log import FileLog
from headrace.model.errors import CurrentDamaged, LogCorrupt, StopError, UnsafeDirectory
from headrace.testing.sim_disk import Fault, SimDisk
from tests.recovery.story import ROOT, Story, blocks_of

COPY = "/copy"


class BusyDisk(SimDisk):
    """Between two calls of the one who copies, the leader goes on with its work."""

    def __init__(self) -> None:
        super().__init__()
        self.meanwhile: Callable[[], object] = lambda: None
        self._inside = False

    def _call(self, method: str, path: str) -> Fault | None:
        if not self._inside:
            self._inside = True
            try:
                self.meanwhile()
            finally:
                self._inside = False
        return super()._call(method, path)


def busy(seed: int) -> tuple[Story, BusyDisk]:
    story, disk = Story(seed), BusyDisk()
    story.env.disk = disk
    story.start().append(20).snapshot().append(20)
    return story, disk


def go_on(story: Story) -> None:
    chance = story.rng.random()
    if chance < 0.3:
        story.append()
    elif chance < 0.33:
        story.snapshot()
    elif chance < 0.36:
        story.truncate()


def recovered(story: Story, directory: str) -> tuple[int, list[Commit]]:
    """(index of the snapshot, commits) after a start on the copy."""
    log = FileLog(story.env, directory, segment_bytes=story.segment_bytes)
    log.open()
    log.lead("copy")
    snapshot, commits = log.recover()
    index = snapshot.info.index if snapshot else 0
    if snapshot:
        assert list(snapshot.blocks()) == blocks_of(index)
    found = list(commits)
    log.close()
    return index, found


def assert_prefix(story: Story, directory: str, *, at_least: int) -> None:
    """The copy holds what was acknowledged up to some moment, and `at_least` that many."""
    index, found = recovered(story, directory)
    expected = [commit for commit in story.acked if commit.first_index > index]

    assert found == expected[: len(found)]
    assert len(story.acked) - len(expected) + len(found) >= at_least


@pytest.mark.parametrize("seed", range(40))
def test_backup_of_a_busy_directory_recovers_cleanly(seed: int) -> None:
    story, disk = busy(seed)
    known = len(story.acked)
    disk.meanwhile = lambda: go_on(story)
    report = copy_consistent(story.env, ROOT, COPY)
    disk.meanwhile = lambda: None

    assert [finding for finding in verify(story.env, COPY) if finding.code] == []
    assert survey(story.env, COPY).closed_clean
    assert survey(story.env, COPY).last_index == report.last_index
    assert_prefix(story, COPY, at_least=known)
    story.append().crash().start()


def test_backup_is_durable_when_it_is_reported() -> None:
    story, disk = busy(3)
    copy_consistent(story.env, ROOT, COPY)
    disk.crash(random.Random(1))

    assert_prefix(story, COPY, at_least=len(story.acked))


def test_backup_of_a_log_without_snapshot_has_every_commit() -> None:
    story = Story(1).start().append(30)
    report = copy_consistent(story.env, ROOT, COPY)

    assert report.snapshot_index == 0
    assert recovered(story, COPY) == (0, story.acked)


def test_backup_of_an_empty_log_is_an_empty_log() -> None:
    story = Story(1).start()
    copy_consistent(story.env, ROOT, COPY)

    assert recovered(story, COPY) == (0, [])


def test_backup_leaves_out_a_torn_tail() -> None:
    story = Story(1).start().append(3)
    path = story.segments()[-1]
    story.kill().disk.poke(path, story.disk.peek(path)[:8000] + b"torn" + bytes(100))
    copy_consistent(story.env, ROOT, COPY)

    assert survey(story.env, COPY).torn_bytes == 0
    assert recovered(story, COPY) == (0, story.acked)


def test_backup_skips_a_damaged_snapshot() -> None:
    story = Story(1).start().append(5).snapshot().append(5).snapshot().append(1)
    story.flip(story.snapshot_files()[-1], 600)
    report = copy_consistent(story.env, ROOT, COPY)

    assert report.snapshot_index == int(story.snapshot_files()[0].rpartition("/")[2][:20])
    assert_prefix(story, COPY, at_least=len(story.acked))


def test_backup_of_a_damaged_log_is_refused() -> None:
    story = Story(1).start().append(60, b"x" * 900)
    story.flip(story.segments()[1], 1000)

    with pytest.raises(LogCorrupt):
        copy_consistent(story.env, ROOT, COPY)
    assert story.disk.stat(f"{COPY}/meta/CURRENT") is None


def test_backup_into_a_directory_that_is_not_empty_is_refused() -> None:
    story = Story(1).start()
    copy_consistent(story.env, ROOT, COPY)

    with pytest.raises(UnsafeDirectory, match="not empty"):
        copy_consistent(story.env, ROOT, COPY)


def test_backup_on_a_full_disk_is_refused_and_harms_nobody() -> None:
    story = Story(1).start().append(30)
    story.disk.capacity_bytes -= story.disk.free_bytes(ROOT) - 10_000
    with pytest.raises(Refused):
        copy_consistent(story.env, ROOT, COPY)
    story.disk.capacity_bytes *= 2

    story.append(10).crash().start()


def test_unfinished_backup_is_no_log() -> None:
    story = Story(1).start().append(30)
    copy_consistent(story.env, ROOT, COPY)
    story.disk.remove(f"{COPY}/meta/CURRENT")

    with pytest.raises(StopError, match="CURRENT is missing"):
        recovered(story, COPY)


def test_backup_of_a_log_without_current_names_the_repair() -> None:
    story = Story(1).start().append(3)
    story.disk.remove(f"{ROOT}/meta/CURRENT")

    with pytest.raises(CurrentDamaged, match="--rebuild-current"):
        copy_consistent(story.env, ROOT, COPY)


def test_backup_of_nothing_is_a_sentence() -> None:
    story = Story(1)
    story.disk.mkdir("/empty")

    with pytest.raises(UnsafeDirectory, match="holds no headrace data"):
        copy_consistent(story.env, "/empty", COPY)
    assert story.disk.stat(COPY) is None


def test_restore_takes_a_good_backup_and_goes_on() -> None:
    story = Story(1).start().append(20).snapshot().append(5)
    copy_consistent(story.env, ROOT, COPY)
    story.kill().disk.remove(ROOT)
    restore(story.env, COPY, ROOT)

    story.start().append(3).close().start()


def test_restore_refuses_a_damaged_backup_before_writing() -> None:
    story = Story(1).start().append(20)
    copy_consistent(story.env, ROOT, COPY)
    story.kill().disk.remove(ROOT)
    story.flip(f"{COPY}/wal/{story.disk.listdir(f'{COPY}/wal')[0]}", 1000)

    with pytest.raises(LogCorrupt, match="the backup is damaged"):
        restore(story.env, COPY, ROOT)
    assert story.disk.stat(ROOT) is None


# --- cp -r


def plain_copy(story: Story, rng: random.Random) -> None:
    """File after file in any order, each in pieces, while the leader goes on."""
    for directory in (COPY, *(f"{COPY}/{name}" for name in ("meta", "wal", "snapshots"))):
        story.disk.mkdir(directory)
    story.disk.mkdir(f"{COPY}/lost+found")
    directories = ["meta", "wal", "snapshots"]
    rng.shuffle(directories)
    for directory in directories:
        names = story.disk.listdir(f"{ROOT}/{directory}")
        rng.shuffle(names)
        for name in names:
            copy_in_pieces(story, f"{directory}/{name}")


def copy_in_pieces(story: Story, name: str) -> None:
    if story.disk.stat(f"{ROOT}/{name}") is None:
        return  # cp says so, and goes on
    content, size = b"", len(story.disk.peek(f"{ROOT}/{name}"))
    while len(content) < size:
        if story.disk.stat(f"{ROOT}/{name}") is None:
            break
        content += story.disk.peek(f"{ROOT}/{name}")[len(content) : len(content) + 4096]
        go_on(story)
    story.disk.poke(f"{COPY}/{name}", content)


def test_plain_copy_of_a_busy_directory_recovers_or_says_why_not() -> None:
    outcomes: Counter[str] = Counter()
    for seed in range(200):
        story, _ = busy(seed)
        known = len(story.acked)
        plain_copy(story, random.Random(seed))
        try:
            assert_prefix(story, COPY, at_least=known)
            outcomes["recovered"] += 1
        except StopError as error:
            assert "headrace backup" in str(error)
            outcomes[error.stop_code] += 1

    assert outcomes["recovered"] > 20, outcomes
    assert outcomes["E-WAL-TAIL"] > 20, outcomes


def test_plain_copy_of_a_resting_directory_recovers() -> None:
    story = Story(1).start().append(20).snapshot().append(20)
    story.disk.copy_tree(ROOT, COPY)

    assert_prefix(story, COPY, at_least=len(story.acked))
