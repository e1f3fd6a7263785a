"""The end of every story: all judges at once, over journal, views and log."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from headrace.model.replies import JobView
from tests.e2e.crash.as_history import judged
from tests.e2e.crash.cluster import run_cli
from tests.e2e.crash.journal import History
from tests.e2e.crash.ledger import Ledger
from tests.e2e.crash.verdict import breaches


def judge(
    journal: Path,
    data: Path,
    views: Sequence[JobView],
    *,
    reads_log: bool = True,
    workers_stood_still: bool = False,
) -> Counter[str]:
    """What the story came to. Raises: `AssertionError` for every promise that was broken.

    `reads_log`: its log reaches back to the first record. `workers_stood_still`: see `breaches`.
    """
    history = History(journal)
    verified = run_cli("verify", str(data), "--deep")
    ledger = Ledger(data) if reads_log else None
    found = breaches(history, views, ledger, workers_stood_still=workers_stood_still)
    complaints = [] if verified.returncode == 0 else [verified.stdout + verified.stderr]
    judgement = judged(journal, data, views, complaints)
    found += [str(one) for one in judgement.violations]

    assert found == [], "; ".join(found[:10])
    tally = sums(history, views)
    tally["jobs in one order"] += judgement.jobs - judgement.undecided
    tally["jobs undecided"] += judgement.undecided
    tally["checkers without a whole log"] += len(judgement.passed_over)
    return tally


def sums(history: History, views: Sequence[JobView]) -> Counter[str]:
    """Jobs, and everything that was asked of them or done with them."""
    counts = history.counts()
    calls = ("taken", "unknown", "refused", "keyed", "cancelled", "acked", "ack_refused")
    return Counter(
        {
            "jobs": len(views),
            "enqueued": counts.get("taken", 0),
            "handlers run": counts.get("started", 0),
            "operations": sum(counts.get(one, 0) for one in (*calls, "announced")),
        }
    )
