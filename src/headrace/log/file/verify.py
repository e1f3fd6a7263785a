"""Every checksum, link and count of a directory: for `headrace verify`, also on a live one.

Goes on after a finding, so that one run names all damage. Changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum

import msgspec

from headrace.log.file.current import Current, read_current
from headrace.log.file.directory import check_directory, require_log
from headrace.log.file.disk_io import reading
from headrace.log.file.layout import Layout
from headrace.log.file.lock import in_use, read_holder
from headrace.log.file.recovery import Found, facts_at, look_again, open_cursor
from headrace.log.file.recovery_table import Verdict, judge_segment
from headrace.log.file.segment_reader import SegmentCursor, SegmentEnd, SegmentFiles
from headrace.log.file.snapshot_file import check_snapshot
from headrace.log.file.stops import stop_for
from headrace.log.file.watermark import read_slots
from headrace.model.env import LogEnv
from headrace.model.errors import StopError, UnsafeDirectory


class Severity(Enum):
    ERROR = "error"
    """A start is refused, or data is lost."""
    WARNING = "warning"
    """A protection is gone; the data is whole."""
    NOTE = "note"


class Finding(msgspec.Struct, frozen=True):
    severity: Severity
    code: str
    """A stop code, or `` for what stops nothing."""
    path: str
    offset: int
    message: str


def verify(env: LogEnv, directory: str) -> Iterator[Finding]:
    """What is wrong, as it is found; the last one is a note of what was read.

    Raises: `DiskFailed` when the disk cannot say what is there.
    """
    layout = Layout(directory.rstrip("/") or "/")
    with reading(layout.root):
        yield from _verify(env, layout)


def _verify(env: LogEnv, layout: Layout) -> Iterator[Finding]:
    try:
        check_directory(env, layout)
    except StopError as error:
        yield _finding(error, layout.root)
    try:
        require_log(env.disk, layout)
        current = read_current(env.disk, layout)
    except UnsafeDirectory as error:
        yield _finding(error, layout.root)
        return
    except StopError as error:
        yield _finding(error, layout.current)
        return
    yield from _Verification(env, layout, current).findings()


class _Verification:
    def __init__(self, env: LogEnv, layout: Layout, current: Current) -> None:
        self._env = env
        self._disk = env.disk
        self._layout = layout
        self._current = current
        self._files = SegmentFiles(env.disk, layout, current.ids)
        self._commit_count = 0
        self._record_count = 0
        self._snapshots_good = 0

    def findings(self) -> Iterator[Finding]:
        yield from self._watermark()
        found, problem = None, None
        try:
            found = look_again(self._disk, self._layout)
        except StopError as error:
            problem = _finding(error, self._layout.wal)
        reported = []
        for finding in self._segments(found):
            reported.append((finding.code, finding.path, finding.offset))
            yield finding
        if problem and (problem.code, problem.path, problem.offset) not in reported:
            yield problem
        yield from self._snapshots()
        if found is not None:
            yield from self._leftovers(found)
        yield _note(
            self._layout.root,
            f"read {len(self._current.segments)} segments with {self._commit_count} commits and "
            f"{self._record_count} records, and {self._snapshots_good} good snapshots",
        )

    def _watermark(self) -> Iterator[Finding]:
        path = self._layout.watermark
        try:
            slots = read_slots(self._disk, self._layout, self._current.ids)
        except StopError as error:
            yield _finding(error, path)
            return
        if not any(slots) and self._current.segments:
            yield Finding(
                Severity.WARNING,
                "",
                path,
                0,
                "no slot can be read: damage to the newest commits would look like a torn tail",
            )

    def _segments(self, found: Found | None) -> Iterator[Finding]:
        """`found` has judged the end of the log, at one moment; None when that was bad."""
        segments = found.segments if found else self._current.segments
        before: SegmentEnd | None = None
        for ref in segments:
            path, last = ref.path(self._layout), ref is segments[-1]
            try:
                cursor, present = open_cursor(self._files, ref)
                self._count(cursor)
            except StopError as error:
                yield _finding(error, path)
                before = None
                continue
            if not present and self._was_truncated(ref.segment_no):
                continue
            facts = facts_at(ref, cursor, before=before, last=last, present=present)
            verdict = judge_segment(facts)
            fine = verdict in (Verdict.NEXT, Verdict.END, Verdict.CUT)
            judged = last and found is not None and verdict is not Verdict.UNLINKED
            if not fine and not judged:
                yield _finding(stop_for(verdict, path, cursor=cursor, before=before), path)
            before = cursor.end() if cursor and cursor.sealed else None

    def _count(self, cursor: SegmentCursor | None) -> None:
        for stored in cursor or ():
            self._commit_count += not stored.is_marker
            self._record_count += stored.commit.record_count

    def _was_truncated(self, segment_no: int) -> bool:
        """By a leader that works on this directory while we look."""
        listed = read_current(self._disk, self._layout).segments
        return segment_no not in {ref.segment_no for ref in listed}

    def _snapshots(self) -> Iterator[Finding]:
        """A damaged one is an error only when nothing else leads to the state."""
        damaged = []
        for ref in self._current.snapshots:
            path = ref.path(self._layout)
            try:
                problem = check_snapshot(self._disk, path, ref, self._current.ids)
            except StopError as error:
                yield _finding(error, path)
                continue
            if problem is None:
                self._snapshots_good += 1
            else:
                damaged.append((path, problem))
        segments = self._current.segments
        covered = self._snapshots_good or not segments or segments[0].first_index == 1
        severity = Severity.WARNING if covered else Severity.ERROR
        for path, problem in damaged:
            yield Finding(severity, "E-SNAP-NONE", path, problem.offset, problem.message)

    def _leftovers(self, found: Found) -> Iterator[Finding]:
        if found.torn:
            assert found.tail is not None
            yield Finding(
                Severity.NOTE,
                "",
                found.segments[-1].path(self._layout),
                found.tail.offset,
                f"{len(found.torn)} bytes of a commit that was being written; the next start "
                "moves them to lost+found",
            )
        if in_use(self._env, read_holder(self._disk, self._layout)):
            return  # what the living leader is about to use
        for path in (*found.doomed, *found.set_aside):
            yield _note(path, "a leftover that counts for nothing; the next start removes it")


def _finding(error: StopError, path: str) -> Finding:
    return Finding(
        Severity.ERROR,
        error.stop_code,
        error.details.get("path", path),
        error.details.get("offset", 0),
        error.message,
    )


def _note(path: str, message: str) -> Finding:
    return Finding(Severity.NOTE, "", path, 0, message)
