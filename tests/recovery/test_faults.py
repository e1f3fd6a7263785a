"""Calls that fail, run out of room, or never return: at every place, one after the other."""

from __future__ import annotations

import errno
from collections.abc import Callable
from contextlib import suppress

import pytest

from headrace.log.base import Commit, Log, Lost, Refused
from headrace.model.errors import HeadraceError, SyncFailed
from headrace.testing.sim_disk import Fault, SimCrash
from tests.recovery.story import ROOT, SEGMENT_BYTES, Story

BODY = b"five of these fill a segment" * 100
Step = Callable[[Story], object]


def before_rotation() -> Story:
    return Story(1).start().append(4, BODY)


def before_truncation() -> Story:
    story = Story(2).start().append(20, BODY).snapshot().append(20, BODY).snapshot()
    return story.append(2, BODY)


def before_unclean_start() -> Story:
    """A torn commit at the end, a snapshot, leftovers of a rotation."""
    story = Story(3).start().append(20, BODY).snapshot().append(2, BODY)
    story.disk.faults = {story.disk.calls + 1: Fault(crash="after")}
    with pytest.raises(SimCrash):
        story.append(1, BODY)
    return story.kill()


STEPS: dict[str, tuple[Callable[[], Story], Step]] = {
    "first start": (Story, Story.start),
    "append": (lambda: Story(4).start().append(1), Story.append),
    "rotation": (before_rotation, lambda story: story.append(2, BODY)),
    "snapshot": (before_truncation, Story.snapshot),
    "truncation": (before_truncation, Story.truncate),
    "idle": (before_rotation, lambda story: story.log.idle()),
    "close": (before_rotation, Story.close),
    "clean start": (lambda: before_rotation().close(), Story.start),
    "unclean start": (before_unclean_start, Story.start),
}


def calls_of(prepare: Callable[[], Story], step: Step) -> list[str]:
    """Methods that the step calls, in order."""
    story = prepare()
    story.disk.trace.clear()
    step(story)
    return [method for method, _ in story.disk.trace]


@pytest.mark.parametrize("name", STEPS)
def test_crash_at_each_call_of_a_step_loses_nothing(name: str) -> None:
    """Before and after each call, with several ways for un-synced data to survive."""
    prepare, step = STEPS[name]
    for number in range(1, len(calls_of(prepare, step)) + 1):
        for crash in ("before", "after"):
            for survival in range(3):
                story = prepare()
                story.rng.seed(survival)
                story.disk.faults = {story.disk.calls + number: Fault(crash=crash)}
                with suppress(SimCrash):  # a read has no `after`
                    step(story)
                story.crash().start().append().close().start()


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC], ids=["EIO", "ENOSPC"])
@pytest.mark.parametrize("name", STEPS)
def test_failing_call_is_named_and_loses_nothing(name: str, number: int) -> None:
    """Never a bare OSError; and whatever was answered is there after a crash."""
    prepare, step = STEPS[name]
    for call in range(1, len(calls_of(prepare, step)) + 1):
        story = prepare()
        story.disk.faults = {story.disk.calls + call: Fault(error_number=number)}
        try:
            step(story)
        except HeadraceError as error:
            assert str(error)
        story.crash().start().append().close().start()


@pytest.mark.parametrize("written_bytes", [1, 64, 79, 511, 4096])
def test_short_write_is_continued(written_bytes: int) -> None:
    for call in range(1, 6):
        story = before_rotation()
        story.disk.faults = {story.disk.calls + call: Fault(written_bytes=written_bytes)}
        story.append(3, BODY).crash().start()


def test_idle_writes_once_and_then_nothing() -> None:
    story = before_rotation()
    story.log.idle()
    story.disk.trace.clear()
    story.log.idle()

    assert story.disk.trace == []


# --- a failed sync


def failed_sync() -> Story:
    story = before_rotation()
    story.pending = story.next_commit(b"nobody knows")
    story.disk.faults = {story.disk.calls + 2: Fault(error_number=errno.EIO)}
    with pytest.raises(Lost) as caught:
        story.log.append(story.epoch, story.pending)
    assert isinstance(caught.value.__cause__, SyncFailed)
    assert story.disk.trace[-1][0] == "fdatasync"
    return story


def test_failed_sync_poisons_every_later_call() -> None:
    story = failed_sync()
    assert story.pending is not None
    calls: list[Callable[[Log, Commit], object]] = [
        lambda log, commit: log.append(story.epoch, commit),
        lambda log, commit: log.lead("sim"),
        lambda log, commit: log.recover(),
        lambda log, commit: log.tail(1),
        lambda log, commit: log.begin_snapshot(story.epoch, 1),
        lambda log, commit: log.truncate(story.epoch, 1),
        lambda log, commit: log.idle(),
    ]
    before = story.disk.calls
    for call in calls:
        with pytest.raises(Lost):
            call(story.log, story.pending)

    assert story.disk.calls == before, "and the disk is left alone"


def test_failed_sync_is_never_repeated_not_even_by_close() -> None:
    story = failed_sync()
    story.disk.trace.clear()
    story.log.close()

    assert {method for method, _ in story.disk.trace} == {"close"}


def test_start_after_a_failed_sync_does_not_trust_the_cache() -> None:
    """The pages read back well, but are not on the disk: what counts is on the disk."""
    story = failed_sync()
    acked = list(story.acked)
    story.log.close()
    assert b"nobody knows" in story.disk.peek(story.segments()[-1])
    story.start()

    assert story.acked == acked
    story.append(2).crash().start()


def test_seal_read_from_the_cache_of_a_killed_process_is_made_durable() -> None:
    """Killed between writing and syncing the seal, then the machine stops as well."""
    for survival in range(20):
        story = before_rotation()
        story.disk.trace.clear()
        first_call = story.disk.calls + 1
        story.append(2, BODY)
        seal_sync = [method for method, _ in story.disk.trace].index("rename") - 3
        story = before_rotation()
        story.rng.seed(survival)
        story.disk.faults = {first_call + seal_sync: Fault(crash="before")}
        with pytest.raises(SimCrash):
            story.append(2, BODY)
        story.kill().disk.faults.clear()
        method, path = story.disk.trace[-1]
        assert method == "fdatasync"
        assert path.endswith("1.wal")
        story.start().append(1).crash().start()


def test_start_after_a_failed_sync_offers_a_new_log() -> None:
    story = failed_sync()
    story.log.close()
    story.kill().start().append(3, BODY).close().start()


# --- a full disk


def fill_up(story: Story) -> int:
    """Appends until the disk is full; how many were taken."""
    taken = 0
    while True:
        try:
            story.append(1, BODY)
        except Refused:
            return taken
        taken += 1


def test_full_disk_refuses_and_changes_nothing() -> None:
    story = Story(1).start()
    story.disk.capacity_bytes = 8 * SEGMENT_BYTES
    assert fill_up(story) > 5
    before = {path: story.disk.peek(path) for path in story.segments()}
    for _ in range(3):
        with pytest.raises(Refused) as caught:
            story.log.append(story.epoch, story.next_commit(BODY))
        assert "full" in str(caught.value)

    assert {path: story.disk.peek(path) for path in story.segments()} == before
    story.disk.capacity_bytes *= 2
    story.crash().start()


def test_full_disk_goes_on_where_it_was_when_there_is_room_again() -> None:
    story = Story(1).start()
    story.disk.capacity_bytes = 8 * SEGMENT_BYTES
    fill_up(story)
    story.disk.capacity_bytes *= 2
    story.append(3, BODY).crash().start().append().close().start()


def test_small_commits_are_taken_while_the_reserved_segment_lasts() -> None:
    """Acks are small: the room that idle reserved in advance is theirs."""
    story = before_rotation()
    story.log.idle()
    taken_by_others = story.disk.free_bytes(ROOT) - 4096
    story.disk.capacity_bytes -= taken_by_others
    story.append(100, b"ack")


def test_full_disk_while_the_next_current_is_prepared_is_refused() -> None:
    """All that needs room comes before the first step that cannot be undone."""
    story = before_rotation()
    story.disk.trace.clear()
    first_call = story.disk.calls + 1
    story.append(2, BODY)
    at = story.disk.trace.index(("pwrite", f"{ROOT}/meta/CURRENT.tmp"))
    story = before_rotation()
    story.disk.faults = {first_call + at: Fault(error_number=errno.ENOSPC)}
    with pytest.raises(Refused):
        story.append(2, BODY)
    story.append(2, BODY).crash().start()


def test_full_disk_at_start_is_refused_and_lead_may_be_called_again() -> None:
    story = before_rotation().kill()
    story.disk.capacity_bytes -= story.disk.free_bytes(ROOT)
    log = story.new_log()
    log.open()
    with pytest.raises(Refused):
        log.lead("sim")
    story.disk.capacity_bytes *= 4
    story.log, story.epoch = log, log.lead("sim")
    story.check()
    story.append(3, BODY).crash().start()


def test_closed_log_is_led_again_on_a_full_disk_and_refuses_until_there_is_room() -> None:
    """It gave its reserved room back when it closed; it needs some before it takes a commit."""
    story = before_rotation().close()
    taken_by_others = story.disk.free_bytes(ROOT) - 2048
    story.disk.capacity_bytes -= taken_by_others
    story.start()
    with pytest.raises(Refused):
        story.append(1, b"ack")
    story.disk.capacity_bytes += taken_by_others

    story.append(3, BODY).close().start()


def test_full_disk_under_a_snapshot_leaves_the_log_as_it_was() -> None:
    story = before_rotation()
    story.log.idle()
    story.disk.capacity_bytes -= story.disk.free_bytes(ROOT) - 4096
    writer = story.log.begin_snapshot(story.epoch, story.last_index)
    with pytest.raises(Refused):
        writer.write(b"block" * 1000)

    assert story.snapshot_files() == []
    story.append(1, b"ack").crash().start()


def test_room_counts_down_to_refusal_before_the_disk_is_full() -> None:
    story = Story(1).start()
    story.disk.capacity_bytes = 80 * 1024 * 1024
    roomy = story.log.room()
    story.disk.capacity_bytes = 64 * 1024 * 1024

    assert 0 < roomy < 80 * 1024 * 1024
    assert story.log.room() <= 0
    story.append(10, BODY)


def test_commit_larger_than_a_segment_gets_one_of_its_own_size() -> None:
    story = before_rotation().append(1, b"L" * 3 * SEGMENT_BYTES).append(2, BODY)
    story.crash().start()
