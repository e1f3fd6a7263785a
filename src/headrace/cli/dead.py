"""`headrace dead`: what failed for good, and another chance for it."""

from __future__ import annotations

import asyncio
from typing import Annotated

from cyclopts import Parameter

from headrace.cli.application import noun, run
from headrace.cli.exits import FAILED, UsageFault, say
from headrace.cli.job import change, list_jobs, pages
from headrace.cli.options import REMOTE, Remote
from headrace.cli.output import confirm, print_json, print_line, progress
from headrace.cli.target import reached
from headrace.cli.times import duration_option
from headrace.client.client import Client
from headrace.model.commands import ListJobs
from headrace.model.errors import HeadraceError
from headrace.model.job import State
from headrace.model.limits import PAGE_ROWS_DEFAULT, PAGE_ROWS_MAX

app = noun("dead", "List dead jobs and give them another chance.")

CALLS_AT_A_TIME = 100


@app.command(name="list")
def list_dead(
    *,
    queue: str = "",
    kind: str = "",
    tag: str = "",
    since: str | None = None,
    before: str | None = None,
    limit: int = PAGE_ROWS_DEFAULT,
    cursor: str = "",
    options: Remote = REMOTE,
) -> None:
    """List dead jobs; as `headrace job list --state dead`.

    Args:
        queue: Of this queue only.
        kind: Of this kind.
        tag: With this tag.
        since: Enqueued since then: a time with offset, or how long ago, as 10m.
        before: Enqueued before then.
        limit: At most so many.
        cursor: Go on where the JSON of an earlier list ended.
    """
    list_jobs(
        queue=queue,
        state=["dead"],
        kind=kind,
        tag=tag,
        since=since,
        before=before,
        limit=limit,
        cursor=cursor,
        options=options,
    )


@app.command
def retry(
    *job_id: str,
    all: bool = False,
    queue: str = "",
    kind: str = "",
    delay: str | None = None,
    yes: Annotated[bool, Parameter(alias="-y")] = False,
    options: Remote = REMOTE,
) -> int:
    """Let dead jobs wait again: same id, attempt 0, errors kept.

    Args:
        all: All dead jobs, or all of --queue and --kind.
        queue: With --all: of this queue only.
        kind: With --all: of this kind only.
        delay: Not before this time has passed, as 10m.
        yes: Do not ask.
    """
    delay_ms = duration_option(delay, "delay")
    if bool(job_id) == all:
        raise UsageFault("Give job ids, or --all, and not both.")
    if not all:
        return change(
            options, job_id, lambda client, one: client.revive(one, delay_ms=delay_ms), "revived"
        )
    confirm(f"All dead jobs{_of(queue, kind)} will run again", yes=yes)
    revived, refused = run(_retry_all(options, queue, kind, delay_ms))
    if options.json:
        print_json({"revived": revived, "refused": refused})
    else:
        print_line(f"{revived:,} jobs wait again.")
    return FAILED if refused else 0


def _of(queue: str, kind: str) -> str:
    return (f" of queue {queue!r}" if queue else "") + (f" of kind {kind!r}" if kind else "")


async def _retry_all(options: Remote, queue: str, kind: str, delay_ms: int) -> tuple[int, int]:
    """How many were revived, and how many refused.

    All ids are listed first: a revived job may be dead again before the list ends.
    """
    query = ListJobs(queue=queue, kind=kind, states=(int(State.DEAD),), limit=PAGE_ROWS_MAX)
    async with reached(options) as found:
        ids = [view.job_id async for page in pages(found.client, query) for view in page.jobs]
        with progress("reviving", len(ids)) as advance:
            done, refused = 0, 0
            for start in range(0, len(ids), CALLS_AT_A_TIME):
                chunk = ids[start : start + CALLS_AT_A_TIME]
                refused += await _revive(found.client, chunk, delay_ms)
                done += len(chunk)
                advance(done)
    return done - refused, refused


async def _revive(client: Client, job_ids: list[bytes], delay_ms: int) -> int:
    """How many were refused; each refusal was said."""
    calls = [client.revive(job_id, delay_ms=delay_ms) for job_id in job_ids]
    answers = await asyncio.gather(*calls, return_exceptions=True)
    refusals = [answer for answer in answers if isinstance(answer, BaseException)]
    for refusal in refusals:
        if not isinstance(refusal, HeadraceError):
            raise refusal
        say(str(refusal))
    return len(refusals)
