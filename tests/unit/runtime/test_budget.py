"""What may come in: the bounds, and that ends of work come in longer than new work."""

from __future__ import annotations

import pytest

from headrace.model.commands import Ack, Enqueue, NewJob
from headrace.model.job import JobExtra, JobSpec
from headrace.model.limits import PENDING_BYTES_MAX, PENDING_COMMANDS_MAX
from headrace.runtime.budget import Budget, size_of

SPEC = JobSpec("q", "k")


@pytest.mark.parametrize(
    ("waiting", "waiting_bytes", "refused"),
    [
        (0, 0, ()),
        (PENDING_COMMANDS_MAX - 1, PENDING_BYTES_MAX - 1, ()),
        (PENDING_COMMANDS_MAX, 0, ("new",)),
        (0, PENDING_BYTES_MAX, ("new",)),
        (PENDING_COMMANDS_MAX * 3 // 2, 0, ("new", "ending")),
        (0, PENDING_BYTES_MAX * 3 // 2, ("new", "ending")),
    ],
)
def test_new_work_is_refused_before_ends_of_work(
    waiting: int, waiting_bytes: int, refused: tuple[str, ...]
) -> None:
    budget = Budget()
    found = {
        "new": budget.new_refusal(waiting, waiting_bytes),
        "ending": budget.ending_refusal(waiting, waiting_bytes),
    }
    assert tuple(word for word, refusal in found.items() if refusal is not None) == refused


def test_retry_after_follows_the_disk() -> None:
    quick, slow = Budget(), Budget()
    for _ in range(100):
        quick.note_commit(0.2)
        slow.note_commit(200)
    refusals = [budget.new_refusal(PENDING_COMMANDS_MAX, 0) for budget in (quick, slow)]
    quick_ms, slow_ms = (refusal().retry_after_ms for refusal in refusals if refusal is not None)
    assert quick_ms < 50 < slow_ms <= 1_000


def test_size_counts_payloads_headers_and_results() -> None:
    plain = NewJob(bytes(16), 0, bytes(1_000))
    headers = JobExtra(headers={"trace": "x" * 500})
    labels = JobExtra(key="k" * 200, tags=("t" * 64,) * 16)
    assert 1_000 <= size_of(Enqueue([SPEC], [plain])) < 1_200
    assert size_of(Enqueue([SPEC], [plain, plain])) == 2 * size_of(Enqueue([SPEC], [plain]))
    assert size_of(Enqueue([SPEC], [NewJob(bytes(16), 0, b"", extra=headers)])) >= 505
    assert size_of(Enqueue([SPEC], [NewJob(bytes(16), 0, b"", extra=labels)])) >= 1_224
    assert size_of(Ack([(bytes(16), 1, bytes(300)), (bytes(16), 1, None)])) == 300
