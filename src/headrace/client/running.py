"""One attempt: from a payload to an ack, a nack or a release.

Whatever a handler does ends here as exactly one of these; nothing that it raises reaches
the slot's task, so a slot runs on.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from headrace.client.context import JobContext, JobFacts, Reporter
from headrace.client.depends import Resolver
from headrace.client.durations import duration_ms
from headrace.client.errors import (
    ChildFailed,
    GiveUp,
    JobTimedOut,
    NotAwaited,
    PayloadMismatch,
    RetryLater,
    Snoozed,
)
from headrace.client.failures import job_error
from headrace.client.held import SETTLED, HeldJob
from headrace.client.hooks import Hooks, OnFailure
from headrace.client.job_type import JobType
from headrace.client.reports import WorkerReport
from headrace.client.settle import Settler
from headrace.client.slots import STOP_CANCEL, STOP_DRAIN, STOP_TIMEOUT, Slot
from headrace.model.errors import BadRequest
from headrace.model.ids import id_to_text
from headrace.model.job import JobError
from headrace.model.limits import CONNECT_MS, RESULT_BYTES_MAX

_FINAL = (GiveUp, PayloadMismatch, NotAwaited)
"""Trying again cannot help."""


class Executors(Protocol):
    """Where handlers run that must not run on the worker's loop."""

    async def in_thread(
        self, call: Callable[[], Any], on_left_behind: Callable[[], None]
    ) -> Any: ...

    async def in_process(
        self, job_type: JobType[..., Any], facts: JobFacts, payload: bytes
    ) -> bytes | None: ...


class Handler:
    """A job type as this worker runs it: what every attempt needs, looked up once."""

    __slots__ = ("decode", "encode_result", "function", "is_plain", "job_type", "needs_process")

    def __init__(self, job_type: JobType[..., Any], hooks: Hooks) -> None:
        self.job_type = job_type
        self.function = job_type.function
        self.decode = job_type.codec.decode
        self.encode_result = job_type.codec.encode_result
        self.needs_process = job_type.executor == "process"
        self.is_plain = (
            job_type.executor == "async" and not job_type.signature.needs and not hooks.run_hooks
        )
        """A coroutine function that wants nothing but its payload."""


class Runner:
    """Runs attempts. One a worker; all methods belong to its loop."""

    def __init__(
        self,
        settler: Settler,
        hooks: Hooks,
        executors: Executors,
        reporter: Reporter,
        report: WorkerReport,
        mark_overrun: Callable[[Slot], None],
    ) -> None:
        self.resolver = Resolver()
        self._settler = settler
        self._hooks = hooks
        self._executors = executors
        self._reporter = reporter
        self._report = report
        self._mark_overrun = mark_overrun
        self._hook_tasks: set[asyncio.Task[None]] = set()

    async def attempt(self, held: HeldJob, slot: Slot) -> None:
        """The job is settled, unless its lease was lost. Raises: nothing."""
        handler = held.handler
        try:
            if handler.is_plain:
                result = await handler.function(**handler.decode(held.pushed.payload))
                encoded = None if result is None else handler.encode_result(result)
            else:
                encoded = await self._with_all(held, slot)
        except BaseException as error:
            self._failed(held, slot, error)
            return
        if encoded is not None and len(encoded) > RESULT_BYTES_MAX:
            self._nack(held, _result_too_large(encoded), retryable=False)
        else:
            self._settler.ack(held, encoded)

    def overrun(self, held: HeldJob, stopped_by: str) -> None:
        """Its handler did not stop in time, or cannot: the job ends without it."""
        self._report(
            "handler_overrun",
            job_id=id_to_text(held.job_id),
            kind=held.group.kind,
            stopped_by=stopped_by,
        )
        self._stopped(held, stopped_by, asyncio.CancelledError())

    async def close(self) -> None:
        """Hooks have ended, and what lives as long as the worker is closed."""
        if self._hook_tasks:
            await asyncio.wait(self._hook_tasks, timeout=CONNECT_MS / 1_000)
        await self.resolver.close()

    # --- running

    async def _with_all(self, held: HeldJob, slot: Slot) -> bytes | None:
        """With context, dependencies and hooks around it, on its executor."""
        context = held.context = JobContext(held.facts(), self._reporter)
        handler = held.handler
        if handler.job_type.executor == "process":
            return await self._in_process(held, context)
        async with contextlib.AsyncExitStack() as stack:
            arguments = handler.decode(held.pushed.payload)
            needs = handler.job_type.signature.needs
            if needs:
                arguments.update(await self.resolver.resolve(needs, context, stack))
            run = self._call(held, slot, arguments)
            return handler.encode_result(await self._hooks.wrapped(context, run)())

    async def _in_process(self, held: HeldJob, context: JobContext) -> bytes | None:
        """Hooks run here and see the result's bytes; dependencies are made in the child."""

        async def run() -> bytes | None:
            return await self._executors.in_process(
                held.handler.job_type, held.facts(), held.pushed.payload
            )

        encoded: bytes | None = await self._hooks.wrapped(context, run)()
        return encoded

    def _call(
        self, held: HeldJob, slot: Slot, arguments: dict[str, Any]
    ) -> Callable[[], Awaitable[Any]]:
        function = held.handler.function
        if held.handler.job_type.executor == "async":
            return lambda: function(**arguments)
        return lambda: self._executors.in_thread(
            lambda: function(**arguments), lambda: self._mark_overrun(slot)
        )

    # --- failing

    def _failed(self, held: HeldJob, slot: Slot, error: BaseException) -> None:
        if isinstance(error, asyncio.CancelledError) and slot.stopped_by:
            if slot.task is not None:
                slot.task.uncancel()
            self._stopped(held, slot.stopped_by, error)
        elif isinstance(error, Snoozed):
            self._settler.release(held, delay_ms=error.delay_ms, started=True)
        elif isinstance(error, RetryLater):
            self._nack(held, job_error(error), delay_ms=own_delay_ms(error), error=error)
        elif isinstance(error, GeneratorExit):
            raise error
        else:
            retryable = is_retryable(held.handler.job_type, error)
            delay_ms = error.delay_ms if isinstance(error, ChildFailed) else -1
            self._nack(held, _error_of(error), retryable=retryable, delay_ms=delay_ms, error=error)

    def _stopped(self, held: HeldJob, stopped_by: str, error: BaseException) -> None:
        """Nothing is said of a lease that was lost (`STOP_LOST`)."""
        if stopped_by == STOP_TIMEOUT:
            timed_out = JobTimedOut(
                f"The attempt ran longer than its timeout of {held.group.timeout_ms} ms."
            )
            timed_out.__traceback__ = error.__traceback__
            self._nack(held, job_error(timed_out), error=timed_out)
        elif stopped_by == STOP_CANCEL:
            self._nack(held, JobError(type="Cancelled", message="cancelled while it ran"))
        elif stopped_by == STOP_DRAIN:
            self._settler.release(held, started=True)

    def _nack(
        self,
        held: HeldJob,
        job_error: JobError,
        *,
        retryable: bool = True,
        delay_ms: int = -1,
        error: BaseException | None = None,
    ) -> None:
        if held.state >= SETTLED:
            return
        self._settler.nack(held, job_error, retryable=retryable, delay_ms=delay_ms)
        is_dead = held.is_last_attempt or not retryable
        self._report(
            "job_dead" if is_dead else "job_failed",
            job_id=id_to_text(held.job_id),
            kind=held.group.kind,
            attempt=held.pushed.attempt,
            error=job_error.type,
            message=job_error.message,
        )
        hooks = self._hooks.dead_hooks if is_dead else self._hooks.retry_hooks
        if hooks and error is not None:
            self._run_hooks_soon(hooks, held, error)

    def _run_hooks_soon(self, hooks: list[OnFailure], held: HeldJob, error: BaseException) -> None:
        task = asyncio.get_running_loop().create_task(self._run_failure_hooks(hooks, held, error))
        self._hook_tasks.add(task)
        task.add_done_callback(self._hook_tasks.discard)

    async def _run_failure_hooks(
        self, hooks: list[OnFailure], held: HeldJob, error: BaseException
    ) -> None:
        context = held.context or JobContext(held.facts(), self._reporter)
        for hook in hooks:
            try:
                made = hook(context, error)
                if inspect.isawaitable(made):
                    await made
            except Exception as failure:
                self._report(
                    "hook_failed", job_id=context.id, kind=context.kind, error=repr(failure)
                )


def is_retryable(job_type: JobType[..., Any], error: BaseException) -> bool:
    """Whether another attempt can help, as far as the job type says."""
    if isinstance(error, ChildFailed):
        return error.retryable
    if isinstance(error, _FINAL):
        return False
    return job_type.retry is None or job_type.retry.is_retryable(error)


def own_delay_ms(error: RetryLater) -> int:
    """-1, the policy's own delay, when what was raised is no duration."""
    try:
        return duration_ms(error.delay, "delay")
    except BadRequest:
        return -1


def _error_of(error: BaseException) -> JobError:
    return error.job_error if isinstance(error, ChildFailed) else job_error(error)


def _result_too_large(encoded: bytes) -> JobError:
    return JobError(
        type="PayloadTooLarge",
        message=f"The result has {len(encoded):,} bytes; at most {RESULT_BYTES_MAX:,} are kept. "
        "Store big results elsewhere and return a reference.",
    )
