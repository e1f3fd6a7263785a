"""A web application that enqueues: imported once, before its server forks its workers.

The directory is HEADRACE_TEST_DATA. With HEADRACE_TEST_WARM=1 the importing process itself
enqueues first, so that it owns the directory when it forks.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any

from headrace import App

app = App(os.environ["HEADRACE_TEST_DATA"])


@app.job(queue="web")
async def count(number: int) -> int:
    return number


if os.environ.get("HEADRACE_TEST_WARM"):
    count.enqueue_sync(-1)


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """`/NUMBER` enqueues it; answers the process that did, and the job's id."""
    job = count.enqueue_sync(int(environ["PATH_INFO"].strip("/")))
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{os.getpid()} {job.id}".encode()]
