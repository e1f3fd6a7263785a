"""What an operator sees and may do: survey, verify, rebuild CURRENT, cut the log."""

from __future__ import annotations

import pytest

from headrace.log.file.current import read_current
from headrace.log.file.inspect import (
    Severity,
    rebuild_current,
    survey,
    truncate_at,
    verify,
)
from headrace.log.file.layout import Layout
from headrace.log.file.segment_format import SEGMENT_HEADER_BYTES, encode_commit
from headrace.log.file.segment_reader import SegmentFiles
from headrace.model.errors import (
    BadRequest,
    CurrentDamaged,
    HeadraceError,
    Locked,
    LogCorrupt,
    LogGap,
    UnsafeDirectory,
)
from headrace.testing.sim_disk import Fault, SimCrash
from headrace.testing.sim_env import SimEnv
from tests.recovery.story import ROOT, Story

BODY = b"five of these fill a segment" * 100


def lived() -> Story:
    story = Story(1).start().append(30, BODY)
    story.log.idle()
    return story


def base_name(path: str) -> str:
    return path.rpartition("/")[2]


def errors_of(story: Story, directory: str = ROOT) -> list[tuple[str, str, int]]:
    return [
        (finding.code, finding.path, finding.offset)
        for finding in verify(story.env, directory)
        if finding.severity is Severity.ERROR
    ]


# --- survey


def test_survey_of_a_live_directory_names_its_holder_and_its_end() -> None:
    story = lived()
    seen = survey(story.env, ROOT)

    assert (seen.problem, seen.in_use, seen.holder.pid, seen.holder.host) == ("", True, 1, "sim")
    assert (seen.last_index, seen.watermark.index) == (story.last_index, story.last_index)
    assert [row.name for row in seen.segments] == [base_name(path) for path in story.segments()]
    assert not seen.closed_clean
    assert seen.watermark_gap == 0
    assert seen.leader == "sim"


def test_survey_leaves_no_trace() -> None:
    story = lived()
    story.disk.trace.clear()
    survey(story.env, ROOT)
    list(verify(story.env, ROOT))

    changing = {"pwrite", "pwritev", "truncate", "rename", "unlink", "mkdir", "try_lock"}
    assert not changing & {method for method, _ in story.disk.trace}
    story.append(3)


def test_survey_knows_a_holder_that_is_gone() -> None:
    story = lived().kill()
    story.env.host = SimEnv(pid=2).host

    assert survey(story.env, ROOT).in_use is False


def test_survey_cannot_tell_about_a_holder_on_another_host() -> None:
    story = lived().kill()
    text = story.disk.peek(f"{ROOT}/LOCK").replace(b"host=sim", b"host=far")
    story.disk.poke(f"{ROOT}/LOCK", text)

    assert survey(story.env, ROOT).in_use is None


def test_survey_says_what_a_start_would_say() -> None:
    story = lived().kill()
    story.flip(story.segments()[-1], 600)
    seen = survey(story.env, ROOT)

    assert seen.problem.startswith("E-WAL-CORRUPT")
    assert len(seen.segments) == len(story.segments())
    with pytest.raises(LogCorrupt):
        story.start()


def test_survey_of_nothing_is_a_sentence() -> None:
    story = Story(1)
    assert survey(story.env, ROOT).problem == f"{ROOT} is missing."
    story.disk.mkdir(ROOT)

    assert "CURRENT is missing" in survey(story.env, ROOT).problem


# --- verify


def test_verify_of_a_whole_log_counts_and_finds_nothing() -> None:
    story = lived().snapshot()
    findings = list(verify(story.env, ROOT))

    assert [finding.severity for finding in findings] == [Severity.NOTE]
    assert "with 30 commits" in findings[-1].message
    assert "1 good snapshots" in findings[-1].message


def test_verify_names_every_damage_of_one_directory() -> None:
    story = lived().kill()
    first, second, *_, last = story.segments()
    for path, offset in ((first, 600), (second, 3600), (last, 700)):
        story.flip(path, offset)

    found = errors_of(story)
    assert [path for _, path, _ in found] == [first, second, last]
    assert {code for code, _, _ in found} == {"E-WAL-CORRUPT"}


def test_damaged_snapshot_is_an_error_only_when_nothing_else_leads_to_the_state() -> None:
    story = lived().snapshot().append(10, BODY).snapshot().append(1)
    older, newer = story.snapshot_files()
    story.flip(newer, 600)
    assert severities(story, newer) == [Severity.WARNING]

    story.flip(older, 600)
    assert severities(story, older) == [Severity.WARNING], "the log begins at index 1"
    story.flip(older, 600).flip(newer, 600).truncate()
    story.flip(older, 600).flip(newer, 600)
    assert severities(story, older) == severities(story, newer) == [Severity.ERROR]


def severities(story: Story, path: str) -> list[Severity]:
    return [finding.severity for finding in verify(story.env, ROOT) if finding.path == path]


def test_verify_of_a_commit_of_the_future_is_a_finding() -> None:
    story = lived()
    cursor = SegmentFiles(story.disk, Layout(ROOT), read_current(story.disk, Layout(ROOT)).ids)
    path = story.segments()[0]
    header = cursor.header(path)
    assert header is not None
    buffers, _ = encode_commit(
        story.acked[0],
        seed=header.seed,
        commit_no=1,
        prev_crc=0,
        epoch=story.epoch,
        flags=64,
    )
    content = story.disk.peek(path)
    changed = b"".join(buffers)
    end = SEGMENT_HEADER_BYTES + len(changed)
    story.disk.poke(path, content[:SEGMENT_HEADER_BYTES] + changed + content[end:])

    assert ("E-FORMAT-NEWER", path, 0) in errors_of(story)


def test_verify_warns_of_a_lost_watermark() -> None:
    story = lived().kill()
    story.disk.remove(f"{ROOT}/meta/WATERMARK")
    warnings = [
        finding.path for finding in verify(story.env, ROOT) if finding.severity is Severity.WARNING
    ]

    assert warnings == [f"{ROOT}/meta/WATERMARK"]


def test_verify_finds_a_missing_segment_and_reads_on() -> None:
    story = lived().kill()
    missing = story.segments()[1]
    story.disk.remove(missing)

    assert ("E-WAL-GAP", missing, 0) in errors_of(story)


def test_verify_notes_a_torn_tail_and_leftovers() -> None:
    story = lived()
    story.disk.faults = {story.disk.calls + 2: Fault(crash="before")}
    with pytest.raises(SimCrash):
        story.append(1, b"small")
    story.kill()
    path = story.segments()[-1]
    story.flip(path, story.used_bytes(path) - 1)
    story.disk.poke(f"{ROOT}/wal/spare.tmp", bytes(100))
    story.env.host = SimEnv(pid=2).host
    messages = [finding.message for finding in verify(story.env, ROOT)]

    assert errors_of(story) == []
    assert any("was being written" in message for message in messages)
    assert any("leftover" in message for message in messages)


def test_verify_of_a_foreign_directory_names_its_mode() -> None:
    story = lived()
    story.disk.set_owner(ROOT, mode=0o777, owner_uid=1000)

    assert errors_of(story) == [("E-DIRECTORY", ROOT, 0)]


def test_verify_of_nothing_is_no_good_news() -> None:
    """A backup that is not there must not look like one that is whole."""
    [finding] = verify(SimEnv(), "/nothing")

    assert (finding.severity, finding.code) == (Severity.ERROR, "E-DIRECTORY")


# --- rebuild CURRENT


@pytest.mark.parametrize("close", [True, False], ids=["closed", "killed"])
def test_rebuilt_current_recovers_everything(close: bool) -> None:
    story = lived().snapshot().append(10, BODY).snapshot().truncate().append(2)
    story = story.close() if close else story.kill()
    story.flip(f"{ROOT}/meta/CURRENT", 100)
    rebuilt = rebuild_current(story.env, ROOT)

    assert len(rebuilt.snapshots) == 2
    assert [name[:7] for name in story.disk.listdir(f"{ROOT}/lost+found")] == ["CURRENT"]
    epoch = story.epoch
    story.start()
    assert story.epoch.number > epoch.number
    story.append().crash().start()


def test_missing_current_is_rebuilt() -> None:
    story = lived().kill()
    story.disk.remove(f"{ROOT}/meta/CURRENT")
    rebuild_current(story.env, ROOT)

    story.start()


def test_rebuild_refuses_a_gap() -> None:
    story = lived().kill()
    story.disk.remove(story.segments()[1])

    with pytest.raises(LogGap):
        rebuild_current(story.env, ROOT)


def test_rebuild_passes_over_what_a_truncation_has_left() -> None:
    """A crash undid the removal of the first segment, and not that of the second."""
    story = lived().append(10, BODY).snapshot().append(10, BODY).snapshot()
    first, second = story.segments()[:2]
    content = story.disk.peek(first)
    story.truncate().append(2).kill()
    assert not {first, second} & set(story.segments())
    story.disk.poke(first, content)
    story.flip(f"{ROOT}/meta/CURRENT", 100)
    rebuild_current(story.env, ROOT)

    story.start()
    assert first not in story.segments()


def test_rebuild_refuses_a_segment_that_does_not_say_where_it_belongs() -> None:
    story = lived().kill()
    story.flip(story.segments()[-1], 20)

    with pytest.raises(LogCorrupt):
        rebuild_current(story.env, ROOT)


def test_rebuild_without_segments_is_refused() -> None:
    story = Story(1).start().kill()
    for path in story.segments():
        story.disk.remove(path)

    with pytest.raises(CurrentDamaged):
        rebuild_current(story.env, ROOT)


# --- cutting


def damaged_in_the_middle() -> tuple[Story, str, int]:
    """The story, and the place that the refusal names."""
    story = lived().kill()
    path = story.segments()[2]
    story.flip(path, 3600)
    with pytest.raises(LogCorrupt) as caught:
        story.start()
    story.kill()
    return story, caught.value.details["path"], caught.value.details["offset"]


def test_dry_run_says_what_would_go_and_changes_nothing() -> None:
    story, path, offset = damaged_in_the_middle()
    before = {name: story.disk.peek(name) for name in story.segments()}
    plan = truncate_at(story.env, ROOT, base_name(path), offset, dry_run=True)

    assert not plan.done
    assert plan.dropped == tuple(story.acked[-len(plan.dropped) :])
    assert plan.unreadable_bytes > 2000
    assert {name: story.disk.peek(name) for name in story.segments()} == before


def test_cut_ends_the_log_there_and_keeps_the_originals() -> None:
    story, path, offset = damaged_in_the_middle()
    originals = {base_name(name): story.disk.peek(name) for name in story.segments()}
    cut = truncate_at(story.env, ROOT, path, offset)

    assert cut.done
    kept = [commit for commit in story.acked if commit.first_index <= cut.last_index]
    assert len(kept) + 1 + len(cut.dropped) == len(story.acked), "one was unreadable"
    story.acked = kept
    for name in story.disk.listdir(f"{ROOT}/lost+found"):
        original = originals[name.removesuffix(".before-cut")]
        assert story.disk.peek(f"{ROOT}/lost+found/{name}") == original
    story.start().append(3).crash().start().close().start()
    assert errors_of(story) == []


def test_cut_accepts_a_lost_tail() -> None:
    story = lived().kill()
    path = story.segments()[-1]
    story.flip(path, story.used_bytes(path) - 10)
    end = survey_offset(story)
    cut = truncate_at(story.env, ROOT, path, end)
    story.acked = [commit for commit in story.acked if commit.first_index <= cut.last_index]

    story.start().append().crash().start()


def survey_offset(story: Story) -> int:
    with pytest.raises(HeadraceError) as caught:
        story.start()
    story.kill()
    return int(caught.value.details["offset"])


def test_cut_before_a_newer_snapshot_goes_on_after_the_snapshot() -> None:
    """The damage keeps replay from reaching what follows; the snapshot is not lost with it."""
    story = Story(1).start().append(3, BODY).snapshot().append(1, BODY).kill()
    index = story.last_index - story.acked[-1].record_count
    path = story.segments()[-1]
    story.flip(path, SEGMENT_HEADER_BYTES + 200)
    cut = truncate_at(story.env, ROOT, path, SEGMENT_HEADER_BYTES)

    assert (cut.last_index, cut.snapshot_index) == (index, index)
    assert cut.dropped == (story.acked[-1],)
    story.acked.pop()
    story.start().append(3).crash().start()
    assert errors_of(story) == []


def test_cut_inside_a_commit_names_the_nearest_place() -> None:
    story = lived().kill()
    path = story.segments()[0]

    with pytest.raises(BadRequest, match="offset 512"):
        truncate_at(story.env, ROOT, path, 700)


def test_cut_of_an_unknown_segment_names_those_there_are() -> None:
    story = lived().kill()

    with pytest.raises(BadRequest, match=base_name(story.segments()[0])):
        truncate_at(story.env, ROOT, "nonsense.wal", 512)


def test_repair_of_nothing_is_a_sentence_and_makes_nothing() -> None:
    story = Story(1)
    with pytest.raises(UnsafeDirectory, match="holds no headrace data"):
        rebuild_current(story.env, ROOT)
    with pytest.raises(UnsafeDirectory, match="holds no headrace data"):
        truncate_at(story.env, ROOT, "any.wal", 512)

    assert story.disk.stat(ROOT) is None


def test_repair_of_a_directory_in_use_is_locked() -> None:
    story = lived()

    with pytest.raises(Locked, match="process 1 on host sim"):
        truncate_at(story.env, ROOT, story.segments()[0], 512)
    with pytest.raises(Locked):
        rebuild_current(story.env, ROOT)


def test_crash_in_the_middle_of_a_cut_is_mended_by_repeating_it() -> None:
    story, path, offset = damaged_in_the_middle()
    story.disk.trace.clear()
    story.disk.copy_tree(ROOT, "/as-it-was")
    truncate_at(story.env, ROOT, path, offset)
    calls = len(story.disk.trace)
    acked = story.acked
    for number in range(1, calls + 1):
        story.disk.remove(ROOT)
        story.disk.copy_tree("/as-it-was", ROOT)
        story.disk.faults = {story.disk.calls + number: Fault(crash="before")}
        with pytest.raises(SimCrash):
            truncate_at(story.env, ROOT, path, offset)
        story.crash()
        cut = truncate_at(story.env, ROOT, path, offset)
        story.acked = [commit for commit in acked if commit.first_index <= cut.last_index]
        story.start().kill()
