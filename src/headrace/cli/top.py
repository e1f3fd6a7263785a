"""`headrace top`: queues and sessions, live."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from headrace.cli.application import noun, run
from headrace.cli.exits import UsageFault
from headrace.cli.options import REMOTE, Remote
from headrace.cli.output import console, print_json, table
from headrace.cli.queue import QUEUE_COLUMNS, queue_row
from headrace.cli.session import SESSION_COLUMNS, session_row
from headrace.cli.target import Reached, reached
from headrace.cli.times import duration_option, now_ms, roughly
from headrace.cli.wire_names import plain
from headrace.model.replies import QueueView, SessionView, StatsReply

if TYPE_CHECKING:
    from rich.console import Group

app = noun("top")

RATES = ("enqueued", "succeeded", "failed", "dead")


class Look(msgspec.Struct, frozen=True):
    """How everything stood at one moment."""

    at_ms: int
    stats: StatsReply
    queues: list[QueueView]
    sessions: list[SessionView]

    def total(self, word: str) -> int:
        return self.stats.counters.get(f"headrace_jobs_{word}_total", 0)


@app.default
def top(*, interval: str = "1s", once: bool = False, options: Remote = REMOTE) -> None:
    """Show queues and sessions, live; Ctrl-C ends it.

    Args:
        interval: Time between two looks.
        once: Show how things stand now, and end; also where there is no terminal.
    """
    pause_ms = max(100, duration_option(interval, "interval"))
    if once or options.json:
        run(_look_once(options))
        return
    if not sys.stdout.isatty():
        raise UsageFault("top needs a terminal.", hint="Use --once, or `headrace stats --json`.")
    with contextlib.suppress(KeyboardInterrupt):
        run(_look_on(options, pause_ms))


async def _look_once(options: Remote) -> None:
    async with reached(options) as found:
        look = await _look(found)
        if options.json:
            print_json(plain(look))
        else:
            console().print(_drawn(found.where, [look]))


async def _look_on(options: Remote, pause_ms: int) -> None:
    from rich.live import Live

    async with reached(options) as found:
        looks = [await _look(found)]
        with Live(console=console(), screen=True, auto_refresh=False) as live:
            while True:
                live.update(_drawn(found.where, looks), refresh=True)
                await asyncio.sleep(pause_ms / 1_000)
                looks = [looks[-1], await _look(found)]


async def _look(found: Reached) -> Look:
    stats, queues, sessions = await asyncio.gather(
        found.client.stats(), found.client.list_queues(), found.client.list_sessions()
    )
    return Look(now_ms(), stats, queues, sessions)


def _drawn(where: str, looks: Sequence[Look]) -> Group:
    from rich.console import Group
    from rich.text import Text

    look = looks[-1]
    uptime_ms = int(look.stats.gauges.get("headrace_uptime_seconds", 0) * 1_000)
    head = f"{where}  up {roughly(uptime_ms)}  {_rates(looks)}  {_latencies(look)}"
    return Group(
        Text(head),
        Text(""),
        table(QUEUE_COLUMNS, [queue_row(view) for view in look.queues], "No queues."),
        Text(""),
        table(
            SESSION_COLUMNS,
            [session_row(view, look.at_ms) for view in look.sessions],
            "No sessions.",
        ),
    )


def _rates(looks: Sequence[Look]) -> str:
    if len(looks) < 2:
        return ""
    before, now = looks
    seconds = max(now.at_ms - before.at_ms, 1) / 1_000
    return "  ".join(
        f"{word} {(now.total(word) - before.total(word)) / seconds:,.0f}/s" for word in RATES
    )


def _latencies(look: Look) -> str:
    commit = look.stats.histograms.get("headrace_commit_seconds", {})
    p50, p99 = commit.get("p50", 0.0), commit.get("p99", 0.0)
    return f"commit p50 {p50 * 1_000:.1f} ms p99 {p99 * 1_000:.1f} ms"
