"""`headrace job`: look at jobs and change them, one command each."""

from __future__ import annotations

import base64
import binascii
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Annotated, Literal

from cyclopts import Parameter

from headrace.cli import job_page
from headrace.cli.application import noun, run
from headrace.cli.exits import UsageFault, end
from headrace.cli.options import REMOTE, Remote
from headrace.cli.output import confirm, print_json, print_line, print_table
from headrace.cli.target import reached
from headrace.cli.times import ago, duration_option, instant_option, now_ms
from headrace.cli.wire_names import plain, state_word
from headrace.client.client import Client
from headrace.model.commands import ListJobs
from headrace.model.errors import BadRequest, HeadraceError
from headrace.model.ids import id_from_text, id_to_text
from headrace.model.job import State
from headrace.model.limits import PAGE_ROWS_DEFAULT, PAGE_ROWS_MAX, PRIORITY_MAX
from headrace.model.replies import Changed, Explanation, JobPage, JobView

app = noun("job", "Show, list, cancel, retry, delete and explain jobs.")

StateWord = Literal["scheduled", "blocked", "ready", "leased", "succeeded", "dead", "cancelled"]
JobIds = Annotated[tuple[str, ...], Parameter(name="JOB_ID")]


@app.command
def show(job_id: str, /, *, full: bool = False, options: Remote = REMOTE) -> None:
    """Show all that is known of one job: payload, result, errors, history, log.

    Args:
        full: Show long payloads, results and tracebacks whole.
    """

    wanted_id = wanted(job_id)

    async def look() -> JobView:
        async with reached(options) as found:
            return await found.client.get_job(wanted_id)

    view = run(look())
    if options.json:
        print_json(plain(view))
    else:
        job_page.show(view, full=full)


@app.command(name="list")
def list_jobs(
    *,
    queue: str = "",
    state: list[StateWord] | None = None,
    kind: str = "",
    tag: str = "",
    since: str | None = None,
    before: str | None = None,
    limit: int = PAGE_ROWS_DEFAULT,
    cursor: str = "",
    options: Remote = REMOTE,
) -> None:
    """List jobs that fit all that is asked for, by queue and state, in order of number.

    Args:
        queue: Of this queue only.
        state: Of this state; may be given several times.
        kind: Of this kind.
        tag: With this tag.
        since: Enqueued since then: a time with offset, or how long ago, as 10m.
        before: Enqueued before then.
        limit: At most so many.
        cursor: Go on where the JSON of an earlier list ended.
    """
    query = ListJobs(
        queue=queue,
        states=states_of(state or ()),
        kind=kind,
        tag=tag,
        enqueued_from_ms=instant_option(since, "since"),
        enqueued_before_ms=instant_option(before, "before"),
        cursor=_cursor(cursor),
    )
    jobs, rest = run(_collect(options, query, limit))
    if options.json:
        print_json({"jobs": plain(jobs), "cursor": base64.b64encode(rest).decode()})
        return
    print_jobs(jobs)
    if rest:
        print_line(f"There are more than {limit:,}; raise --limit.")


@app.command
def cancel(*job_id: str, reason: str = "", options: Remote = REMOTE) -> int:
    """Cancel waiting jobs, and ask running ones to stop.

    Args:
        reason: Kept with the job.
    """
    return change(options, job_id, lambda client, one: client.cancel(one, reason), "cancelled")


@app.command
def retry(*job_id: str, delay: str | None = None, options: Remote = REMOTE) -> int:
    """Let dead or cancelled jobs wait again: same id, attempt 0, errors kept.

    Args:
        delay: Not before this time has passed, as 10m.
    """
    delay_ms = duration_option(delay, "delay")
    return change(
        options, job_id, lambda client, one: client.revive(one, delay_ms=delay_ms), "revived"
    )


@app.command
def run_now(*job_id: str, options: Remote = REMOTE) -> int:
    """Make waiting jobs due now."""
    return change(options, job_id, lambda client, one: client.reschedule(one), "due now")


@app.command
def priority(level: int, *job_id: str, options: Remote = REMOTE) -> int:
    """Change the priority of waiting jobs: 0 to 255, higher runs first inside a queue."""
    if not 0 <= level <= PRIORITY_MAX:
        raise UsageFault(f"The priority must be from 0 to {PRIORITY_MAX}, not {level}.")
    return change(
        options, job_id, lambda client, one: client.change_priority(one, level), f"now {level}"
    )


@app.command
def delete(
    *job_id: str,
    yes: Annotated[bool, Parameter(alias="-y")] = False,
    options: Remote = REMOTE,
) -> int:
    """Delete final or waiting jobs, and everything known of them.

    Args:
        yes: Do not ask.
    """
    checked = [wanted(one) for one in job_id]
    if checked:
        confirm(f"{_count(checked)} will be deleted for good", yes=yes)
    return change(options, job_id, lambda client, one: client.delete(one), "deleted")


@app.command
def explain(job_id: str, /, *, options: Remote = REMOTE) -> None:
    """Say why a job does not run, what holds it, and what would free it."""

    wanted_id = wanted(job_id)

    async def ask() -> Explanation:
        async with reached(options) as found:
            return await found.client.explain(wanted_id)

    explanation = run(ask())
    if options.json:
        print_json(plain(explanation))
    else:
        job_page.show_explanation(explanation)


# --- shared with `headrace dead`


def wanted(text: str) -> bytes:
    """The id of what was typed. Raises: `UsageFault`."""
    try:
        return id_from_text(text)
    except BadRequest as error:
        raise UsageFault(error.message, hint=error.hint) from error


def states_of(words: Sequence[str]) -> tuple[int, ...]:
    return tuple(int(State.of_word(word)) for word in words)


def change(
    options: Remote,
    job_ids: Sequence[str],
    act: Callable[[Client, bytes], Awaitable[object]],
    done: str,
) -> int:
    """`act` was tried on every job; the exit code is that of the first that was refused."""
    checked = [wanted(text) for text in job_ids]
    if not checked:
        raise UsageFault("No job id was given.")

    async def act_on_all() -> int:
        first_code = 0
        answers = []
        async with reached(options) as found:
            for job_id in checked:
                try:
                    reply = await act(found.client, job_id)
                except HeadraceError as error:
                    first_code = first_code or end(error, debug=options.debug)
                else:
                    answers.append(_tell(options, job_id, reply, done))
        if options.json:
            print_json({"jobs": answers})
        return first_code

    return run(act_on_all())


def _tell(options: Remote, job_id: bytes, reply: object, done: str) -> dict[str, object]:
    answer = {"job_id": id_to_text(job_id), **plain(reply)}
    if not options.json:
        asked = isinstance(reply, Changed) and reply.cancel_requested
        print_line(f"{id_to_text(job_id)} {'asked to stop' if asked else done}")
    return answer


async def pages(client: Client, query: ListJobs) -> AsyncIterator[JobPage]:
    """Every page of a list, at least one; `query.cursor` moves on."""
    while True:
        page = await client.list_jobs(query)
        yield page
        if not page.cursor:
            return
        query.cursor = page.cursor


async def _collect(options: Remote, query: ListJobs, limit: int) -> tuple[list[JobView], bytes]:
    jobs: list[JobView] = []
    if limit < 1:
        raise UsageFault(f"--limit must be 1 or more, not {limit}.")
    query.limit = min(limit, PAGE_ROWS_MAX)
    async with reached(options) as found:
        async for page in pages(found.client, query):
            jobs += page.jobs
            query.limit = min(limit - len(jobs), PAGE_ROWS_MAX)
            if not query.limit:
                return jobs, page.cursor
    return jobs, b""


def print_jobs(jobs: Sequence[JobView]) -> None:
    now = now_ms()
    print_table(
        ("job_id", "state", "queue", "kind", "attempt", "priority", "enqueued", "due or ended"),
        [
            (
                id_to_text(view.job_id),
                state_word(view),
                view.queue,
                view.kind,
                f"{view.attempt}/{view.attempt_max}",
                view.priority,
                ago(view.enqueued_at_ms, now),
                ago(view.ended_at_ms or view.run_at_ms, now),
            )
            for view in jobs
        ],
        "No jobs.",
    )


def _cursor(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise UsageFault("--cursor is not one that an earlier list has given.") from error


def _count(ids: Sequence[bytes]) -> str:
    return f"Job {id_to_text(ids[0])}" if len(ids) == 1 else f"{len(ids):,} jobs"
