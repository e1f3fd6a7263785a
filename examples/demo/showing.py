"""What the demo prints: progress while it runs, and afterwards what happened."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from feeding import Outcome
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from headrace import State

console = Console(highlight=False)


def say(sentence: str = "") -> None:
    console.print(sentence, soft_wrap=True, markup=False)


@contextmanager
def bar(total: int) -> Iterator[Progress]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        progress.add_task("jobs", total=total, rate="")
        yield progress


def show(outcome: Outcome, events: Sequence[str]) -> None:
    views = outcome.views
    latencies_ms = sorted(view.ended_at_ms - view.enqueued_at_ms for view in views)
    retried = [view for view in views if view.attempt > 1]
    lost_workers = sum(view.crash_count for view in views)
    say()
    _line("jobs", f"{len(views):,}, of which {outcome.succeeded:,} succeeded")
    _line("enqueued", f"{len(views) / outcome.enqueue_s:,.0f} jobs/s")
    _line("finished", f"{len(views) / outcome.seconds:,.0f} jobs/s, {outcome.seconds:.2f} s")
    _line(
        "enqueue to finish",
        f"p50 {_percentile(latencies_ms, 0.50):,} ms, p99 {_percentile(latencies_ms, 0.99):,} ms",
    )
    _line("retried", f"{len(retried):,} jobs, {lost_workers:,} attempts ended with their worker")
    if outcome.report is not None:
        report = outcome.report
        _line(
            "report",
            f"{report.files:,} files, {report.word_count:,} words, {report.line_count:,} lines,"
            f" {report.duplicates:,} duplicates",
        )
        _line(
            "longest line",
            f"{report.longest_line_characters:,} characters, in {report.longest_line_in}",
        )
    for event in events:
        say(event)


def show_losses(outcome: Outcome) -> bool:
    """Says what is missing; True when nothing is."""
    for view in outcome.views:
        if view.state != State.SUCCEEDED:
            last = view.errors[-1].message if view.errors else view.reason
            say(f"job {view.job_id.hex()} is {State(view.state).word}: {last}")
    if outcome.left_live:
        say(f"{outcome.left_live} jobs of the queue are not final.")
    complete = outcome.succeeded == len(outcome.views) and not outcome.left_live
    if complete and outcome.report is not None:
        say("Nothing was lost: every job reached its final state.")
        return True
    return False


def _line(name: str, value: str) -> None:
    say(f"  {name:<18} {value}")


def _percentile(sorted_ms: Sequence[int], share: float) -> int:
    return sorted_ms[min(len(sorted_ms) - 1, int(share * len(sorted_ms)))]
