"""The search itself: it is repeatable, it goes where bent input leads, and it notices.

Little of it runs here; `python -m proof.fuzz parsers` is the same for as long as one likes.
"""

from __future__ import annotations

import os
import random
from collections.abc import Sequence

import pytest

from headrace.codec.rows import decode_rows
from headrace.model.errors import BadRequest
from proof.fuzz import msgpack_tree, resealing, vectors
from proof.fuzz.arcs import watcher
from proof.fuzz.guided import Tally, run_guided, shrunk
from proof.fuzz.judging import bounded_memory, judge, weigh
from proof.fuzz.mutation import havoc
from proof.fuzz.target import Broken, Target, expect, linear, refused
from proof.fuzz.targets import TARGETS
from proof.fuzz.targets.wire import MODULES, Seen

pytestmark = pytest.mark.proof

CASES = 20
CORPUS_SEED = 7


@pytest.mark.parametrize("name", TARGETS)
def test_bent_input_is_refused_with_a_word_or_means_something(name: str) -> None:
    tally = Tally()
    with bounded_memory():
        run_guided(TARGETS[name], CASES, CORPUS_SEED, lambda: True, tally)

    assert [finding.line() for finding in tally.findings] == []
    assert tally.arcs > 0


def test_code_that_one_target_does_not_watch_is_seen_by_the_next() -> None:
    [rows, *_] = vectors.rows()
    elsewhere, there = watcher(["headrace/protocol"]), watcher(["headrace/codec"])

    counts = [len(one.arcs_of(lambda: decode_rows(rows))) for one in (elsewhere, there) * 2]

    assert counts[0] == counts[2] == 0
    assert counts[1] == counts[3] > 0


def test_search_of_one_seed_is_always_the_same() -> None:
    once, again = (run_guided(TARGETS["duration"], 300, 3, lambda: True, Tally()) for _ in "ab")

    assert once == again


def test_what_a_lock_is_found_to_say_does_not_depend_on_who_runs_here() -> None:
    [here, *_] = TARGETS["lock"].seeds()
    outcomes = [
        TARGETS["lock"].check(here.replace(b"pid=1\n", b"pid=%d\n" % pid))
        for pid in (os.getpid(), 99_999_999)
    ]

    assert outcomes[0] == outcomes[1]


def test_search_goes_on_from_what_reached_something_new() -> None:
    """No vector is refused for its nesting, and no single change of one makes it so deep."""
    kept = run_guided(TARGETS["records"], 600, 0, lambda: True, Tally())

    assert len(kept) > 2 * len(vectors.records())


def test_seals_are_right_where_nothing_was_changed() -> None:
    """The last segment ends with a torn commit, whose checksum is wrong as it stands."""
    current, mark = (vectors.directory()[f"meta/{name}"] for name in ("CURRENT", "WATERMARK"))

    assert resealing.current(current) == current
    assert resealing.watermark(mark) == mark
    assert all(resealing.segment(raw) == raw for raw in vectors.of_directory("wal/")[:-1])
    assert all(resealing.snapshot(raw) == raw for raw in vectors.of_directory("snapshots/"))


def test_msgpack_trees_are_written_as_they_were_read() -> None:
    for _, body in vectors.wire_bodies().values():
        assert msgpack_tree.encode(msgpack_tree.decode(body)) == body


# --- that a check can fail


def _never(chance: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    return havoc(chance, data, others)


def made(check: object, seed: bytes = b"seed") -> Target:
    return Target("made-up", lambda: [seed], check, _never, MODULES, linear)  # type: ignore[arg-type]


def untyped(data: bytes) -> str:
    return data.decode("ascii")


def greedy(data: bytes) -> str:
    return str(len(bytes(1 << 22)))


def broken(data: bytes) -> str:
    expect(b"s" in data, "an s is there", data=data)
    return "taken"


def strict(data: bytes) -> str:
    raise BadRequest("No 42.")


def test_error_that_is_not_ours_is_a_finding_with_its_replay() -> None:
    _, finding = judge(made(untyped), b"\xff")
    assert finding is not None
    assert finding.problem.startswith("UnicodeDecodeError")
    assert "--target made-up --hex ff" in finding.line()


def test_refusal_is_no_finding_whoever_raises_it() -> None:
    assert judge(made(strict), b"x") == ("BadRequest: No #.", None)
    assert refused(BadRequest("No 41.")) == refused(BadRequest("No 42."))


def test_parser_that_believes_a_length_is_a_finding() -> None:
    used_bytes, finding = weigh(made(greedy), b"x")
    assert used_bytes >= 1 << 22
    assert finding is not None


def test_finding_is_shrunk_to_what_shows_it() -> None:
    tally = Tally()
    run_guided(made(broken), 200, 0, lambda: True, tally)
    (finding,) = tally.findings
    assert shrunk(made(broken), finding).data == b""


def test_facts_that_do_not_hold_are_broken() -> None:
    with pytest.raises(Broken, match="whole=1"):
        expect(False, "never", whole=1)
    assert Seen().shape() == ([], [], False)
