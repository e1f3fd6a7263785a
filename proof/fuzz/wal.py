"""Seeded lives of a log on a simulated disk: cut anywhere, or rotten afterwards.

A life that was cut loses nothing that was promised and stops no start. Rot is never silent
and never a traceback: a start that stops names the stop code, the file and the offset that
follow from what was damaged, `verify` names the same, and after the repair that the message
advises the directory is clean again and holds what was before the cut.

What must be said about a damaged place is worked out here from the content as it was, by
rule W1 (a commit is written only after the one before it is durable), not by the table of
recovery.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import msgspec

from headrace.log.base import Commit
from headrace.log.file.current import Current, read_current
from headrace.log.file.layout import Layout, base_name
from headrace.log.file.repair import rebuild_current, truncate_at
from headrace.log.file.segment_format import (
    BODY_OFFSET,
    COMMIT_ALIGN_BYTES,
    SEGMENT_HEADER_BYTES,
    StoredCommit,
    decode_segment_header,
)
from headrace.log.file.segment_reader import SegmentCursor
from headrace.log.file.verify import Finding, Severity, verify
from headrace.log.file.watermark import read_watermark
from headrace.model.errors import CurrentDamaged, NoSnapshot, StopError
from headrace.testing.sim_disk import SECTOR_BYTES, Fault, SimCrash
from proof.fuzz.target import expect
from tests.recovery.story import ROOT, Story

CALLS_OF_A_STEP_MAX = 40
QUOTED_BYTES_MAX = 2_560
WAYS = ("bit", "bit", "sector", "end", "drop", "twin")


def run_case(seed: int) -> str:
    """How one life ended. Raises: `Broken`, and whatever should not have been raised."""
    return cut_life(seed) if seed % 2 == 0 else rotten_life(seed)


def run_cases(seeds: Iterable[int]) -> Counter[str]:
    """Ends of these lives, counted. The first failure is raised on, with its seed."""
    outcomes: Counter[str] = Counter()
    for seed in seeds:
        try:
            outcomes[run_case(seed)] += 1
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise
    return outcomes


# --- lives that were cut


def cut_life(seed: int) -> str:
    """Appends, rotations, snapshots, truncation, starts and closes, cut anywhere; twice."""
    story = Story(seed)
    story.start()
    for _ in range(2):
        live_and_crash(story)
        story.start()
    story.append().close()
    if seed % 4:
        story.crash()
    story.start()
    expect(not errors_of(story), "a log that was cut is sound", found=errors_of(story))
    return "cut"


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
    if chance < 0.04:
        story.append(1, quotation(story))
    elif chance < 0.85:
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


def quotation(story: Story) -> bytes:
    """A body with a segment of this very log in it, where its commits would begin in a file.

    Salt and checksums fit; torn off its own header, such a body must not pass for commits.
    """
    segment = story.disk.peek(story.rng.choice(story.segments()))
    return bytes(-BODY_OFFSET % COMMIT_ALIGN_BYTES) + segment[:QUOTED_BYTES_MAX]


# --- lives that rot


class Damage(msgspec.Struct, frozen=True):
    """One segment as it was, and as it is."""

    path: str
    before: bytes
    after: bytes | None
    """None: it is gone."""


class Recovered(msgspec.Struct, frozen=True):
    """What a start has given."""

    index: int
    """Of the snapshot; 0 without one."""
    commits: list[Commit]

    @property
    def last_index(self) -> int:
        last = self.commits[-1] if self.commits else None
        return last.first_index + last.record_count - 1 if last else self.index

    def promised(self, story: Story) -> list[Commit]:
        """What was acknowledged behind the snapshot."""
        return [commit for commit in story.acked if commit.first_index > self.index]


class Place(msgspec.Struct, frozen=True):
    """Where the damage begins that a reader can see."""

    offset: int
    codes: frozenset[str]
    """One of these stops a start that reads it."""


def rotten_life(seed: int) -> str:
    story = Story(seed)
    live_a_while(story)
    chance = story.rng.random()
    if chance < 0.08:
        return rotten_current(story)
    if chance < 0.16:
        return rotten_watermark(story)
    if chance < 0.3 and listed(story).snapshots:
        return rotten_snapshot(story)
    return rotten_segment(story)


def rotten_segment(story: Story) -> str:
    known_durable = watermark_of(story)
    damage = damaged(story)
    place = place_of(damage)
    found = started(story)
    if isinstance(found, Recovered):
        return _whole(story, found, known_durable, damage, place)
    error = found
    expect(place is not None, "what is whole stops nothing", error=str(error))
    assert place is not None
    expect(error.stop_code in place.codes, "the code fits", code=error.stop_code, place=place)
    expect(error.details.get("path") == damage.path, "the file is named", details=error.details)
    offset = error.details.get("offset", 0)
    expect(offset == place.offset, "the place is found", found=offset, expected=place.offset)
    verified = {(one.code, one.path, one.offset) for one in errors_of(story)}
    same = (error.stop_code, damage.path, offset) in verified
    expect(same, "verify says the same", found=verified, error=str(error))
    return f"stopped {error.stop_code}, {_repaired(story, damage.path, offset)}"


def rotten_current(story: Story) -> str:
    """Whatever bit: nothing starts, the repair that is named makes it anew, nothing is lost."""
    path = Layout(ROOT).current
    flip_some_bit(story, path)
    error = started(story)
    expect(isinstance(error, CurrentDamaged), "a damaged CURRENT stops", found=error)
    assert isinstance(error, CurrentDamaged)
    expect(error.details.get("path") == path, "the file is named", details=error.details)
    verified = [(one.code, one.path) for one in errors_of(story)]
    expect(verified == [("E-CURRENT", path)], "verify says the same", found=verified)
    rebuild_current(story.kill().env, ROOT)
    story.kill()
    expect(not errors_of(story), "clean after the repair", found=errors_of(story))
    _expect_all(story, "after CURRENT was made anew")
    return "stopped E-CURRENT, repaired"


def rotten_watermark(story: Story) -> str:
    """Whatever bit: a protection less, and nothing else."""
    flip_some_bit(story, Layout(ROOT).watermark)
    expect(not errors_of(story), "a damaged WATERMARK is no error", found=errors_of(story))
    _expect_all(story, "without a slot of the watermark")
    return "whole, a slot of the watermark gone"


def rotten_snapshot(story: Story) -> str:
    """The one before it, or the log, takes its place; where neither does, that is said."""
    current = listed(story)
    paths = [ref.path(Layout(ROOT)) for ref in current.snapshots]
    if story.rng.random() < 0.5:
        paths = [story.rng.choice(paths)]
    for path in paths:
        flip_some_bit(story, path)
    seen = {one.path: one for one in verify(story.env, ROOT) if one.code == "E-SNAP-NONE"}
    expect(sorted(seen) == sorted(paths), "verify sees each of them", found=seen)
    is_lost = len(paths) == len(current.snapshots) and current.segments[0].first_index > 1
    found = started(story)
    if is_lost:
        expect(isinstance(found, NoSnapshot), "the code fits", found=found)
        worst = {one.severity for one in seen.values()}
        expect(worst == {Severity.ERROR}, "verify says that one is needed", found=seen)
        return "stopped E-SNAP-NONE, a backup is needed"
    expect(isinstance(found, Recovered), "it starts from what is good", found=str(found))
    assert isinstance(found, Recovered)
    expect(found.commits == found.promised(story), "nothing is missing behind the snapshot")
    expect(story.snapshot_files()[-1:] != paths[-1:], "a damaged one is set aside when needed")
    return "whole, without a damaged snapshot"


def flip_some_bit(story: Story, path: str) -> None:
    story.flip(path, story.rng.randrange(len(story.disk.peek(path))), story.rng.randrange(8))


def _expect_all(story: Story, when: str) -> None:
    found = started(story)
    expect(isinstance(found, Recovered), f"it starts {when}", found=str(found))
    assert isinstance(found, Recovered)
    expect(found.commits == found.promised(story), f"nothing is missing {when}")


def live_a_while(story: Story) -> None:
    story.start()
    for _ in range(story.rng.randint(2, 30)):
        story.append()
        if story.rng.random() < 0.05:
            story.snapshot()
            if story.rng.random() < 0.5:
                story.truncate()
        if story.rng.random() < 0.3:
            story.log.idle()
    if story.rng.random() < 0.3:
        story.close()
    if story.rng.random() < 0.5:
        story.crash()
    else:
        story.kill().disk.sync_all()


def damaged(story: Story) -> Damage:
    """One segment loses a bit, a sector, its end or itself, or becomes another one's twin."""
    path = story.rng.choice(story.segments())
    before = story.disk.peek(path)
    content = bytearray(before)
    place = story.rng.randrange(max(story.used_bytes(path), 1))
    kind = story.rng.choice(WAYS)
    if kind == "bit":
        content[place] ^= 1 << story.rng.randrange(8)
    elif kind == "sector":
        start = place - place % SECTOR_BYTES
        content[start : start + SECTOR_BYTES] = bytes(len(content[start : start + SECTOR_BYTES]))
    elif kind == "end":
        content[place:] = bytes(len(content) - place)
    elif kind == "drop":
        story.disk.remove(path)
        return Damage(path, before, None)
    elif kind == "twin":
        content = bytearray(story.disk.peek(story.rng.choice(story.segments())))
    story.disk.poke(path, bytes(content))
    return Damage(path, before, bytes(content))


def place_of(damage: Damage) -> Place | None:
    """The first commit whose checksums do not cover what is there now; None when none is."""
    after = damage.after
    if after is None:
        return Place(0, frozenset({"E-WAL-GAP"}))
    front = SEGMENT_HEADER_BYTES
    if after[:front] != damage.before[:front]:
        is_another = decode_segment_header(after, damage.path) is not None
        return Place(0, frozenset({"E-WAL-GAP" if is_another else "E-WAL-CORRUPT"}))
    for stored in commits_of(damage.before):
        end = stored.offset + BODY_OFFSET + len(stored.commit.body)
        if after[stored.offset : end] != damage.before[stored.offset : end]:
            return Place(stored.offset, frozenset({"E-WAL-CORRUPT", "E-WAL-TAIL"}))
    return None


def commits_of(content: bytes) -> list[StoredCommit]:
    header = decode_segment_header(content, "")
    assert header is not None
    return list(SegmentCursor(header, content))


def started(story: Story) -> StopError | Recovered:
    """What a start has given, or why it was refused."""
    try:
        story.log = story.new_log()
        story.log.open()
        story.epoch = story.log.lead("sim")
        snapshot, commits = story.log.recover()
        return Recovered(snapshot.info.index if snapshot else 0, list(commits))
    except StopError as error:
        return error


def _whole(
    story: Story, found: Recovered, known_durable: int, damage: Damage, place: Place | None
) -> str:
    """It started: what is missing is at most the end, and never what the watermark names."""
    promised = found.promised(story)
    expect(found.commits == promised[: len(found.commits)], "only the end may be gone")
    if found.commits != promised:
        kept = found.last_index >= known_durable
        expect(kept, "what the watermark names is never given up silently")
        return "tail lost within the lag"
    if place is None:
        return "whole"
    places = {(one.path, one.offset) for one in errors_of(story)}
    is_seen = (damage.path, place.offset) in places or damage.path not in story.segments()
    is_last = damage.path == story.segments()[-1]
    expect(is_seen or is_last, "verify sees what a start passes over", place=place, found=places)
    return "whole, and verify sees the damage"


def _repaired(story: Story, path: str, offset: int) -> str:
    """The log was cut as the message advises, and is clean and as long as it says."""
    story.kill()
    cut = cut_for(story, path, offset)
    if cut is None:
        return "a backup is needed"
    done = truncate_at(story.env, ROOT, *cut)
    story.kill()
    expect(not errors_of(story), "clean after the repair", found=errors_of(story), cut=cut)
    found = started(story)
    expect(isinstance(found, Recovered), "it starts after the repair", error=str(found))
    assert isinstance(found, Recovered)
    promised = found.promised(story)[: len(found.commits)]
    expect(found.commits == promised, "what lay before the cut is there")
    end = found.last_index
    expect(end == done.last_index, "as much as the repair has said", end=end, done=done)
    return "repaired"


def cut_for(story: Story, path: str, offset: int) -> tuple[str, int] | None:
    """Where to cut: at the place, or behind the segment before a file of which nothing is left."""
    if offset >= SEGMENT_HEADER_BYTES:
        return base_name(path), offset
    names = [ref.path(Layout(ROOT)) for ref in listed(story).segments]
    before = [one for one in names if one < path]
    if not before:
        return None
    commits = commits_of(story.disk.peek(before[-1]))
    end = commits[-1].end_offset if commits else SEGMENT_HEADER_BYTES
    return base_name(before[-1]), end


def listed(story: Story) -> Current:
    """What CURRENT says is there; a crash may have left more."""
    return read_current(story.disk, Layout(ROOT))


def errors_of(story: Story) -> list[Finding]:
    return [one for one in verify(story.env, ROOT) if one.severity is Severity.ERROR]


def watermark_of(story: Story) -> int:
    """Index that the watermark on the medium names."""
    log = story.new_log()
    info = log.open(read_only=True)
    ids = info.cluster_id, info.node_id
    return read_watermark(story.disk, Layout(ROOT), ids).index
