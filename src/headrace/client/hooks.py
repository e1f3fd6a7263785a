"""What an application hangs into the life of its jobs; each hook may be given many times.

Order: `on_enqueue` on the producer; `lifespan` around a worker; `around_run` around each
attempt, the first registered outermost; `on_retry` and `on_dead` after a failed attempt
was reported. A failing `on_retry` or `on_dead` is logged and changes nothing.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec

from headrace.client.context import JobContext
from headrace.client.errors import BadRegistration


class EnqueueDraft(msgspec.Struct, gc=False):
    """What an `on_enqueue` hook sees and may change, before the job is sent."""

    kind: str
    queue: str
    priority: int
    tags: tuple[str, ...]
    headers: dict[str, str]
    payload: bytes


OnEnqueue = Callable[[EnqueueDraft], None]
CallNext = Callable[[], Awaitable[Any]]
AroundRun = Callable[[JobContext, CallNext], Awaitable[Any]]
OnFailure = Callable[[JobContext, BaseException], Any]
Lifespan = Callable[[], AsyncIterator[None]]


class Hooks:
    """All hooks of one application. Registering returns the function, for use as decorator."""

    def __init__(self) -> None:
        self.enqueue_hooks: list[OnEnqueue] = []
        self.run_hooks: list[AroundRun] = []
        self.retry_hooks: list[OnFailure] = []
        self.dead_hooks: list[OnFailure] = []
        self.lifespans: list[Lifespan] = []

    def on_enqueue(self, hook: OnEnqueue) -> OnEnqueue:
        """`hook(draft)` before each enqueue; raising refuses it. Not a coroutine function."""
        if inspect.iscoroutinefunction(hook):
            raise BadRegistration(
                f"on_enqueue hook {_name(hook)} is async; it must be a plain function, "
                "since enqueue_sync has no loop to await it on."
            )
        self.enqueue_hooks.append(hook)
        return hook

    def around_run(self, hook: AroundRun) -> AroundRun:
        """`await hook(ctx, call_next)`; what it returns is the result, so it must return it."""
        if not inspect.iscoroutinefunction(hook):
            raise BadRegistration(
                f"around_run hook {_name(hook)} must be `async def {_name(hook)}(ctx, call_next)`."
            )
        self.run_hooks.append(hook)
        return hook

    def on_retry(self, hook: OnFailure) -> OnFailure:
        """`hook(ctx, error)`, async or not, after an attempt failed that is not the last."""
        self.retry_hooks.append(hook)
        return hook

    def on_dead(self, hook: OnFailure) -> OnFailure:
        """`hook(ctx, error)`, async or not, after the last attempt failed."""
        self.dead_hooks.append(hook)
        return hook

    def lifespan(self, hook: Lifespan) -> Lifespan:
        """An async generator: what stands before its `yield` runs when a worker starts."""
        if not inspect.isasyncgenfunction(hook):
            raise BadRegistration(
                f"lifespan {_name(hook)} must be an `async def` with one `yield`."
            )
        self.lifespans.append(hook)
        return hook

    @contextlib.asynccontextmanager
    async def worker_lifespan(self) -> AsyncIterator[None]:
        """All lifespans entered in order, left in reverse."""
        async with contextlib.AsyncExitStack() as stack:
            for lifespan in self.lifespans:
                await stack.enter_async_context(contextlib.asynccontextmanager(lifespan)())
            yield

    def wrapped(self, context: JobContext, run: CallNext) -> CallNext:
        """`run` inside every `around_run` hook."""
        for hook in reversed(self.run_hooks):
            run = _around(hook, context, run)
        return run


def _around(hook: AroundRun, context: JobContext, run: CallNext) -> CallNext:
    async def inner() -> Any:
        return await hook(context, run)

    return inner


def _name(hook: Callable[..., Any]) -> str:
    return getattr(hook, "__name__", repr(hook))
