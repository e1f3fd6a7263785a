"""Injection: `Annotated[T, Depends(factory)]`, resolved on the worker, never in the payload.

A factory is a function, a coroutine function, a generator or an async generator; of a
generator, what it yields is injected and the rest runs when the job (or the worker) ends.
Factories may depend on others and on `JobContext`; within one job each runs once.

Must never run a factory at import or enqueue time.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import msgspec

from headrace.client.context import JobContext
from headrace.client.errors import BadRegistration

Scope = Literal["job", "worker"]
Factory = Callable[..., Any]

INJECTED: Any = None
"""Default of an injected parameter, so that type checkers let callers leave it out."""


class Depends(msgspec.Struct, frozen=True, eq=False):
    """`scope="worker"`: made once per worker, at first use, and closed when it stops."""

    factory: Factory
    scope: Scope = "job"


class Need(msgspec.Struct, frozen=True, eq=False):
    """One parameter that is injected."""

    name: str
    depends: Depends | None
    """None: the JobContext itself."""
    needs: tuple[Need, ...] = ()
    """What the factory itself is given."""


def needs_of(
    parameters: dict[str, Any], owner: str, local_names: Mapping[str, Any] | None = None
) -> tuple[Need, ...]:
    """The injected ones among name → annotation, sorted as given.

    `local_names` are of the scope that defines the job, for annotations that are strings.
    Raises: `BadRegistration`.
    """
    return _NeedsReader(local_names).of(parameters, owner, ())


def injected(annotation: Any) -> Depends | type[JobContext] | None:
    """What makes this annotation an injected one; None when it belongs to the payload."""
    if annotation is JobContext:
        return JobContext
    if get_origin(annotation) is Annotated:
        for extra in get_args(annotation)[1:]:
            if isinstance(extra, Depends):
                return extra
    return None


class _NeedsReader:
    def __init__(self, local_names: Mapping[str, Any] | None) -> None:
        self._local_names = local_names

    def of(
        self, parameters: dict[str, Any], owner: str, above: tuple[Factory, ...]
    ) -> tuple[Need, ...]:
        found = []
        for name, annotation in parameters.items():
            mark = injected(annotation)
            if mark is JobContext:
                found.append(Need(name, None))
            elif isinstance(mark, Depends):
                found.append(Need(name, mark, self._of_factory(mark, owner, above)))
        return tuple(found)

    def _of_factory(
        self, depends: Depends, owner: str, above: tuple[Factory, ...]
    ) -> tuple[Need, ...]:
        factory = depends.factory
        name = getattr(factory, "__name__", repr(factory))
        if factory in above:
            raise BadRegistration(f"Dependency {name} of {owner} depends on itself.")
        needs = self.of(self._hints(factory, name), name, (*above, factory))
        if depends.scope == "worker":
            _refuse_job_things(needs, name)
        return needs

    def _hints(self, factory: Factory, name: str) -> dict[str, Any]:
        target = factory if inspect.isroutine(factory) else getattr(factory, "__init__", factory)
        known = {**getattr(target, "__globals__", {}), **(self._local_names or {})}
        try:
            hints = get_type_hints(target, localns=known, include_extras=True)
        except NameError as error:
            raise BadRegistration(
                f"An annotation of dependency {name} names {error.name!r}, which its module "
                "does not define."
            ) from error
        except TypeError:  # made by a class in C, which has no annotations
            return {}
        hints.pop("return", None)
        return hints


def _refuse_job_things(needs: tuple[Need, ...], name: str) -> None:
    for need in needs:
        if need.depends is None or need.depends.scope == "job":
            raise BadRegistration(
                f"Dependency {name} lives as long as the worker, but its parameter {need.name!r} "
                "lives only as long as one job.",
                hint='Give both scope="worker", or neither.',
            )


class Resolver:
    """Makes and closes dependencies. One a worker; of the worker scope each is made once."""

    def __init__(self) -> None:
        self._worker_stack = contextlib.AsyncExitStack()
        # A future each, so that jobs that start together wait for the first one's.
        self._worker_values: dict[Factory, asyncio.Future[Any]] = {}

    async def resolve(
        self, needs: tuple[Need, ...], context: JobContext, stack: contextlib.AsyncExitStack
    ) -> dict[str, Any]:
        """Name → value of each need; what a job's own ones must close is pushed on `stack`."""
        made: dict[Factory, Any] = {}
        return {need.name: await self._value(need, context, stack, made) for need in needs}

    async def close(self) -> None:
        """Everything of the worker scope is closed, the newest first."""
        self._worker_values.clear()
        await self._worker_stack.aclose()

    async def _value(
        self,
        need: Need,
        context: JobContext,
        stack: contextlib.AsyncExitStack,
        made: dict[Factory, Any],
    ) -> Any:
        if need.depends is None:
            return context
        if need.depends.scope == "worker":
            return await self._worker_value(need, need.depends.factory, context)
        factory = need.depends.factory
        if factory not in made:
            arguments = {
                inner.name: await self._value(inner, context, stack, made) for inner in need.needs
            }
            made[factory] = await _make(factory, arguments, stack)
        return made[factory]

    async def _worker_value(self, need: Need, factory: Factory, context: JobContext) -> Any:
        making = self._worker_values.get(factory)
        if making is not None:
            return await asyncio.shield(making)
        making = self._worker_values[factory] = asyncio.get_running_loop().create_future()
        stack = self._worker_stack
        try:
            arguments = {
                inner.name: await self._value(inner, context, stack, {}) for inner in need.needs
            }
            value = await _make(factory, arguments, stack)
        except BaseException as error:
            self._worker_values.pop(factory, None)
            making.set_exception(error)
            making.exception()  # whoever waits gets it; nobody waiting is no fault
            raise
        making.set_result(value)
        return value


async def _make(
    factory: Factory, arguments: dict[str, Any], stack: contextlib.AsyncExitStack
) -> Any:
    if inspect.isasyncgenfunction(factory):
        generated: Callable[..., AsyncIterator[Any]] = factory
        return await stack.enter_async_context(
            contextlib.asynccontextmanager(generated)(**arguments)
        )
    if inspect.isgeneratorfunction(factory):
        stepped: Callable[..., Iterator[Any]] = factory
        return stack.enter_context(contextlib.contextmanager(stepped)(**arguments))
    value = factory(**arguments)
    return await value if inspect.isawaitable(value) else value
