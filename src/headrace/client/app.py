"""App: the jobs of one application, their hooks, and the way to where they are kept.

Registering a function touches nothing outside the process; the first call connects.
"""

from __future__ import annotations

import sys
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Iterable,
    Iterator,
    Mapping,
)
from typing import Any, Concatenate, Literal, ParamSpec, TypeVar, overload

import msgspec

from headrace.client.client import Client
from headrace.client.connections import Connections
from headrace.client.context import JobContext
from headrace.client.durations import Duration
from headrace.client.env_access import default_env
from headrace.client.errors import BadRegistration
from headrace.client.finishing import as_finished
from headrace.client.handle import Job
from headrace.client.hooks import EnqueueDraft, Hooks
from headrace.client.job_type import ChildLimits, Draft, Executor, JobType, default_executor
from headrace.client.placement import Placement, checked_name, checked_priority, timeout_ms
from headrace.client.retry import Retry
from headrace.client.target import target_of
from headrace.model.durations import parse_size_bytes
from headrace.model.env import Env
from headrace.model.ids import id_from_text, slot_of_queue
from headrace.model.job import JobExtra, JobSpec
from headrace.model.limits import PRIORITY_DEFAULT
from headrace.model.queue import DURABILITY_ASYNC

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


Register = Callable[[Callable[..., Any], Mapping[str, Any] | None], JobType[..., Any]]


class Registration:
    """`@app.job(...)` with its arguments: what it decorates becomes a `JobType`.

    A first parameter annotated `JobContext` is injected, so callers do not give it.
    """

    def __init__(self, register: Register) -> None:
        self._register = register

    @overload
    def __call__(
        self, function: Callable[Concatenate[JobContext, P], Awaitable[R]]
    ) -> JobType[P, R]: ...

    @overload
    def __call__(self, function: Callable[Concatenate[JobContext, P], R]) -> JobType[P, R]: ...

    @overload
    def __call__(self, function: Callable[P, Awaitable[R]]) -> JobType[P, R]: ...

    @overload
    def __call__(self, function: Callable[P, R]) -> JobType[P, R]: ...

    def __call__(self, function: Callable[..., Any]) -> JobType[..., Any]:
        # Functions defined inside others may name what only that scope knows.
        scope = sys._getframe(1)
        is_local = scope.f_locals is not scope.f_globals
        return self._register(function, dict(scope.f_locals) if is_local else None)


class App:
    """`App("./data")`, `App("headrace://127.0.0.1:7431")`, `App("unix:///path")`, or `App()`:
    HEADRACE_URL, and without it `./data`.

    A directory is embedded: the first process that uses it runs the engine in a thread,
    others of this machine connect to it, and one of them takes over when it ends.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        token: str | None = None,
        queue: str = "default",
        env: Env | None = None,
    ) -> None:
        self.env = env or default_env()
        self.hooks = Hooks()
        self.job_types: dict[str, JobType[..., Any]] = {}
        """Kind → its job type; aliases are keys as well."""
        self._queue = checked_name(queue, "queue")
        self.connections = Connections(self.env, target_of(self.env, url, token))
        self.on_enqueue = self.hooks.on_enqueue
        self.around_run = self.hooks.around_run
        self.on_retry = self.hooks.on_retry
        self.on_dead = self.hooks.on_dead
        self.lifespan = self.hooks.lifespan

    @property
    def url(self) -> str:
        return self.connections.target.url

    # --- registering

    def job(
        self,
        misplaced: None = None,
        /,
        *,
        kind: str | None = None,
        aliases: Iterable[str] = (),
        queue: str | None = None,
        priority: int = PRIORITY_DEFAULT,
        retry: Retry | None = None,
        timeout: Duration | None = None,
        tags: Iterable[str] = (),
        executor: Literal["thread", "process"] | None = None,
        max_jobs: int = 1_000,
        max_rss: str | int = "1GiB",
    ) -> Registration:
        """Makes a job of the function below.

        Args:
            kind: its stable name in the queue; the function's name when not given. Change
                the function's name as you like, but keep the kind or list it in `aliases`.
            aliases: kinds of earlier versions that this function still runs.
            retry: attempts and backoff; the queue's own policy when not given.
            timeout: longest run of one attempt.
            executor: `"process"` for what keeps the processor busy. Plain functions run in
                threads, coroutine functions on the worker's loop.
            max_jobs, max_rss: of `"process"`: the child is replaced after so many jobs, or
                when it holds more memory.
        Raises: `BadRegistration` when the function cannot be a job, or the kind is taken.
        """
        if misplaced is not None:
            raise BadRegistration("Write @app.job() with its parentheses.")

        def register(
            function: Callable[..., Any], local_names: Mapping[str, Any] | None
        ) -> JobType[..., Any]:
            name = checked_name(kind or function.__name__, "kind")
            policy = retry.policy() if retry is not None else None
            spec = JobSpec(
                checked_name(queue or self._queue, "queue"),
                name,
                retry=policy,
                timeout_ms=timeout_ms(timeout),
            )
            placement = Placement(
                spec,
                slot_of_queue(spec.queue),
                checked_priority(priority),
                extra=JobExtra(tags=tuple(tags)) if tags else None,
            )
            job_type: JobType[..., Any] = JobType(
                self,
                function,
                name,
                tuple(checked_name(alias, "kind") for alias in aliases),
                placement,
                retry,
                _executor_of(function, name, executor),
                ChildLimits(max_jobs, parse_size_bytes(max_rss, name="max_rss")),
                local_names,
            )
            return self._add(job_type)

        return Registration(register)

    def _add(self, job_type: JobType[..., Any]) -> JobType[..., Any]:
        names = (job_type.kind, *job_type.aliases)
        for name in names:
            if name in self.job_types:
                raise BadRegistration(
                    f"Kind {name!r} is registered twice, "
                    f"by {_place(self.job_types[name].function)} and {_place(job_type.function)}.",
                    hint="Give one of them another name with @app.job(kind=...).",
                )
        self.job_types.update(dict.fromkeys(names, job_type))
        return job_type

    # --- producing

    async def client(self) -> Client:
        """The raw client of the running loop, connected: every command, payloads as bytes."""
        return await self.connections.client()

    async def submit(self, draft: Draft[R]) -> Job[R]:
        """The drafted job is durable; what `enqueue` does after binding its arguments."""
        client = await self.connections.client()
        placement = draft.placement
        accepted = await client.submit(placement.spec, placement.slot, draft.new_job)
        return Job(
            self,
            draft.job_type,
            accepted.job_id,
            created=accepted.created,
            durable=accepted.durability != DURABILITY_ASYNC,
        )

    async def enqueue_many(
        self, drafts: Iterable[Draft[R]], *, atomic: bool = False
    ) -> list[Job[R]]:
        """All are durable; `await app.enqueue_many(send.job(user) for user in users)`.

        They leave in chunks of which each is all or none, while the next are being made.
        `atomic=True` makes it one chunk (10,000 jobs, 8 MiB) and refuses more.
        Raises: what a chunk was refused with; `details["enqueued"]` counts the jobs of the
        other chunks that were taken.
        """
        client = await self.connections.client()
        job_types: list[JobType[..., R]] = []

        def new_jobs() -> Iterable[Any]:
            for draft in drafts:
                job_types.append(draft.job_type)
                yield draft.placement.spec, draft.placement.slot, draft.new_job

        accepted = await client.enqueue_many(new_jobs(), atomic=atomic)
        return [
            Job(self, job_type, one.job_id, created=one.created)
            for job_type, one in zip(job_types, accepted, strict=True)
        ]

    def enqueue_many_sync(
        self, drafts: Iterable[Draft[R]], *, atomic: bool = False
    ) -> list[Job[R]]:
        """As `enqueue_many`, from any thread; `drafts` is read in a thread of its own."""
        return self.run_sync(self.enqueue_many(drafts, atomic=atomic))

    def handle(self, job_id: str | bytes, kind: str = "") -> Job[Any]:
        """A handle on a job known by its id; with its kind, results have their type."""
        raw = id_from_text(job_id) if isinstance(job_id, str) else job_id
        return Job(self, self.job_types.get(kind), raw)

    def as_finished(
        self, jobs: Iterable[Job[R]], timeout: Duration | None = None
    ) -> AsyncIterator[Job[R]]:
        """Each handle when its job is final, whatever became of it; the first to end first.

        `async for job in app.as_finished(jobs): print(await job.result())`. A job that
        retention has forgotten counts as final. Restarts of the server are waited out.
        Raises: `TimeoutError` when not all are final in time (the jobs go on);
        `LimitReached` beyond 65,536 jobs.
        """
        return as_finished(self, jobs, timeout)

    def as_finished_sync(
        self, jobs: Iterable[Job[R]], timeout: Duration | None = None
    ) -> Iterator[Job[R]]:
        """As `as_finished`, from any thread."""
        found = as_finished(self, jobs, timeout)

        async def following() -> Job[R] | None:
            return await anext(found, None)

        try:
            while (job := self.run_sync(following())) is not None:
                yield job
        finally:
            self.run_sync(found.aclose())

    def apply_enqueue_hooks(self, placement: Placement, payload: bytes) -> Placement:
        """As the `on_enqueue` hooks leave it. Raises: whatever a hook raises."""
        spec, extra = placement.spec, placement.extra or JobExtra()
        draft = EnqueueDraft(
            spec.kind,
            spec.queue,
            placement.priority,
            extra.tags,
            dict(extra.headers or {}),
            payload,
        )
        for hook in self.hooks.enqueue_hooks:
            hook(draft)
        if draft.queue != spec.queue:
            spec = msgspec.structs.replace(spec, queue=checked_name(draft.queue, "queue"))
        extra = msgspec.structs.replace(
            extra, tags=tuple(draft.tags), headers=draft.headers or None
        )
        return msgspec.structs.replace(
            placement,
            spec=spec,
            slot=slot_of_queue(spec.queue),
            priority=checked_priority(draft.priority),
            extra=extra if extra != JobExtra() else None,
        )

    # --- running and closing

    def run_sync(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Runs it on a loop in a thread of this application; callable from any thread."""
        return self.connections.run_sync(coroutine)

    async def close(self) -> None:
        """The connection of this loop is closed; the next call opens a new one."""
        await self.connections.close()

    def close_sync(self) -> None:
        """The thread behind the `_sync` calls has ended with its connection."""
        self.connections.close_background()

    async def __aenter__(self) -> App:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def __enter__(self) -> App:
        return self

    def __exit__(self, *_: object) -> None:
        self.close_sync()


def _executor_of(
    function: Callable[..., Any], kind: str, asked: Literal["thread", "process"] | None
) -> Executor:
    fitting = default_executor(function, kind)
    if asked == "thread" and fitting == "async":
        raise BadRegistration(
            f"Job {kind!r} is a coroutine function and cannot run in a thread.",
            hint='Write `def` for a thread, or use executor="process".',
        )
    return asked or fitting


def _place(function: Callable[..., Any]) -> str:
    return f"{function.__module__}.{function.__qualname__}"
