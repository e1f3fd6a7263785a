"""Seeded lives of a log: crashes at any call lose nothing promised, damage is never silent.

`HEADRACE_FUZZ_CASES=100000 pytest tests/recovery/test_fuzz.py` for more than the usual few.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable

import pytest

from headrace.log.file.layout import Layout
from headrace.log.file.watermark import read_watermark
from headrace.model.errors import StopError
from headrace.testing.sim_disk import SECTOR_BYTES, Fault, SimCrash
from tests.recovery.story import ROOT, Story

CASES = int(os.environ.get("HEADRACE_FUZZ_CASES", "2000"))
LONG_SEEDS = range(1_000_000, 1_010_000)
CALLS_OF_A_STEP_MAX = 40

pytestmark = pytest.mark.timeout(3600)


def test_crash_at_any_call_loses_no_promise_and_stops_no_start() -> None:
    """Appends, rotations, snapshots, truncation, starts and closes, cut anywhere; twice."""
    check_crashes(range(CASES // 2))


def test_damage_is_repaired_or_reported_never_silent() -> None:
    """Bits, sectors, ends and whole files of the log; at most un-watermarked commits go."""
    outcomes = check_damage(range(CASES // 2))

    assert outcomes["stopped"] > CASES // 10
    assert outcomes["whole"] > CASES // 100


@pytest.mark.long
def test_crash_at_any_call_loses_no_promise_over_many_lives() -> None:
    check_crashes(LONG_SEEDS)


@pytest.mark.long
def test_damage_is_never_silent_over_many_lives() -> None:
    check_damage(LONG_SEEDS)


def check_crashes(seeds: Iterable[int]) -> None:
    for seed in seeds:
        story = Story(seed)
        try:
            story.start()
            for _ in range(2):
                live_and_crash(story)
                story.start()
            story.append().close()
            if seed % 2:
                story.crash()
            story.start()
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise


def check_damage(seeds: Iterable[int]) -> Counter[str]:
    outcomes: Counter[str] = Counter()
    for seed in seeds:
        try:
            outcomes[live_and_rot(Story(seed))] += 1
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise
    return outcomes


def live_and_crash(story: Story) -> None:
    for _ in range(story.rng.randint(1, 12)):
        do_something(story)
    story.disk.faults = {
        story.disk.calls + story.rng.randint(1, CALLS_OF_A_STEP_MAX): Fault(
            crash=story.rng.choice(("before", "after"))
        )
    }
    try:
        for _ in range(story.rng.randint(1, 4)):
            do_something(story)
    except SimCrash:
        pass
    if story.rng.random() < 0.3:
        story.kill()
        story.disk.faults.clear()
    else:
        story.crash()


def do_something(story: Story) -> None:
    chance = story.rng.random()
    if chance < 0.85:
        story.append()
    elif chance < 0.93:
        story.snapshot()
    elif chance < 0.95:
        story.truncate()
    elif chance < 0.97:
        story.env.clock.advance_ms(1500)
        story.log.idle()
    else:
        story.close().start()


def live_and_rot(story: Story) -> str:
    story.start()
    for _ in range(story.rng.randint(2, 30)):
        story.append()
        if story.rng.random() < 0.05:
            story.snapshot()
        if story.rng.random() < 0.3:
            story.log.idle()
    if story.rng.random() < 0.3:
        story.close()
    if story.rng.random() < 0.5:
        story.crash()
    else:
        story.kill().disk.sync_all()
    known_durable = watermark_of(story)
    damage(story)
    try:
        story.log = story.new_log()
        story.log.open()
        story.epoch = story.log.lead("sim")
        snapshot, commits = story.log.recover()
        index = snapshot.info.index if snapshot else 0
        recovered = list(commits)
    except StopError:
        return "stopped"
    promised = [commit for commit in story.acked if commit.first_index > index]
    if recovered == promised:
        return "whole"
    assert recovered == promised[: len(recovered)], "only the end may be gone"
    last = recovered[-1] if recovered else None
    end = last.first_index + last.record_count - 1 if last else index
    assert end >= known_durable, "what the watermark names is never given up silently"
    return "tail lost within the lag"


def watermark_of(story: Story) -> int:
    """Index that the watermark on the medium names."""
    log = story.new_log()
    info = log.open(read_only=True)
    ids = info.cluster_id, info.node_id
    return read_watermark(story.disk, Layout(ROOT), ids).index


def damage(story: Story) -> None:
    path = story.rng.choice(story.segments())
    content = bytearray(story.disk.peek(path))
    used = max(story.used_bytes(path), 1)
    place = story.rng.randrange(used)
    kind = story.rng.choice(("bit", "bit", "sector", "end", "drop", "twin"))
    if kind == "bit":
        content[place] ^= 1 << story.rng.randrange(8)
    elif kind == "sector":
        start = place - place % SECTOR_BYTES
        content[start : start + SECTOR_BYTES] = bytes(len(content[start : start + SECTOR_BYTES]))
    elif kind == "end":
        content[place:] = bytes(len(content) - place)
    elif kind == "drop":
        story.disk.remove(path)
        return
    elif kind == "twin":
        other = story.rng.choice(story.segments())
        content = bytearray(story.disk.peek(other))
    story.disk.poke(path, bytes(content))
