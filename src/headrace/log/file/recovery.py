"""Looking at a directory: which segments count, where the log ends, what must go.

Must never change anything: `open` and the operator's tools look, only `lead` acts
(`mending`). What each combination of facts means is in `recovery_table`.

Only the last segment is read here; those before it are verified while they are read
(`read_commits`), so a start reads each byte of the log once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from headrace.log.base import Commit
from headrace.log.file.current import Current, SegmentRef, read_current
from headrace.log.file.layout import TEMPORARY, Layout, advise_copy, parse_segment_name
from headrace.log.file.recovery_table import (
    SegmentFacts,
    StrayFacts,
    StrayVerdict,
    Verdict,
    judge_segment,
    judge_stray,
)
from headrace.log.file.segment_format import NO_COMMIT_ID, SegmentHeader
from headrace.log.file.segment_reader import SegmentCursor, SegmentEnd, SegmentFiles, links
from headrace.log.file.stops import stop_for
from headrace.log.file.watermark import Watermark, read_watermark
from headrace.model.env import Disk
from headrace.model.errors import LogGap, LogTailLost, StopError
from headrace.model.limits import READ_ONLY_TRIES_MAX


class Found(msgspec.Struct, frozen=True):
    """What a directory holds; nothing has been changed yet."""

    current: Current
    watermark: Watermark
    segments: tuple[SegmentRef, ...]
    """Those of CURRENT, and those that continue them."""
    tail: SegmentCursor | None
    """At the end of the last segment; None when there is no segment."""
    verdict: Verdict
    """END or CUT."""
    last_commit_id: bytes
    """Of the last commit that is no marker; zeros when there is none."""
    epoch_max: int
    doomed: tuple[str, ...]
    """Paths of leftovers to delete."""
    set_aside: tuple[str, ...]
    """Paths to move to lost+found."""

    @property
    def clean(self) -> bool:
        """The last leader closed the log; a CURRENT that misses a segment does not know."""
        return self.current.clean and self.segments == self.current.segments

    @property
    def end(self) -> SegmentEnd | None:
        return None if self.tail is None else self.tail.end()

    @property
    def torn(self) -> bytes:
        return b"" if self.tail is None or self.verdict is Verdict.END else self.tail.rest()


class _Scan(msgspec.Struct):
    """One segment, read to its end."""

    ref: SegmentRef
    cursor: SegmentCursor | None
    last_commit_id: bytes = NO_COMMIT_ID
    epoch_max: int = 0


def look(disk: Disk, layout: Layout, *, live: bool = False) -> Found:
    """Raises: what `Log.open` may raise, and `FileNotFoundError` when there is no CURRENT.

    `live`: another process may be writing; use `look_again`. The watermark is read before
    the segments, so a commit made meanwhile cannot seem lost.
    """
    current = read_current(disk, layout)
    try:
        return _look_at(disk, layout, current, live)
    except FileNotFoundError as error:
        raise LogGap(
            f"{error.filename} is missing, though {layout.current} is there.",
            hint=advise_copy(layout.root),
        ) from error


def _look_at(disk: Disk, layout: Layout, current: Current, live: bool) -> Found:
    files = SegmentFiles(disk, layout, current.ids)
    watermark = read_watermark(disk, layout, current.ids)
    names = disk.listdir(layout.wal)
    _refuse_missing(layout, current, names)
    from_medium = not live and not current.clean
    scan = _scan(files, current.segments[-1], from_medium) if current.segments else None
    strays = _Strays(files, current, from_medium)
    scan = strays.sort(names, scan)
    segments = current.segments + tuple(strays.adopted)
    clean = current.clean and not strays.adopted
    verdict = _judge_end(layout, scan, current, watermark, clean)
    return Found(
        current=current,
        watermark=watermark,
        segments=segments,
        tail=scan.cursor if scan else None,
        verdict=verdict,
        last_commit_id=_last_commit_id(files, segments, scan),
        epoch_max=max(current.epoch_number, scan.epoch_max if scan else 0),
        doomed=(*strays.doomed, *_temporaries(disk, layout)),
        set_aside=tuple(strays.set_aside),
    )


def look_again(disk: Disk, layout: Layout) -> Found:
    """`look` at a directory that another process may be changing: damage must stay to count.

    Raises: as `look`.
    """
    for _ in range(READ_ONLY_TRIES_MAX - 1):
        try:
            return look(disk, layout, live=True)
        except (FileNotFoundError, StopError):
            continue
    return look(disk, layout, live=True)


def _refuse_missing(layout: Layout, current: Current, names: Sequence[str]) -> None:
    there = {parse_segment_name(name) for name in names}
    for ref in current.segments:
        if (ref.first_index, ref.segment_no) not in there:
            raise stop_for(Verdict.MISSING, ref.path(layout))


def _scan(files: SegmentFiles, ref: SegmentRef, from_medium: bool) -> _Scan:
    scan = _Scan(ref, files.cursor(ref.path(files.layout), from_medium=from_medium))
    for stored in scan.cursor or ():
        scan.epoch_max = max(scan.epoch_max, stored.epoch.number)
        if not stored.is_marker:
            scan.last_commit_id = stored.commit.commit_id
    return scan


class _Strays:
    """Segments that CURRENT does not list, in order of their numbers."""

    def __init__(self, files: SegmentFiles, current: Current, from_medium: bool) -> None:
        self._files = files
        self._listed = {ref.segment_no for ref in current.segments}
        self._from_medium = from_medium
        self.adopted: list[SegmentRef] = []
        self.doomed: list[str] = []
        self.set_aside: list[str] = []

    def sort(self, names: Sequence[str], scan: _Scan | None) -> _Scan | None:
        """The scan of the last segment that counts."""
        found = [parsed for name in names if (parsed := parse_segment_name(name))]
        for first_index, segment_no in sorted(found, key=lambda parsed: parsed[1]):
            if segment_no not in self._listed:
                scan = self._place(first_index, segment_no, scan)
        return scan

    def _place(self, first_index: int, segment_no: int, scan: _Scan | None) -> _Scan | None:
        path = self._files.layout.segment(first_index, segment_no)
        newer = segment_no > max(self._listed, default=0)
        cursor = self._files.cursor(path, from_medium=self._from_medium) if newer else None
        facts = StrayFacts(
            newer=newer,
            header_valid=cursor is not None,
            linked=cursor is not None and _continues(cursor.header, scan),
            holds_commits=cursor is not None and _holds_commits(cursor),
        )
        verdict = judge_stray(facts)
        if verdict is StrayVerdict.DELETE:
            self.doomed.append(path)
        elif verdict is StrayVerdict.SET_ASIDE:
            self.set_aside.append(path)
        elif verdict is StrayVerdict.STOP:
            before = scan.cursor.end() if scan and scan.cursor else None
            raise stop_for(Verdict.UNLINKED, path, cursor=cursor, before=before)
        else:
            assert cursor is not None
            ref = SegmentRef(segment_no, first_index, cursor.header.first_commit_no)
            self.adopted.append(ref)
            return _scan(self._files, ref, self._from_medium)
        return scan


def _holds_commits(cursor: SegmentCursor) -> bool:
    """Or something that may have been one: `_scan` judges it."""
    return cursor.read() is not None or bool(cursor.rest())


def _continues(header: SegmentHeader, scan: _Scan | None) -> bool:
    if scan is None:
        return header.prev_segment_no == 0
    return scan.cursor is not None and links(header, scan.cursor.end())


def _judge_end(
    layout: Layout, scan: _Scan | None, current: Current, watermark: Watermark, clean: bool
) -> Verdict:
    """END or CUT. Raises: `LogCorrupt`; `LogTailLost`.

    A listed snapshot proves what a watermark does: its index was durable before it was listed.
    """
    snapshot_index = max((ref.index for ref in current.snapshots), default=0)
    if scan is None:
        if watermark.commit_no:
            raise LogTailLost(
                f"{layout.current} lists no segment, but commit {watermark.commit_no} (index "
                f"{watermark.index}) was durable.",
                hint=advise_copy(layout.root),
            )
        return Verdict.END
    cursor = scan.cursor
    facts = facts_at(
        scan.ref,
        cursor,
        before=None,
        last=True,
        below_watermark=cursor is not None
        and (
            cursor.next_commit_no - 1 < watermark.commit_no
            or cursor.next_index - 1 < snapshot_index
        ),
        closed_clean=clean,
    )
    verdict = judge_segment(facts)
    if verdict in (Verdict.END, Verdict.CUT):
        return verdict
    raise stop_for(
        verdict,
        scan.ref.path(layout),
        cursor=cursor,
        watermark=watermark,
        snapshot_index=snapshot_index,
    )


def facts_at(
    ref: SegmentRef,
    cursor: SegmentCursor | None,
    *,
    before: SegmentEnd | None,
    last: bool,
    below_watermark: bool = False,
    closed_clean: bool = False,
    present: bool = True,
) -> SegmentFacts:
    """About the segment that is to be `ref`, read to the end of its valid commits."""
    if cursor is None:
        return SegmentFacts(
            present, False, False, False, False, last, False, below_watermark, closed_clean, False
        )
    return SegmentFacts(
        present=present,
        header_valid=True,
        linked=_is_next(ref, cursor, before),
        misplaced=cursor.misplaced is not None,
        sealed=cursor.sealed,
        last=last,
        later_commit=not cursor.sealed and cursor.later_commit_offset() is not None,
        below_watermark=below_watermark,
        closed_clean=closed_clean,
        rest_empty=not cursor.rest(),
    )


def _is_next(ref: SegmentRef, cursor: SegmentCursor, before: SegmentEnd | None) -> bool:
    """It is the segment that its name says, and continues the one before it."""
    header = cursor.header
    named = (header.segment_no, header.first_index) == (ref.segment_no, ref.first_index)
    return named and (before is None or links(header, before))


def _last_commit_id(
    files: SegmentFiles, segments: Sequence[SegmentRef], scan: _Scan | None
) -> bytes:
    """Looks back over segments that hold only markers; usually none does."""
    if scan is None or scan.last_commit_id != NO_COMMIT_ID:
        return scan.last_commit_id if scan else NO_COMMIT_ID
    for ref in reversed(segments[:-1]):
        found = _scan(files, ref, from_medium=False).last_commit_id
        if found != NO_COMMIT_ID:
            return found
    return NO_COMMIT_ID


def _temporaries(disk: Disk, layout: Layout) -> Iterator[str]:
    for directory in (layout.meta, layout.wal, layout.snapshots):
        for name in disk.listdir(directory):
            if name.endswith(TEMPORARY):
                yield f"{directory}/{name}"


def read_commits(
    files: SegmentFiles, segments: Sequence[SegmentRef], from_index: int, end_commit_no: int
) -> Iterator[Commit]:
    """Commits that begin at or after `from_index`, up to `end_commit_no`, markers left out.

    `segments` reach back to `from_index`. Raises: as `Log.recover`.
    """
    before: SegmentEnd | None = None
    for ref in segments[needed_from(segments, from_index) :]:
        cursor, present = open_cursor(files, ref)
        if cursor is not None and _is_next(ref, cursor, before):
            for stored in cursor:
                if stored.commit_no > end_commit_no:
                    return
                if not stored.is_marker and stored.commit.first_index >= from_index:
                    yield stored.commit
            if cursor.next_commit_no > end_commit_no:
                return
        verdict = judge_segment(
            facts_at(ref, cursor, before=before, last=ref is segments[-1], present=present)
        )
        if verdict is not Verdict.NEXT:
            stop = Verdict.BAD_COMMIT if verdict in (Verdict.END, Verdict.CUT) else verdict
            raise stop_for(stop, ref.path(files.layout), cursor=cursor, before=before)
        assert cursor is not None
        before = cursor.end()


def needed_from(segments: Sequence[SegmentRef], index: int) -> int:
    """Position of the segment that holds `index`; 0 when none begins as early."""
    return max((at for at, ref in enumerate(segments) if ref.first_index <= index), default=0)


def open_cursor(files: SegmentFiles, ref: SegmentRef) -> tuple[SegmentCursor | None, bool]:
    try:
        return files.cursor(ref.path(files.layout)), True
    except FileNotFoundError:
        return None, False
