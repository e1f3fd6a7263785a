"""Acks, nacks and releases on their way: those of one pass of the loop travel together.

A lease stays held until its answer has come. The link repeats what a lost connection
swallowed; what the server refuses because the lease has moved on is over; what it cannot
take now, and what nobody has answered in time, is offered again.

Must never settle one lease twice.
"""

from __future__ import annotations

import asyncio
from typing import Any

from headrace.client.held import FORGOTTEN, SETTLED, STARTED, HeldJob, Holdings
from headrace.client.reports import WorkerReport
from headrace.client.target import AnyLink
from headrace.model.commands import Ack, Command, Failure, Nack, Release, Return
from headrace.model.errors import HeadraceError, LimitReached, OutcomeUnknown, Unavailable
from headrace.model.ids import id_to_text
from headrace.model.job import JobError
from headrace.model.limits import JOBS_PER_CALL_MAX, REFUSED_RETRY_MS, RESULT_BYTES_MAX
from headrace.model.replies import Settled

_RESULTS_BYTES_MAX = 4 * RESULT_BYTES_MAX
"""Results of one frame."""


class Settler:
    """All methods belong to the worker's loop."""

    def __init__(self, link: AnyLink, holdings: Holdings, report: WorkerReport) -> None:
        self._loop = asyncio.get_running_loop()
        self._link = link
        self._holdings = holdings
        self._report = report
        self._acks: list[tuple[bytes, int, bytes | None]] = []
        self._acked: list[HeldJob] = []
        self._ack_bytes = 0
        self._nacks: list[Failure] = []
        self._nacked: list[HeldJob] = []
        self._releases: list[Return] = []
        self._released: list[HeldJob] = []
        self._flush_is_due = False
        self._unanswered = 0
        self._settled = asyncio.Event()
        self._settled.set()
        self._closed = False
        self.round_trip_s = 0.0
        """Of acks: smoothed; what a commit costs, seen from here."""
        self.finished_count = 0
        """Acks and nacks ever made."""

    def ack(self, held: HeldJob, result: bytes | None) -> None:
        """The job has succeeded. Nothing, when its lease was settled or lost before."""
        if held.state >= SETTLED:
            return
        held.state = SETTLED
        self.finished_count += 1
        self._acks.append((held.job_id, held.token, result))
        self._acked.append(held)
        if result is not None:
            self._ack_bytes += len(result)
        if len(self._acks) >= JOBS_PER_CALL_MAX or self._ack_bytes > _RESULTS_BYTES_MAX:
            self._flush()
        else:
            self._flush_soon()

    def nack(
        self, held: HeldJob, error: JobError, *, retryable: bool = True, delay_ms: int = -1
    ) -> None:
        """The attempt has failed."""
        if held.state >= SETTLED:
            return
        held.state = SETTLED
        self.finished_count += 1
        self._nacks.append(Failure(held.job_id, held.token, error, retryable, delay_ms))
        self._nacked.append(held)
        self._flush_soon()

    def release(self, held: HeldJob, *, delay_ms: int = 0, started: bool = False) -> None:
        """The job goes back, uncharged."""
        if held.state >= SETTLED:
            return
        held.state = SETTLED
        self._releases.append(Return(held.job_id, held.token, delay_ms, started))
        self._released.append(held)
        self._flush_soon()

    async def settled(self) -> None:
        """Everything said so far has been answered."""
        self._flush()
        await self._settled.wait()

    def close(self) -> None:
        """Nothing is offered again from here on."""
        self._closed = True

    # --- inside

    def _flush_soon(self) -> None:
        if not self._flush_is_due:
            self._flush_is_due = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_is_due = False
        if self._acks:
            results, acked, self._acks, self._acked = self._acks, self._acked, [], []
            self._ack_bytes = 0
            self._send(Ack(results), acked)
        for command, settled in self._other_commands():
            self._send(command, settled)

    def _other_commands(self) -> list[tuple[Command, list[HeldJob]]]:
        found: list[tuple[Command, list[HeldJob]]] = []
        while self._nacks:
            # Errors are up to 16 KiB each: a hundred of them stay well below a frame.
            found.append((Nack(self._nacks[:100]), self._nacked[:100]))
            del self._nacks[:100], self._nacked[:100]
        while self._releases:
            part = slice(0, JOBS_PER_CALL_MAX)
            found.append((Release(self._releases[part]), self._released[part]))
            del self._releases[part], self._released[part]
        return found

    def _send(self, command: Command, settled: list[HeldJob]) -> None:
        self._unanswered += 1
        self._settled.clear()
        sent_at_s = self._loop.time()

        def answered(answer: asyncio.Future[Any]) -> None:
            self._answered(command, settled, answer, sent_at_s)

        self._link.call(command).add_done_callback(answered)

    def _answered(
        self,
        command: Command,
        settled: list[HeldJob],
        answer: asyncio.Future[Any],
        sent_at_s: float,
    ) -> None:
        self._unanswered -= 1
        error = None if answer.cancelled() else answer.exception()
        if isinstance(error, Unavailable | OutcomeUnknown) and not self._closed:
            self._offer_again(command, settled, error)
        else:
            refused: list[HeldJob] = []
            if answer.cancelled() or error is not None:
                self._report_lost(settled, error)
            else:
                self._note_round_trip(self._loop.time() - sent_at_s)
                refused = self._take_problems(settled, answer.result())
            for held in settled:
                if held not in refused:
                    self._holdings.forget(held)
        if not self._unanswered and not self._flush_is_due:
            self._settled.set()

    def _offer_again(self, command: Command, settled: list[HeldJob], error: HeadraceError) -> None:
        """Each names its leases, so repeating it is safe for as long as they are held, and
        giving up would run again what has run."""
        self._unanswered += 1
        wait_s = max(error.retry_after_ms, REFUSED_RETRY_MS) / 1_000

        def again() -> None:
            self._unanswered -= 1
            self._send(command, settled)

        self._loop.call_later(wait_s, again)

    def _note_round_trip(self, round_trip_s: float) -> None:
        self.round_trip_s += (
            (round_trip_s - self.round_trip_s) / 8 if self.round_trip_s else (round_trip_s)
        )

    def _take_problems(self, settled: list[HeldJob], reply: Settled) -> list[HeldJob]:
        """What could not be given back, and is nacked instead: it has snoozed too often. Its
        lease would otherwise come to light later, and the job run again for ever."""
        refused: list[HeldJob] = []
        for problem in reply.problems or ():
            held = settled[problem.position]
            if held.state == FORGOTTEN:
                continue
            if problem.code == LimitReached.code:
                held.state = STARTED
                self.nack(held, JobError(type="LimitReached", message=problem.message))
                refused.append(held)
            self._report(
                "settle_refused",
                job_id=id_to_text(held.job_id),
                kind=held.group.kind,
                code=problem.code,
                message=problem.message,
            )
        return refused

    def _report_lost(self, settled: list[HeldJob], error: BaseException | None) -> None:
        code = error.code if isinstance(error, HeadraceError) else "internal"
        self._report("settle_lost", jobs=len(settled), code=code, message=str(error or ""))
