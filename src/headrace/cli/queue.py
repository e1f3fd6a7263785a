"""`headrace queue`: how queues stand, and what may be changed of them while they work."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Any, Literal

import msgspec
from cyclopts import Parameter

from headrace.cli.application import noun, run
from headrace.cli.exits import UsageFault
from headrace.cli.job import StateWord, states_of
from headrace.cli.options import REMOTE, Remote
from headrace.cli.output import confirm, print_facts, print_json, print_line, print_table, progress
from headrace.cli.target import reached
from headrace.cli.times import duration_option, roughly, size_option
from headrace.cli.wire_names import plain
from headrace.client.client import Client
from headrace.model.commands import Purge
from headrace.model.durations import format_duration, format_size
from headrace.model.errors import UnknownQueue
from headrace.model.job import BACKOFF_WORDS, RetryPolicy
from headrace.model.queue import DURABILITY_WORDS, QueueSettings
from headrace.model.replies import QueueView
from headrace.model.settings import QueueDefaults, fields, queue_settings, range_of

app = noun("queue", "List, pause, configure and purge queues.")

Duration = Annotated[str | None, Parameter(help="As 10m or 1h30m.")]


@app.command(name="list")
def list_queues(*, options: Remote = REMOTE) -> None:
    """List queues, with how many jobs are in which state."""

    async def look() -> list[QueueView]:
        async with reached(options) as found:
            return await found.client.list_queues()

    views = run(look())
    if options.json:
        print_json({"queues": plain(views)})
    else:
        print_queues(views)


@app.command
def show(queue: str, /, *, options: Remote = REMOTE) -> None:
    """Show one queue: jobs, totals and settings."""

    async def look() -> QueueView:
        async with reached(options) as found:
            return await found.client.get_queue(queue)

    view = run(look())
    if options.json:
        print_json(plain(view))
    else:
        print_facts([*_facts(view), *setting_facts(view.settings)])


@app.command
def pause(queue: str, /, *, options: Remote = REMOTE) -> None:
    """Stop claims from a queue; what runs goes on, new jobs are taken."""
    _change(options, queue, lambda client: client.pause_queue(queue), "is paused")


@app.command
def resume(queue: str, /, *, options: Remote = REMOTE) -> None:
    """Let jobs be claimed from a queue again."""
    _change(options, queue, lambda client: client.resume_queue(queue), "is served again")


@app.command(name="set")
def configure(
    queue: str,
    /,
    *,
    durability: Literal["async", "group", "sync"] | None = None,
    attempt_max: int | None = None,
    backoff: Literal["fixed", "linear", "exponential"] | None = None,
    backoff_base: str | None = None,
    backoff_cap: str | None = None,
    crash_max: int | None = None,
    payload_bytes_max: str | None = None,
    succeeded_age: str | None = None,
    succeeded_count: int | None = None,
    succeeded_bytes: str | None = None,
    dead_age: str | None = None,
    dead_count: int | None = None,
    dead_bytes: str | None = None,
    options: Remote = REMOTE,
) -> None:
    """Change settings of one queue; they hold from the next command on.

    What is not given stays. A queue that is not there yet is made, with the defaults of
    section [queue] of the settings for the rest.

    Args:
        durability: When enqueue and ack are answered.
        attempt_max: Attempts before a job is dead.
        backoff: How the delay grows from attempt to attempt.
        backoff_base: Delay before the second attempt, as 2s.
        backoff_cap: No delay is longer.
        crash_max: Attempts that may end with a lost worker.
        payload_bytes_max: Largest payload, as 64KiB; at most 4MiB.
        succeeded_age: Succeeded and cancelled jobs are kept this long, as 24h.
        succeeded_count: Succeeded and cancelled jobs kept.
        succeeded_bytes: Bytes of succeeded and cancelled jobs kept, as 64MiB.
        dead_age: Dead jobs are kept this long.
        dead_count: Dead jobs kept.
        dead_bytes: Bytes of dead jobs kept.
    """
    texts = {
        "backoff_base_ms": backoff_base,
        "backoff_cap_ms": backoff_cap,
        "succeeded_age_ms": succeeded_age,
        "dead_age_ms": dead_age,
        "payload_bytes_max": payload_bytes_max,
        "succeeded_bytes": succeeded_bytes,
        "dead_bytes": dead_bytes,
    }
    given: dict[str, Any] = {
        name: _parsed(name, text) for name, text in texts.items() if text is not None
    }
    numbers = {
        "attempt_max": attempt_max,
        "crash_max": crash_max,
        "succeeded_count": succeeded_count,
        "dead_count": dead_count,
    }
    given |= {name: number for name, number in numbers.items() if number is not None}
    if durability is not None:
        given["durability"] = DURABILITY_WORDS.index(durability)
    if backoff is not None:
        given["backoff"] = BACKOFF_WORDS.index(backoff)
    check_ranges(given)
    settings = run(_configure(options, queue, given))
    if options.json:
        print_json({"queue": queue, "settings": plain(settings)})
    else:
        print_facts([("queue", queue), *setting_facts(settings)])


@app.command
def purge(
    queue: str,
    /,
    *,
    state: list[StateWord],
    yes: Annotated[bool, Parameter(alias="-y")] = False,
    options: Remote = REMOTE,
) -> None:
    """Delete all jobs of the states named, in steps of 1,000.

    Args:
        state: Which jobs: any state but leased; may be given several times.
        yes: Do not ask.
    """
    words = ", ".join(state)
    confirm(f"All {words} jobs of queue {queue!r} will be deleted for good", yes=yes)
    count = run(_purge(options, queue, states_of(state)))
    if options.json:
        print_json({"queue": queue, "count": count})
    else:
        print_line(f"{count:,} jobs deleted from {queue}.")


# --- shared with `headrace top`


def print_queues(views: Sequence[QueueView]) -> None:
    print_table(QUEUE_COLUMNS, [queue_row(view) for view in views], "No queues.")


QUEUE_COLUMNS = (
    *("queue", "", "ready", "scheduled", "leased"),
    *("succeeded", "dead", "unroutable", "oldest", "payloads"),
)


def queue_row(view: QueueView) -> tuple[object, ...]:
    return (
        view.queue,
        "paused" if view.paused else "",
        view.ready,
        view.scheduled,
        view.leased,
        view.succeeded,
        view.dead,
        view.unroutable,
        roughly(view.oldest_ready_ms) if view.oldest_ready_ms else "",
        about_bytes(view.payload_bytes),
    )


def about_bytes(size_bytes: int) -> str:
    """Three digits of it, in the largest unit that fits."""
    size = float(size_bytes)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def setting_facts(settings: QueueSettings) -> list[tuple[str, object]]:
    """Under the names of `queue set`."""
    retry = settings.retry
    return [
        ("durability", DURABILITY_WORDS[settings.durability]),
        ("attempt-max", retry.attempt_max),
        ("backoff", BACKOFF_WORDS[retry.backoff]),
        ("backoff-base", format_duration(retry.base_ms)),
        ("backoff-cap", format_duration(retry.cap_ms)),
        ("crash-max", retry.crash_max),
        ("payload-bytes-max", format_size(settings.payload_bytes_max)),
        ("succeeded-age", format_duration(settings.succeeded_age_ms)),
        ("succeeded-count", settings.succeeded_count),
        ("succeeded-bytes", format_size(settings.succeeded_bytes)),
        ("dead-age", format_duration(settings.dead_age_ms)),
        ("dead-count", settings.dead_count),
        ("dead-bytes", format_size(settings.dead_bytes)),
    ]


# --- inside


def _facts(view: QueueView) -> list[tuple[str, object]]:
    numbers: list[tuple[str, object]] = [
        (name, getattr(view, name))
        for name in (
            *("scheduled", "blocked", "ready", "unroutable", "leased", "succeeded", "dead"),
            *("enqueued_total", "succeeded_total", "failed_total"),
            *("dead_total", "cancelled_total"),
        )
    ]
    return [
        ("queue", view.queue),
        ("paused", view.paused),
        *((name.replace("_", " "), number) for name, number in numbers),
        ("oldest ready", roughly(view.oldest_ready_ms) if view.oldest_ready_ms else ""),
        ("payloads", about_bytes(view.payload_bytes)),
        ("finished jobs", about_bytes(view.finished_bytes)),
    ]


def _change(
    options: Remote, queue: str, act: Callable[[Client], Awaitable[object]], done: str
) -> None:
    async def change() -> object:
        async with reached(options) as found:
            return await act(found.client)

    reply = run(change())
    if options.json:
        print_json({"queue": queue, **plain(reply)})
    else:
        print_line(f"{queue} {done}.")


def _parsed(name: str, text: str) -> int:
    option = name.removesuffix("_ms").replace("_", "-")
    return duration_option(text, option) if name.endswith("_ms") else size_option(text, option)


def check_ranges(given: dict[str, Any]) -> None:
    """Raises: `UsageFault` naming everything outside the ranges of the settings' tree."""
    if not given:
        raise UsageFault("Nothing to set was given.", hint="See `headrace queue set --help`.")
    annotations = fields(QueueDefaults)
    faults = []
    for name, value in given.items():
        bounds = range_of(annotations[name])
        if bounds is not None and not bounds[0] <= value <= bounds[1]:
            option = name.removesuffix("_ms").replace("_", "-")
            faults.append(f"--{option} must be from {bounds[0]:,} to {bounds[1]:,}, not {value:,}.")
    if faults:
        raise UsageFault(" ".join(faults))


async def _configure(options: Remote, queue: str, given: dict[str, Any]) -> QueueSettings:
    async with reached(options, create=True) as found:
        try:
            current = (await found.client.get_queue(queue)).settings
        except UnknownQueue:
            current = queue_settings(options.loaded().settings.queue)
        retry = {
            _RETRY_FIELDS[name]: value for name, value in given.items() if name in _RETRY_FIELDS
        }
        others = {name: value for name, value in given.items() if name not in _RETRY_FIELDS}
        policy: RetryPolicy = msgspec.structs.replace(current.retry, **retry)
        settings: QueueSettings = msgspec.structs.replace(current, retry=policy, **others)
        await found.client.configure_queue(queue, settings)
        return settings


_RETRY_FIELDS = {
    "attempt_max": "attempt_max",
    "backoff": "backoff",
    "backoff_base_ms": "base_ms",
    "backoff_cap_ms": "cap_ms",
    "crash_max": "crash_max",
}


async def _purge(options: Remote, queue: str, states: tuple[int, ...]) -> int:
    count, more = 0, True
    with progress(f"deleting from {queue}") as advance:
        async with reached(options) as found:
            while more:
                reply = await found.client.call(Purge(queue, states))
                count, more = count + reply.count, reply.more
                advance(count)
    return count
