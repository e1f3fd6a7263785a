"""`headrace stats`: what the server has counted since it started."""

from __future__ import annotations

from cyclopts import App

from headrace.cli.application import noun, run
from headrace.cli.options import REMOTE, Remote
from headrace.cli.output import print_facts, print_json, print_line, print_table
from headrace.cli.target import reached
from headrace.cli.wire_names import plain
from headrace.model.replies import StatsReply

app: App = noun("stats")


@app.default
def stats(*, options: Remote = REMOTE) -> None:
    """Print counters, gauges and latencies of a server.

    With --json under the names that metrics have; histograms with their buckets.
    """

    async def look() -> StatsReply:
        async with reached(options) as found:
            return await found.client.stats()

    reply = run(look())
    if options.json:
        print_json(plain(reply))
        return
    print_facts([(name, _number(value)) for name, value in sorted(reply.gauges.items())])
    print_line("")
    print_facts([(name, value) for name, value in sorted(reply.counters.items())])
    print_line("")
    print_table(
        ("histogram", "count", "p50", "p99", "max"),
        [
            (name, int(view.get("count", 0)), *(_measure(name, view, key) for key in _SHOWN))
            for name, view in sorted(reply.histograms.items())
        ],
        "No histograms.",
    )


_SHOWN = ("p50", "p99", "max")


def _number(value: float) -> object:
    return int(value) if value == int(value) else value


def _measure(name: str, view: dict[str, float], key: str) -> str:
    value = view.get(key, 0.0)
    return f"{value * 1_000:.2f} ms" if name.endswith("_seconds") else f"{value:,.0f}"
