"""Job: a handle on one enqueued job, in this process or any later one.

Must never poll: waiting for a result is one request that the server answers when the job
is final; a wait longer than the server holds it is asked again.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from headrace.client.durations import Duration, duration_ms
from headrace.client.errors import JobCancelled, JobFailed
from headrace.client.payload import decode_untyped
from headrace.model import limits
from headrace.model.errors import OutcomeUnknown, Unavailable
from headrace.model.ids import id_to_text
from headrace.model.job import FINAL_STATES, State
from headrace.model.replies import Changed, JobView

if TYPE_CHECKING:
    from headrace.client.app import App
    from headrace.client.job_type import JobType

R = TypeVar("R")

TRY_AGAIN = (Unavailable, OutcomeUnknown)


class Job(Generic[R]):
    """What an enqueue returns. The job is durable (unless its queue is `async`)."""

    __slots__ = ("_app", "_job_type", "created", "durable", "job_id")

    def __init__(
        self,
        app: App,
        job_type: JobType[..., R] | None,
        job_id: bytes,
        *,
        created: bool = True,
        durable: bool = True,
    ) -> None:
        self._app = app
        self._job_type = job_type
        self.job_id = job_id
        self.created = created
        """False: a job with this idempotency key, or this id, was already there."""
        self.durable = durable
        """False only in queues of durability `async`."""

    @property
    def id(self) -> str:
        return id_to_text(self.job_id)

    def __repr__(self) -> str:
        kind = f" {self._job_type.kind}" if self._job_type is not None else ""
        return f"<Job{kind} {self.id}>"

    async def view(self) -> JobView:
        """The job as it is now. Raises: `UnknownJob` when retention has forgotten it."""
        return await (await self._app.client()).get_job(self.job_id)

    async def state(self) -> State:
        return State((await self.view()).state)

    async def result(self, timeout: Duration | None = None) -> R:
        """What the handler returned, as soon as the job has succeeded.

        Raises: `JobFailed` when it is dead; `JobCancelled`; `TimeoutError` when it is not
        final in time (the job goes on); `UnknownJob`.
        Cancellation: the job is not cancelled by it.
        """
        view = await self.wait(timeout)
        return self._result_of(view)

    async def wait(self, timeout: Duration | None = None) -> JobView:
        """The job once it is final, whatever became of it. Raises: `TimeoutError`."""
        loop = asyncio.get_running_loop()
        limit_ms = None if timeout is None else duration_ms(timeout, "timeout")
        deadline_s = None if limit_ms is None else loop.time() + limit_ms / 1_000
        while True:
            left_ms = limits.RESULT_WAIT_MS
            if deadline_s is not None:
                left_ms = min(left_ms, round((deadline_s - loop.time()) * 1_000))
            view = await self._wait_once(max(left_ms, 0))
            if view is not None and view.state in FINAL_STATES:
                return view
            if deadline_s is not None and loop.time() >= deadline_s:
                raise TimeoutError(self._not_yet(view, timeout))

    async def cancel(self, reason: str = "") -> Changed:
        """A waiting job is cancelled; a running one is asked to stop (`cancel_requested`)."""
        return await (await self._app.client()).cancel(self.job_id, reason)

    # --- the same from code without a loop

    def view_sync(self) -> JobView:
        return self._app.run_sync(self.view())

    def result_sync(self, timeout: Duration | None = None) -> R:
        return self._app.run_sync(self.result(timeout))

    def cancel_sync(self, reason: str = "") -> Changed:
        return self._app.run_sync(self.cancel(reason))

    # --- inside

    async def _wait_once(self, wait_ms: int) -> JobView | None:
        """None when the server could not be asked just now; the wait goes on."""
        try:
            async with asyncio.timeout((wait_ms + limits.CONNECT_MS) / 1_000):
                return await (await self._app.client()).wait_job(self.job_id, wait_ms)
        except TimeoutError:
            return None
        except TRY_AGAIN as error:
            await asyncio.sleep(max(error.retry_after_ms, limits.REFUSED_RETRY_MS) / 1_000)
            return None

    def _result_of(self, view: JobView) -> R:
        if view.state == State.DEAD:
            raise JobFailed(self.id, view.kind, view.reason, view.errors)
        if view.state == State.CANCELLED:
            raise JobCancelled(self.id, view.kind, view.reason)
        if self._job_type is None:
            untyped: Any = decode_untyped(view.result)
            return untyped  # type: ignore[no-any-return]
        return self._job_type.decode_result(view.result)

    def _not_yet(self, view: JobView | None, timeout: Duration | None) -> str:
        state = "not known" if view is None else State(view.state).word
        return (
            f"Job {self.id} is not final after {timeout}: its state is {state}. "
            f"`headrace job explain {self.id}` says why."
        )
