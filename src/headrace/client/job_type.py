"""JobType: what `@app.job` makes of a function. Calling it runs the function, here and now;
its `enqueue` family takes the function's own arguments and makes a durable job of them.

`enqueue` returns when the job is durable. `job(...)` only binds and checks: what it
returns is for `app.enqueue_many`.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Generic, Literal, ParamSpec, TypeVar

import msgspec

from headrace.client.errors import BadRegistration
from headrace.client.handle import Job
from headrace.client.payload import PayloadCodec
from headrace.client.placement import EnqueueOptions, Placement
from headrace.client.retry import Retry
from headrace.client.signature import JobSignature
from headrace.model.commands import NewJob

if TYPE_CHECKING:
    from typing import Unpack

    from headrace.client.app import App

P = ParamSpec("P")
R = TypeVar("R")

Executor = Literal["async", "thread", "process"]


class Draft(Generic[R]):
    """A job that is bound and checked, and not yet enqueued."""

    __slots__ = ("job_type", "new_job", "placement")

    def __init__(self, job_type: JobType[..., R], placement: Placement, new_job: NewJob) -> None:
        self.job_type = job_type
        self.placement = placement
        self.new_job = new_job


class ChildLimits(msgspec.Struct, frozen=True):
    """When a process of `executor="process"` is replaced by a fresh one."""

    max_jobs: int = 1_000
    max_rss_bytes: int = 1 << 30


class JobType(Generic[P, R]):
    """One kind of job and the function that runs it."""

    def __init__(
        self,
        app: App,
        function: Callable[..., Any],
        kind: str,
        aliases: tuple[str, ...],
        placement: Placement,
        retry: Retry | None,
        executor: Executor,
        child_limits: ChildLimits,
        local_names: Mapping[str, Any] | None = None,
    ) -> None:
        self.app = app
        self.function = function
        self.kind = kind
        self.aliases = aliases
        self.placement = placement
        self.retry = retry
        self.executor = executor
        self.child_limits = child_limits
        self.signature = JobSignature(function, kind, local_names)
        functools.update_wrapper(self, function)

    @functools.cached_property
    def codec(self) -> PayloadCodec:
        return PayloadCodec(self.signature)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The function itself; nothing is enqueued."""
        return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<job {self.kind} in queue {self.placement.spec.queue}>"

    async def enqueue(self, *args: P.args, **kwargs: P.kwargs) -> Job[R]:
        """The job is durable.

        Raises: `BadArguments`; what the server refused it with; `OutcomeUnknown` with the
        id when the answer was lost for 60 s.
        Cancellation: the job may or may not have been enqueued.
        """
        return await self.app.submit(self._draft(self.placement, args, kwargs))

    def enqueue_sync(self, *args: P.args, **kwargs: P.kwargs) -> Job[R]:
        """As `enqueue`, from any thread. Inside a coroutine it blocks that loop: await there."""
        return self.app.run_sync(self.app.submit(self._draft(self.placement, args, kwargs)))

    def job(self, *args: P.args, **kwargs: P.kwargs) -> Draft[R]:
        """Bound and checked, for `app.enqueue_many`. Raises: `BadArguments`."""
        return self._draft(self.placement, args, kwargs)

    def options(self, **options: Unpack[EnqueueOptions]) -> JobWithOptions[P, R]:
        """The same job with other circumstances: delay, priority, key…"""
        return JobWithOptions(self, self.placement.with_options(options))

    def decode_result(self, result: bytes | None) -> R:
        found: R = self.codec.decode_result(result)
        return found

    def _draft(self, placement: Placement, args: Any, kwargs: Any) -> Draft[R]:
        payload = self.codec.encode(args, kwargs)
        if self.app.hooks.enqueue_hooks:
            placement = self.app.apply_enqueue_hooks(placement, payload)
        return Draft(self, placement, placement.new_job(payload))


class JobWithOptions(Generic[P, R]):
    """`send.options(delay="10m")`: enqueues like the job type, under these options."""

    __slots__ = ("_job_type", "_placement")

    def __init__(self, job_type: JobType[P, R], placement: Placement) -> None:
        self._job_type = job_type
        self._placement = placement

    async def enqueue(self, *args: P.args, **kwargs: P.kwargs) -> Job[R]:
        return await self._job_type.app.submit(self.job(*args, **kwargs))

    def enqueue_sync(self, *args: P.args, **kwargs: P.kwargs) -> Job[R]:
        return self._job_type.app.run_sync(self.enqueue(*args, **kwargs))

    def job(self, *args: P.args, **kwargs: P.kwargs) -> Draft[R]:
        return self._job_type._draft(self._placement, args, kwargs)


def default_executor(function: Callable[..., Any], kind: str) -> Executor:
    """`async` for coroutine functions, `thread` for plain ones. Raises: `BadRegistration`."""
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise BadRegistration(
            f"Job {kind!r} is a generator: nobody would run its body.",
            hint="Return a value; use ctx.progress(...) to tell how far it is.",
        )
    return "async" if inspect.iscoroutinefunction(function) else "thread"
