"""What recovery does with each combination of facts about a segment: two tables of data.

`SEGMENT_CASES` judges one listed segment where its valid commits stop; `STRAY_CASES` one
file in `wal/` that CURRENT does not list. Exactly one row matches any facts:
`tests/recovery/test_recovery_table.py` walks all inputs. A `None` in a row fits both.

The argument, by rule W1 (a commit is written only after the one before it is durable):
- a bad place with a later commit behind it, or a later segment, had been durable: it is
  damage, and nothing may be cut;
- otherwise at most one commit can be unfinished, it was never acknowledged, and it is
  what lies at the end: cut it;
- except that rot of the newest commits looks the same, which is what WATERMARK is for.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Generic, TypeVar

import msgspec

from headrace.model.errors import invariant

V = TypeVar("V")


class SegmentFacts(msgspec.Struct, frozen=True):
    present: bool
    """The file is there."""
    header_valid: bool
    linked: bool
    """It is what its name says, and continues the segment before it, if one was read."""
    misplaced: bool
    """A valid commit stands where another one belongs."""
    sealed: bool
    """Its last valid commit is its seal."""
    last: bool
    """No later segment exists."""
    later_commit: bool
    """Behind its valid commits lies a header with a greater commit number."""
    below_watermark: bool
    """Its valid commits end before the watermark."""
    closed_clean: bool
    """CURRENT says that the last leader closed the log."""
    rest_empty: bool
    """Nothing but zeros lies behind its valid commits."""


class Verdict(Enum):
    NEXT = "go on with the next segment"
    END = "the log ends here; nothing was being written"
    CUT = "the log ends here; save and drop the commit that was being written"
    MISSING = "stop: the segment is missing"
    BAD_HEADER = "stop: its header is damaged"
    UNLINKED = "stop: it does not continue the segment before it"
    MISPLACED = "stop: a commit stands where another one belongs"
    BAD_COMMIT = "stop: a commit that had been durable is damaged"
    TAIL_LOST = "stop: commits that had been durable are gone from the end"


class StrayFacts(msgspec.Struct, frozen=True):
    newer: bool
    """Its number is above those of all listed segments."""
    header_valid: bool
    linked: bool
    """It continues the last listed segment (or the one adopted before it)."""
    holds_commits: bool


class StrayVerdict(Enum):
    ADOPT = "treat it as listed"
    DELETE = "delete it"
    SET_ASIDE = "move it to lost+found"
    STOP = "stop: commits lie behind a gap"


class Case(msgspec.Struct, Generic[V], frozen=True):
    """One row. Facts are in the order of the fields of their struct."""

    why: str
    facts: tuple[bool | None, ...]
    verdict: V

    def matches(self, facts: tuple[bool, ...]) -> bool:
        return all(
            want is None or want == have for want, have in zip(self.facts, facts, strict=True)
        )


_Y, _N, _any = True, False, None

SEGMENT_CASES: tuple[Case[Verdict], ...] = (
    # present, header_valid, linked, misplaced, sealed, last, later_commit, below_watermark,
    # closed_clean, rest_empty
    Case(
        "listed before the first append to it, removed from the list before it is deleted",
        (_N, _any, _any, _any, _any, _any, _any, _any, _any, _any),
        Verdict.MISSING,
    ),
    Case(
        "the header was durable before the file had its name",
        (_Y, _N, _any, _any, _any, _any, _any, _any, _any, _any),
        Verdict.BAD_HEADER,
    ),
    Case(
        "a segment between is missing, or one was replaced",
        (_Y, _Y, _N, _any, _any, _any, _any, _any, _any, _any),
        Verdict.UNLINKED,
    ),
    Case(
        "its checksums are right, so this very commit was written, elsewhere",
        (_Y, _Y, _Y, _Y, _any, _any, _any, _any, _any, _any),
        Verdict.MISPLACED,
    ),
    Case(
        "the seal is the proof that nothing is missing; what follows it is never read",
        (_Y, _Y, _Y, _N, _Y, _N, _any, _any, _any, _any),
        Verdict.NEXT,
    ),
    Case(
        "a rotation stopped right after the seal, or an unclean tail was copied and sealed",
        (_Y, _Y, _Y, _N, _Y, _Y, _any, _N, _any, _any),
        Verdict.END,
    ),
    Case(
        "segments behind this one are gone, and the list that named them",
        (_Y, _Y, _Y, _N, _Y, _Y, _any, _Y, _any, _any),
        Verdict.TAIL_LOST,
    ),
    Case(
        "the next segment exists, so the seal was durable",
        (_Y, _Y, _Y, _N, _N, _N, _any, _any, _any, _any),
        Verdict.BAD_COMMIT,
    ),
    Case(
        "a later commit was written, so this place was durable",
        (_Y, _Y, _Y, _N, _N, _Y, _Y, _any, _any, _any),
        Verdict.BAD_COMMIT,
    ),
    Case(
        "the watermark was written after the commit it names was durable",
        (_Y, _Y, _Y, _N, _N, _Y, _N, _Y, _any, _any),
        Verdict.TAIL_LOST,
    ),
    Case(
        "the usual end",
        (_Y, _Y, _Y, _N, _N, _Y, _N, _N, _any, _Y),
        Verdict.END,
    ),
    Case(
        "a log that was closed has no commit in the making: this one was durable",
        (_Y, _Y, _Y, _N, _N, _Y, _N, _N, _Y, _N),
        Verdict.BAD_COMMIT,
    ),
    Case(
        "a torn tail: never acknowledged",
        (_Y, _Y, _Y, _N, _N, _Y, _N, _N, _N, _N),
        Verdict.CUT,
    ),
)

STRAY_CASES: tuple[Case[StrayVerdict], ...] = (
    # newer, header_valid, linked, holds_commits
    Case(
        "a truncation unlisted it and was stopped before deleting it",
        (_N, _any, _any, _any),
        StrayVerdict.DELETE,
    ),
    Case(
        "no segment gets its name before its header is durable: not ours to judge",
        (_Y, _N, _any, _any),
        StrayVerdict.SET_ASIDE,
    ),
    Case(
        "a rotation was stopped before it was listed",
        (_Y, _Y, _any, _N),
        StrayVerdict.DELETE,
    ),
    Case(
        "a copy of a running directory whose CURRENT was copied before the segment",
        (_Y, _Y, _Y, _Y),
        StrayVerdict.ADOPT,
    ),
    Case(
        "commits that nothing leads to: what lay between is lost",
        (_Y, _Y, _N, _Y),
        StrayVerdict.STOP,
    ),
)


def judge_segment(facts: SegmentFacts) -> Verdict:
    return _look_up(SEGMENT_CASES, msgspec.structs.astuple(facts))


def judge_stray(facts: StrayFacts) -> StrayVerdict:
    return _look_up(STRAY_CASES, msgspec.structs.astuple(facts))


def _look_up(cases: Sequence[Case[V]], facts: tuple[bool, ...]) -> V:
    matching = [case for case in cases if case.matches(facts)]
    invariant(len(matching) == 1, "exactly one row matches", facts=facts, matching=len(matching))
    return matching[0].verdict
