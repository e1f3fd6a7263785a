"""The commands by name: where each is, and the line that `headrace --help` shows.

Help of the whole program is made from this table alone, so that it costs no import of any
command; a test compares the table with the commands themselves.
"""

from __future__ import annotations

from typing import NamedTuple


class Noun(NamedTuple):
    name: str
    module: str
    """Holds the noun's `app`."""
    summary: str


NOUNS: dict[str, tuple[Noun, ...]] = {
    "Run": (
        Noun("serve", "headrace.cli.serve", "Run a server on a data directory."),
        Noun("worker", "headrace.cli.worker", "Run the jobs of an application, as MODULE:APP."),
    ),
    "Jobs": (
        Noun("enqueue", "headrace.cli.enqueue", "Enqueue one job, and perhaps wait for it."),
        Noun("job", "headrace.cli.job", "Show, list, cancel, retry, delete and explain jobs."),
        Noun("queue", "headrace.cli.queue", "List, pause, configure and purge queues."),
        Noun("dead", "headrace.cli.dead", "List dead jobs and give them another chance."),
        Noun("session", "headrace.cli.session", "List workers and other clients."),
    ),
    "Watch": (
        Noun("stats", "headrace.cli.stats", "Counters, gauges and latencies of a server."),
        Noun("top", "headrace.cli.top", "Queues and sessions, live."),
        Noun("health", "headrace.cli.health", "Exit code 0 when a server answers, else 1."),
        Noun("bench", "headrace.cli.bench", "Measure enqueue and drain of a server, and its disk."),
    ),
    "Data": (
        Noun("backup", "headrace.cli.backup", "Copy a data directory, also one in use."),
        Noun("restore", "headrace.cli.restore", "Make a data directory from a backup."),
        Noun("doctor", "headrace.cli.doctor", "Look a data directory and its disk over."),
        Noun("verify", "headrace.cli.verify", "Check every byte of a data directory."),
        Noun("repair", "headrace.cli.repair", "Mend a damaged directory; says what it would lose."),
        Noun("dump", "headrace.cli.dump", "Print the records of the log as JSON lines."),
    ),
    "Prove": (
        Noun("sim", "headrace.cli.sim", "Simulate a server with faults, and check every promise."),
    ),
    "Settings": (Noun("config", "headrace.cli.config_show", "Show every setting and its source."),),
}

USAGE = "Usage: headrace COMMAND [OPTIONS]"
EPILOGUE = """\
`headrace COMMAND --help` says more. Commands go to --url, else HEADRACE_URL, else ./data:
a data directory (opened if nobody runs on it), headrace://HOST:PORT or unix:///PATH."""


def find(name: str) -> Noun | None:
    return next((noun for group in NOUNS.values() for noun in group if noun.name == name), None)


def names() -> list[str]:
    return [noun.name for group in NOUNS.values() for noun in group]


def help_text() -> str:
    lines = ["headrace: a durable job queue. One process, one directory.", "", USAGE]
    for group, nouns in NOUNS.items():
        lines += ["", group]
        lines += [f"  {noun.name:<9} {noun.summary}" for noun in nouns]
    return "\n".join([*lines, "", EPILOGUE])
