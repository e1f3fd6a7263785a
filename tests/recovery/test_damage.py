"""What each kind of damage to a directory gets: a sentence to act on, or a repair."""

from __future__ import annotations

import msgspec
import pytest

from headrace.log.base import Commit
from headrace.log.file.current import read_current, write_current
from headrace.log.file.layout import Layout
from headrace.log.file.segment_format import (
    BODY_OFFSET,
    COMMIT_ALIGN_BYTES,
    SEGMENT_HEADER_BYTES,
)
from headrace.model.errors import (
    CurrentDamaged,
    IdMismatch,
    LogCorrupt,
    LogGap,
    LogTailLost,
    NoSnapshot,
    StopError,
)
from headrace.testing.sim_disk import Fault, SimCrash
from tests.recovery.story import ROOT, Story, blocks_of

BODY = b"ten of these fill more than one segment" * 30


def lived(seed: int = 1) -> Story:
    """Three segments and more, closed by nobody, all of it on the medium."""
    story = Story(seed).start().append(40, BODY)
    story.log.idle()
    story.kill().disk.sync_all()
    assert len(story.segments()) >= 3
    return story


def refused(story: Story, error: type[StopError]) -> StopError:
    with pytest.raises(error) as caught:
        story.start()
    return caught.value


# --- torn tails


def test_torn_tail_is_saved_to_lost_found_and_reported() -> None:
    story = Story(5).start().append(3, BODY)
    path = story.segments()[-1]
    used = story.used_bytes(path)
    end = used + -used % 64
    story.kill()
    content = bytearray(story.disk.peek(path))
    content[end + 70 : end + 90] = b"torn bytes of nobody"
    story.disk.poke(path, bytes(content))
    log = story.new_log()
    opened = log.open()
    log.lead("sim")

    assert (opened.clean, opened.dropped_bytes) == (False, 90)
    saved = story.disk.listdir(f"{ROOT}/lost+found")
    assert saved == [f"{path.rpartition('/')[2]}-{end}.torn"]
    assert story.disk.peek(f"{ROOT}/lost+found/{saved[0]}").endswith(b"torn bytes of nobody")
    assert list(log.recover()[1]) == story.acked


def test_every_cut_of_the_newest_commit_leaves_the_others() -> None:
    """The file as a crash leaves it when the commit's first n bytes arrived, for all n."""
    story = Story(3).start().append(2, b"x" * 100)
    path = story.segments()[-1]
    before = story.disk.peek(path)
    story.pending = story.next_commit(b"y" * 200)
    story.log.append(story.epoch, story.pending)
    after = story.disk.peek(path)
    first = next(at for at in range(len(after)) if after[at] != before[at])
    last = max(at for at in range(len(after)) if after[at] != before[at])
    story.kill().disk.remove(f"{ROOT}/meta/WATERMARK")
    story.disk.copy_tree(ROOT, "/as-it-was")
    acked, pending = story.acked, story.pending
    for cut in range(first, last + 2):
        story.disk.poke(path, after[:cut] + before[cut:])
        story.acked, story.pending = list(acked), pending
        story.start()

        assert len(story.acked) == (3 if cut == last + 1 else 2)
        story.kill().disk.remove(ROOT)
        story.disk.copy_tree("/as-it-was", ROOT)


@pytest.mark.parametrize("quoted_commits", [4, 20])
def test_payload_that_holds_bytes_of_a_log_is_no_commit(quoted_commits: int) -> None:
    """Torn behind its header, such a commit must not pass for those it quotes, nor prove by
    their later numbers that it had been durable."""
    other = Story(8).start().append(quoted_commits, BODY)
    quoted = bytes(-BODY_OFFSET % COMMIT_ALIGN_BYTES)
    quoted += other.disk.peek(other.segments()[-1])[SEGMENT_HEADER_BYTES:6000]
    story = Story(7).start().append(4, BODY)
    story.disk.faults = {story.disk.calls + 1: Fault(crash="after")}
    story.pending = story.next_commit(quoted)
    with pytest.raises(SimCrash):
        story.log.append(story.epoch, story.pending)
    story.kill()
    path = story.segments()[-1]
    content = bytearray(story.disk.peek(path))
    start = content.rfind(story.pending.commit_id) - 64
    content[start : start + 64] = bytes(64)
    story.disk.poke(path, bytes(content))

    story.start()
    assert len(story.acked) == 4


# --- rot of what was durable


def test_flipped_bit_in_the_middle_is_corruption_at_its_place() -> None:
    story = lived()
    path = story.segments()[-1]
    error = refused(story.flip(path, SEGMENT_HEADER_BYTES + 100), LogCorrupt)

    assert (error.details["path"], error.details["offset"]) == (path, SEGMENT_HEADER_BYTES)
    name = path.rpartition("/")[2]
    assert f"headrace repair {ROOT} --truncate-at {name}:{SEGMENT_HEADER_BYTES}" in str(error)
    assert "a later commit is at offset" in str(error)


def test_flipped_bit_in_a_sealed_segment_is_corruption() -> None:
    story = lived()
    path = story.segments()[1]

    assert refused(story.flip(path, 1000), LogCorrupt).details["path"] == path


@pytest.mark.parametrize("offset", [0, 17, 60, 110, 400, 511])
def test_flipped_bit_in_a_segment_header_is_corruption(offset: int) -> None:
    story = lived()
    path = story.segments()[1]

    assert refused(story.flip(path, offset), LogCorrupt).details["offset"] == 0


def test_rot_of_the_newest_commit_is_told_from_a_torn_tail_by_the_watermark() -> None:
    story = lived()
    path = story.segments()[-1]
    error = refused(story.flip(path, story.used_bytes(path) - 10), LogTailLost)

    assert error.stop_code == "E-WAL-TAIL"
    assert "headrace backup" in str(error)


def test_rot_behind_a_clean_end_is_corruption() -> None:
    story = Story(2).start().append(3, BODY).close()
    path = story.segments()[-1]
    story.disk.poke(path, story.disk.peek(path) + b"rot")

    refused(story, LogCorrupt)


@pytest.mark.parametrize("which", [0, 1, -1])
def test_missing_segment_is_a_gap_that_is_named(which: int) -> None:
    story = lived()
    path = story.segments()[which]
    story.disk.remove(path)
    error = refused(story, LogGap)

    assert error.details["path"] == path
    assert path.rpartition("/")[2] in str(error)


def test_segment_under_the_name_of_another_is_a_gap() -> None:
    story = lived()
    first, second, *_ = story.segments()
    story.disk.poke(second, story.disk.peek(first))

    assert "not the segment that its name says" in str(refused(story, LogGap))


def test_newest_segment_replaced_by_an_older_one_is_a_gap() -> None:
    story = lived()
    story.disk.remove(f"{ROOT}/meta/WATERMARK")
    story.disk.poke(story.segments()[-1], story.disk.peek(story.segments()[-2]))

    assert "not the segment that its name says" in str(refused(story, LogGap))


def test_segment_between_two_others_cannot_be_left_out() -> None:
    """Even when CURRENT says so."""
    story = lived()
    current = read_current(story.disk, Layout(ROOT))
    first, second, *others = current.segments
    story.disk.remove(second.path(Layout(ROOT)))
    shorter = msgspec.structs.replace(current, segments=(first, *others))
    write_current(story.disk, Layout(ROOT), shorter)

    assert "does not continue" in str(refused(story, LogGap))


def test_commit_written_over_another_is_corruption() -> None:
    """A disk that wrote a whole commit to the wrong place: every checksum is right."""
    story = Story(4).start().append(3, b"same length")
    path = story.segments()[-1]
    content = bytearray(story.disk.peek(path))
    length = 128
    first = SEGMENT_HEADER_BYTES
    content[first + length : first + 2 * length] = content[first : first + length]
    story.kill().disk.poke(path, bytes(content))
    error = refused(story, LogCorrupt)

    assert "expected commit 2 (index" in str(error)
    assert "found commit 1 (index 1)" in str(error)


def test_damage_before_the_newest_snapshot_does_not_stop_a_start() -> None:
    story = Story(6).start().append(40, BODY).snapshot().append(2, BODY)
    story.kill().disk.sync_all()
    story.flip(story.segments()[0], 1000)

    story.start()


# --- files of other versions and other nodes


def test_segment_of_another_node_is_refused() -> None:
    story, stranger = lived(1), lived(2)
    path = story.segments()[-1]
    story.disk.poke(path, stranger.disk.peek(stranger.segments()[-1]))

    assert "belongs to cluster" in str(refused(story, IdMismatch))


def test_watermark_of_another_node_is_refused() -> None:
    story, stranger = lived(1), lived(2)
    path = f"{ROOT}/meta/WATERMARK"
    story.disk.poke(path, stranger.disk.peek(path))

    refused(story, IdMismatch)


# --- CURRENT and WATERMARK


@pytest.mark.parametrize("offset", [0, 14, 40, 200])
def test_damaged_current_names_its_repair(offset: int) -> None:
    story = lived()
    error = refused(story.flip(f"{ROOT}/meta/CURRENT", offset), CurrentDamaged)

    assert f"headrace repair {ROOT} --rebuild-current" in str(error)


def test_missing_current_beside_segments_is_no_new_log() -> None:
    story = lived()
    story.disk.remove(f"{ROOT}/meta/CURRENT")

    refused(story, CurrentDamaged)


def test_old_current_beside_a_newer_watermark_loses_nothing_silently() -> None:
    """CURRENT restored from an old copy: the segments it does not know continue it."""
    story = Story(8).start()
    old = story.disk.peek(f"{ROOT}/meta/CURRENT")
    story.append(40, BODY)
    story.kill().disk.poke(f"{ROOT}/meta/CURRENT", old)

    story.start()


def test_old_current_beside_a_damaged_newer_segment_stops() -> None:
    """What CURRENT does not list is not a leftover when it may hold commits."""
    story = Story(8).start().append(3, BODY)
    old = story.disk.peek(f"{ROOT}/meta/CURRENT")
    while len(story.segments()) < 2:
        story.append(1, BODY)
    story.append(2, BODY).kill().disk.poke(f"{ROOT}/meta/CURRENT", old)
    path = story.segments()[-1]
    error = refused(story.flip(path, SEGMENT_HEADER_BYTES + 100), LogCorrupt)

    assert error.details["path"] == path


def test_damaged_watermark_stops_nothing() -> None:
    story = lived()
    for offset in (20, 532):
        story.flip(f"{ROOT}/meta/WATERMARK", offset)

    story.start()


def test_missing_watermark_stops_nothing() -> None:
    story = lived()
    story.disk.remove(f"{ROOT}/meta/WATERMARK")

    story.start().append().kill().start()


# --- snapshots


def with_two_snapshots() -> Story:
    story = Story(9).start().append(20, BODY).snapshot().append(20, BODY).snapshot()
    return story.append(2, BODY).kill()


@pytest.mark.parametrize("offset", [0, 100, 600, -1, -70])
def test_damaged_newest_snapshot_is_set_aside_for_the_one_before(offset: int) -> None:
    story = with_two_snapshots()
    older, newest = story.snapshot_files()
    story.flip(newest, offset).start()

    assert story.snapshot_files() == [older]
    assert story.disk.listdir(f"{ROOT}/lost+found") == [newest.rpartition("/")[2] + ".corrupt"]
    story.append().snapshot().close().start()


def test_cut_snapshot_is_set_aside_for_the_one_before() -> None:
    story = with_two_snapshots()
    newest = story.snapshot_files()[-1]
    story.disk.poke(newest, story.disk.peek(newest)[:-200])

    story.start()
    assert len(story.snapshot_files()) == 1


def test_truncation_keeps_every_commit_that_the_older_snapshot_needs() -> None:
    """For each place of the older snapshot in its segment, should the newer one be damaged."""
    for older in range(1, 16):
        story = Story(1).start()
        story.records_max = 1
        story.append(older, BODY).snapshot().append(40 - older, BODY).snapshot().truncate().append(
            1, BODY
        ).kill()
        story.flip(story.snapshot_files()[-1], 600).start()


def test_without_a_snapshot_a_whole_log_is_replayed() -> None:
    story = with_two_snapshots()
    for path in story.snapshot_files():
        story.flip(path, 600)

    story.start()
    assert story.snapshot_files() == []


def test_without_a_snapshot_a_truncated_log_is_refused_and_kept() -> None:
    story = with_two_snapshots().start().truncate().kill()
    for path in story.snapshot_files():
        story.flip(path, 600)
    refused(story, NoSnapshot)

    assert len(story.snapshot_files()) == 2
    assert story.disk.listdir(f"{ROOT}/lost+found") == []


def test_snapshot_ahead_of_its_log_is_a_lost_tail() -> None:
    """Segments and WATERMARK from an older copy, snapshots from a newer one."""
    story = Story(10).start().append(1, BODY)
    story.log.idle()
    older = story.disk.peek(story.segments()[-1]), story.disk.peek(f"{ROOT}/meta/WATERMARK")
    story.append(2, BODY).snapshot().kill()
    story.disk.poke(story.segments()[-1], older[0])
    story.disk.poke(f"{ROOT}/meta/WATERMARK", older[1])

    assert "snapshot of index" in str(refused(story, LogTailLost))


def test_snapshot_inside_a_commit_is_refused() -> None:
    story = Story(11).start()
    story.acked = [Commit(b"i" * 16, 1, 10, 1, BODY)]
    story.log.append(story.epoch, story.acked[0])
    writer = story.log.begin_snapshot(story.epoch, 5)
    for block in blocks_of(5):
        writer.write(block)
    writer.publish()
    story.kill()

    assert "no commit that begins at index 6" in str(refused(story, LogCorrupt))
