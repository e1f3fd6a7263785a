"""The decision tables of recovery are total and unambiguous, and say what they must."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import msgspec
import pytest

from headrace.log.file.recovery_table import (
    SEGMENT_CASES,
    STRAY_CASES,
    Case,
    SegmentFacts,
    StrayFacts,
    StrayVerdict,
    Verdict,
    judge_segment,
    judge_stray,
)

SEGMENT_FIELDS = SegmentFacts.__struct_fields__
STRAY_FIELDS = StrayFacts.__struct_fields__


def all_inputs(count: int) -> Iterator[tuple[bool, ...]]:
    return product((False, True), repeat=count)


def segment_facts() -> Iterator[SegmentFacts]:
    return (SegmentFacts(*values) for values in all_inputs(len(SEGMENT_FIELDS)))


def test_every_segment_input_matches_exactly_one_row() -> None:
    """All 2^10 inputs; two rows for one input would make the order of rows a rule."""
    for values in all_inputs(len(SEGMENT_FIELDS)):
        matching = [case.why for case in SEGMENT_CASES if case.matches(values)]

        assert len(matching) == 1, (dict(zip(SEGMENT_FIELDS, values, strict=True)), matching)


def test_every_stray_input_matches_exactly_one_row() -> None:
    for values in all_inputs(len(STRAY_FIELDS)):
        matching = [case.why for case in STRAY_CASES if case.matches(values)]

        assert len(matching) == 1, (dict(zip(STRAY_FIELDS, values, strict=True)), matching)


@pytest.mark.parametrize("cases", [SEGMENT_CASES, STRAY_CASES], ids=["segment", "stray"])
def test_every_row_gives_its_reason(cases: tuple[Case[Verdict], ...]) -> None:
    reasons = [case.why for case in cases]

    assert all(reasons)
    assert len(set(reasons)) == len(reasons)


def test_bytes_are_cut_only_from_the_unproven_end_of_an_unclosed_log() -> None:
    for facts in segment_facts():
        if judge_segment(facts) is Verdict.CUT:
            assert facts.last
            assert not facts.later_commit
            assert not facts.below_watermark
            assert not facts.closed_clean
            assert not facts.sealed
            assert not facts.misplaced


def test_log_never_ends_below_the_watermark() -> None:
    for facts in segment_facts():
        if facts.below_watermark:
            assert judge_segment(facts) not in (Verdict.END, Verdict.CUT)


def test_only_a_sealed_linked_segment_leads_to_the_next() -> None:
    for facts in segment_facts():
        verdict = judge_segment(facts)
        if verdict is Verdict.NEXT:
            assert facts.present
            assert facts.header_valid
            assert facts.linked
            assert facts.sealed
        if not facts.last:
            assert verdict not in (Verdict.END, Verdict.CUT)


def test_end_of_a_rotation_cut_after_its_seal_is_an_end() -> None:
    facts = SegmentFacts(
        present=True,
        header_valid=True,
        linked=True,
        misplaced=False,
        sealed=True,
        last=True,
        later_commit=False,
        below_watermark=False,
        closed_clean=False,
        rest_empty=True,
    )

    assert judge_segment(facts) is Verdict.END
    assert judge_segment(msgspec.structs.replace(facts, sealed=False)) is Verdict.END
    torn = msgspec.structs.replace(facts, sealed=False, rest_empty=False)
    assert judge_segment(torn) is Verdict.CUT


def test_stray_with_commits_is_never_deleted_unless_it_was_unlisted() -> None:
    for values in all_inputs(len(STRAY_FIELDS)):
        facts = StrayFacts(*values)
        if facts.newer and facts.header_valid and facts.holds_commits:
            assert judge_stray(facts) in (StrayVerdict.ADOPT, StrayVerdict.STOP)
