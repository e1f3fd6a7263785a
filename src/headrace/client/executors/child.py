"""The program of a child process: `python -m headrace.client.executors.child`.

Loads the application once, then runs one job after another on a loop of its own. Started
as a fresh process, never forked, so it holds no lock and no connection of its worker.
SIGTERM raises in the handler, which may clean up; SIGKILL follows if it does not end.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import signal
import sys
import threading
from types import FrameType
from typing import Any

from headrace.client.app import App
from headrace.client.context import JobContext, JobFacts
from headrace.client.depends import Resolver
from headrace.client.discovery import load_app
from headrace.client.env_access import default_env
from headrace.client.errors import RetryLater, Snoozed
from headrace.client.executors.frames import (
    HEAD_BYTES,
    FromChild,
    Load,
    Raised,
    Ready,
    Returned,
    Run,
    Said,
    SnoozedFor,
    ToChild,
    body_bytes,
    decode_to_child,
    frame,
)
from headrace.client.failures import job_error
from headrace.client.job_type import JobType
from headrace.client.running import is_retryable, own_delay_ms
from headrace.model.env import Env, ParentPipe
from headrace.model.errors import HeadraceError
from headrace.model.limits import KILL_AFTER_MS


class PipeReporter:
    """Progress and log lines go to the worker, which passes them on."""

    def __init__(self, env: Env, pipe: ParentPipe) -> None:
        self.wall_ms = env.clock.wall_ms
        self._pipe = pipe

    def progress(self, facts: JobFacts, progress: bytes) -> None:
        self._pipe.write(frame(Said(progress=progress)))

    def log_line(self, facts: JobFacts, line: str) -> None:
        self._pipe.write(frame(Said(line=line)))


class Terminated(BaseException):
    """The worker asked this process to end."""


class Child:
    def __init__(self, env: Env) -> None:
        self._env = env
        self._pipe = env.processes.parent_pipe()
        self._reporter = PipeReporter(env, self._pipe)
        self._resolver = Resolver()
        self._is_running = False

    def serve(self) -> int:
        """Exit code; returns when the worker closes the pipe.

        Raises: `BrokenPipeError` when it was killed while a job ran.
        """
        self._pipe.on_parent_end(self._end_orphan)
        message = self._receive()
        if not isinstance(message, Load):
            return 1
        try:
            app = load_app(message.target)
        except Exception as error:
            problem = str(error) if isinstance(error, HeadraceError) else repr(error)
            self._pipe.write(frame(Ready(problem=problem)))
            return 1
        self._pipe.write(frame(Ready()))
        with asyncio.Runner() as runner:
            while isinstance(message := self._receive(), Run):
                self._is_running = True
                outcome = runner.run(self._run(app, message))
                self._is_running = False
                self._pipe.write(frame(outcome))
            runner.run(self._resolver.close())
        return 0

    async def _run(self, app: App, run: Run) -> FromChild:
        job_type = app.job_types[run.facts.kind]
        try:
            result = await self._call(job_type, run)
        except Snoozed as snooze:
            return SnoozedFor(snooze.delay_ms, self._rss_bytes())
        except Terminated:
            raise
        except BaseException as error:
            delay_ms = own_delay_ms(error) if isinstance(error, RetryLater) else -1
            retryable = is_retryable(job_type, error)
            return Raised(job_error(error), retryable, delay_ms, self._rss_bytes())
        return Returned(result, self._rss_bytes())

    async def _call(self, job_type: JobType[..., Any], run: Run) -> bytes | None:
        context = JobContext(run.facts, self._reporter)
        async with contextlib.AsyncExitStack() as stack:
            arguments = job_type.codec.decode(run.payload)
            needs = job_type.signature.needs
            arguments.update(await self._resolver.resolve(needs, context, stack))
            result = job_type.function(**arguments)
            if inspect.iscoroutinefunction(job_type.function):
                result = await result
            return job_type.codec.encode_result(result)

    def _receive(self) -> ToChild | None:
        """None when the worker has closed the pipe, or died in the middle of a message."""
        size = body_bytes(self._pipe.read(HEAD_BYTES))
        body = self._pipe.read(size) if size else b""
        return decode_to_child(body) if body and len(body) == size else None

    def _end_orphan(self) -> None:
        """The worker was killed: its job runs elsewhere soon, and may clean up here.

        On a thread of its own; as a worker would do it.
        """
        if self._is_running:
            signal.raise_signal(signal.SIGTERM)
            threading.Event().wait(KILL_AFTER_MS / 1_000)
            signal.raise_signal(signal.SIGKILL)

    def _rss_bytes(self) -> int:
        return self._env.processes.rss_bytes()


def _terminate(number: int, at: FrameType | None) -> None:
    raise Terminated


def main() -> int:
    signal.signal(signal.SIGTERM, _terminate)
    # Ctrl-C reaches the whole group; the worker decides what becomes of the job.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        return Child(default_env()).serve()
    except (Terminated, BrokenPipeError):
        return 128 + signal.SIGTERM


if __name__ == "__main__":
    sys.exit(main())
