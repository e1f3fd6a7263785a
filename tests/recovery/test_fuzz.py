"""Seeded lives of a log: crashes at any call lose nothing promised, damage is never silent.

The lives are those of `python -m proof.fuzz wal`; even seeds are cut, odd ones rot.
`HEADRACE_FUZZ_CASES=100000 pytest tests/recovery/test_fuzz.py` for more of them.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from headrace.log.file.repair import truncate_at
from headrace.model.errors import LogTailLost
from proof.fuzz.wal import ROOT, errors_of, run_cases
from tests.recovery.story import Story

CASES = int(os.environ.get("HEADRACE_FUZZ_CASES", "10000"))
"""32 s of one processor."""
LONG_SEEDS = range(1_000_000, 1_020_000)
BODY = b"ten of these fill more than one segment" * 30

pytestmark = [pytest.mark.proof, pytest.mark.timeout(3600)]


def test_crash_at_any_call_loses_no_promise_and_stops_no_start() -> None:
    """Appends, rotations, snapshots, truncation, starts and closes, cut anywhere; twice."""
    assert run_cases(range(0, CASES, 2)) == {"cut": CASES // 2}


def test_damage_is_repaired_or_reported_where_it_is_never_silent() -> None:
    """Bits, sectors, ends and whole files of the log; at most un-watermarked commits go."""
    outcomes = run_cases(range(1, CASES, 2))

    stopped = sum(count for outcome, count in outcomes.items() if outcome.startswith("stopped"))
    repaired = sum(count for outcome, count in outcomes.items() if outcome.endswith("repaired"))
    assert stopped > CASES // 10
    assert repaired > CASES // 20
    assert outcomes["whole"] > CASES // 100


@pytest.mark.long
def test_crash_at_any_call_loses_no_promise_over_many_lives() -> None:
    run_cases(LONG_SEEDS[::2])


@pytest.mark.long
def test_damage_is_never_silent_over_many_lives() -> None:
    run_cases(LONG_SEEDS[1::2])


# --- what these lives have found


def snapshot_ahead_of_its_log() -> tuple[Story, str, int]:
    """The commit that the newest snapshot ends with has rotted before a watermark named it."""
    story = Story(3).start().append(3, BODY)
    story.snapshot()
    end = story.used_bytes(story.segments()[-1])
    end += -end % 64
    story.append(1, BODY).snapshot().kill()
    story.disk.remove(f"{ROOT}/meta/WATERMARK")
    story.disk.sync_all()
    path = story.segments()[-1]
    return story.flip(path, end + 100), path, end


def test_snapshot_ahead_of_its_log_stops_a_start_before_it_changes_anything() -> None:
    """The start cut the tail and began an epoch first, named no place, and verify saw nothing."""
    story, path, offset = snapshot_ahead_of_its_log()
    before = story.disk.peek(path), story.disk.peek(f"{ROOT}/meta/CURRENT")
    with pytest.raises(LogTailLost, match="the snapshot of index") as refused:
        story.start()

    assert (refused.value.details["path"], refused.value.details["offset"]) == (path, offset)
    assert (story.disk.peek(path), story.disk.peek(f"{ROOT}/meta/CURRENT")) == before
    assert [(one.code, one.path, one.offset) for one in errors_of(story)] == [
        ("E-WAL-TAIL", path, offset)
    ]


def test_repair_gives_up_a_damaged_snapshot_that_is_ahead_of_the_cut() -> None:
    """Nothing else leads to what it held; listed, it would go on stopping every start."""
    story, path, offset = snapshot_ahead_of_its_log()
    newest = story.snapshot_files()[-1]
    story.flip(newest, 600)
    with pytest.raises(LogTailLost):
        story.start()
    truncate_at(story.kill().env, ROOT, Path(path).name, offset)
    story.kill().acked.pop()

    assert errors_of(story) == []
    story.start()
    assert newest not in story.snapshot_files()
    assert Path(newest).name in story.disk.listdir(f"{ROOT}/lost+found")
