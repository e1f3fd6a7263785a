"""`headrace enqueue`: one job from the shell.

Its id goes to standard output, alone; with --wait its result does.
"""

from __future__ import annotations

import sys
from typing import Annotated, Literal

import msgspec
from cyclopts import Parameter

from headrace.cli.application import noun, run
from headrace.cli.exits import UsageFault
from headrace.cli.job import wanted
from headrace.cli.options import Remote
from headrace.cli.output import print_json, print_line
from headrace.cli.target import Reached, reached
from headrace.cli.times import duration_option, instant_option, now_ms
from headrace.cli.wire_names import JSON_MEDIA_TYPE, plain
from headrace.client.errors import JobCancelled, JobFailed
from headrace.model.commands import NewJob
from headrace.model.errors import OutcomeUnknown
from headrace.model.ids import id_to_text, slot_of_queue
from headrace.model.job import FINAL_STATES, JobExtra, JobSpec, RetryPolicy, State
from headrace.model.limits import CALL_BYTES_MAX, PRIORITY_DEFAULT, RESULT_WAIT_MS
from headrace.model.replies import JobView

app = noun("enqueue")


@app.default
def enqueue(
    kind: str,
    /,
    *,
    json: Annotated[str, Parameter(allow_leading_hyphen=True)] = "{}",
    queue: str = "default",
    priority: int = PRIORITY_DEFAULT,
    delay: str | None = None,
    run_at: str | None = None,
    start_by: str | None = None,
    timeout: str | None = None,
    attempts: int | None = None,
    key: str = "",
    key_window: str = "24h",
    tag: list[str] | None = None,
    id: str = "",
    wait: bool = False,
    wait_timeout: str | None = None,
    format: Literal["text", "json"] = "text",
    url: str | None = None,
    token_file: str | None = None,
    config: str | None = None,
    debug: Annotated[bool, Parameter(help="Show the traceback of an error.")] = False,
) -> None:
    """Enqueue one job. It is durable when its id is printed.

    Args:
        kind: Name of the handler, as a worker announces it.
        json: The payload: a JSON object of parameter names to values; - reads it from
            standard input.
        queue: Where it goes.
        priority: 0 to 255, higher runs first inside a queue.
        delay: Not before this time has passed, as 10m.
        run_at: Not before this instant, as 2026-01-31T12:00:00Z.
        start_by: Cancelled if it has not started by this instant, or within this time, as 10m.
        timeout: Longest run of one attempt.
        attempts: Attempts before it is dead; otherwise as the queue says.
        key: Idempotency key: the same key within its window gives the first job again.
        key_window: How long the key holds.
        tag: May be given several times.
        id: A UUID of your own; the same id with the same content is the same job.
        wait: Wait until it is final, and print its result; exit code 1 if it did not succeed.
        wait_timeout: With --wait: longest time to wait.
        format: What is printed: the id or result alone, or all as JSON.
        url: A data directory, headrace://HOST:PORT or unix:///PATH.
        token_file: File with the token that the server asks for.
        config: Read settings from this file instead of ./headrace.toml.
    """
    options = Remote(format == "json", config, debug, url, token_file)
    spec = JobSpec(
        queue,
        kind,
        retry=None if attempts is None else RetryPolicy(attempt_max=attempts),
        timeout_ms=duration_option(timeout, "timeout"),
    )
    new_job = NewJob(
        wanted(id) if id else b"",
        0,
        _payload(json),
        priority,
        instant_option(run_at, "run-at", ahead=True),
        duration_option(delay, "delay"),
        _extra(key, key_window, start_by, tag),
    )
    wait_ms = duration_option(wait_timeout, "wait-timeout") if wait_timeout else None
    run(_enqueue(options, spec, new_job, wait=wait, wait_ms=wait_ms))


def _payload(text: str) -> bytes:
    """Raises: `UsageFault` for what is no JSON object."""
    content = sys.stdin.buffer.read(CALL_BYTES_MAX + 1) if text == "-" else text.encode()
    try:
        value = msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UsageFault(f"The payload is no JSON: {error}.") from error
    if not isinstance(value, dict):
        raise UsageFault(
            "The payload must be a JSON object of parameter names to values.",
            hint="""For example --json '{"user_id": 42}'.""",
        )
    return content


def _extra(key: str, window: str, start_by: str | None, tags: list[str] | None) -> JobExtra | None:
    extra = JobExtra(
        key=key,
        key_window_ms=duration_option(window, "key-window"),
        start_by_ms=instant_option(start_by, "start-by", ahead=True),
        tags=tuple(tags or ()),
    )
    return extra if key or start_by or tags else None


async def _enqueue(
    options: Remote, spec: JobSpec, new_job: NewJob, *, wait: bool, wait_ms: int | None
) -> None:
    async with reached(options, create=True) as found:
        accepted = await found.client.submit(spec, slot_of_queue(spec.queue), new_job)
        if not wait:
            answer = {"job_id": id_to_text(accepted.job_id), "created": accepted.created}
            print_json(answer) if options.json else print_line(str(answer["job_id"]))
            return
        _print_result(options, await _final(found, accepted.job_id, wait_ms))


async def _final(found: Reached, job_id: bytes, wait_ms: int | None) -> JobView:
    """Raises: `JobFailed`, `JobCancelled`; `OutcomeUnknown` when it is not final in time."""
    deadline_ms = None if wait_ms is None else now_ms() + wait_ms
    while True:
        left_ms = RESULT_WAIT_MS if deadline_ms is None else deadline_ms - now_ms()
        view = await found.client.wait_job(job_id, max(0, min(RESULT_WAIT_MS, left_ms)))
        if view.state in FINAL_STATES:
            break
        if deadline_ms is not None and now_ms() >= deadline_ms:
            raise OutcomeUnknown(
                f"Job {id_to_text(job_id)} is not final yet; it goes on.",
                hint=f"`headrace job explain {id_to_text(job_id)}` says why.",
            )
    text = id_to_text(job_id)
    if view.state == State.DEAD:
        raise JobFailed(text, view.kind, view.reason, view.errors)
    if view.state == State.CANCELLED:
        raise JobCancelled(text, view.kind, view.reason)
    return view


def _print_result(options: Remote, view: JobView) -> None:
    if options.json:
        print_json(plain(view))
    elif view.result is not None:
        is_json = view.media_type == JSON_MEDIA_TYPE
        print_line(view.result.decode() if is_json else f"{len(view.result)} bytes")
