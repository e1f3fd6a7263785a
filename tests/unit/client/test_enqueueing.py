"""Enqueues of one pass of the loop: one frame, an answer each; a repeated call is no stranger."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from headrace.client.client import Client
from headrace.client.enqueueing import Accepted
from headrace.client.env_access import default_env
from headrace.model import commands
from headrace.model.commands import NewJob
from headrace.model.errors import IdConflict, Overloaded, PayloadTooLarge
from headrace.model.ids import slot_of_id, slot_of_queue
from headrace.model.job import JobSpec
from headrace.model.limits import CALL_BYTES_MAX, JOBS_PER_CALL_MAX, PAYLOAD_BYTES_MAX
from headrace.model.replies import Enqueued, Existing, Problem

MAIL, REPORT = JobSpec("mail", "send"), JobSpec("reports", "make")
MAIL_SLOT = slot_of_queue("mail")


class Wire:
    """Keeps the frames, and answers them when it is told to."""

    def __init__(self) -> None:
        self.frames: list[tuple[commands.Enqueue, asyncio.Future[Any]]] = []

    def call(self, command: Any) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.frames.append((command, future))
        return future

    def close(self) -> None:
        pass


@pytest.fixture
async def wire() -> Wire:
    return Wire()


@pytest.fixture
async def client(wire: Wire) -> Client:
    return Client(wire, default_env())


def submit(client: Client, payload: bytes = b"{}", spec: JobSpec = MAIL) -> Any:
    return client.submit(spec, MAIL_SLOT, NewJob(b"", 0, payload))


async def test_enqueues_of_one_pass_travel_in_one_frame_with_their_specs_once(
    client: Client, wire: Wire
) -> None:
    for spec in (MAIL, REPORT, MAIL):
        submit(client, spec=spec)
    await asyncio.sleep(0)
    submit(client)
    await asyncio.sleep(0)

    (first, _), (second, _) = wire.frames
    assert (first.specs, [job.spec for job in first.jobs]) == ([MAIL, REPORT], [0, 1, 0])
    assert not first.atomic
    assert len(second.jobs) == 1


async def test_ids_are_made_here_and_name_the_slot_of_their_queue(
    client: Client, wire: Wire
) -> None:
    for _ in range(1_000):
        submit(client)
    await asyncio.sleep(0)

    ids = [job.job_id for job in wire.frames[0][0].jobs]
    assert len(set(ids)) == 1_000
    assert {slot_of_id(job_id) for job_id in ids} == {MAIL_SLOT}


async def test_each_caller_gets_its_own_answer(client: Client, wire: Wire) -> None:
    answers = [submit(client) for _ in range(3)]
    await asyncio.sleep(0)
    frame, answer = wire.frames[0]
    other = bytes(16)
    answer.set_result(
        Enqueued(
            index=9,
            existing=[Existing(1, other, 5)],
            problems=[Problem(2, "id_conflict", "taken", "")],
        )
    )
    created, existing, refused = await asyncio.gather(*answers, return_exceptions=True)

    assert created == Accepted(frame.jobs[0].job_id, True, 0, 1, 9)
    assert existing == Accepted(other, False, 5, 1, 9)
    assert isinstance(refused, IdConflict)
    assert refused.details["job_id"] == frame.jobs[2].job_id


async def test_job_that_a_repeated_call_finds_is_the_one_that_it_made(
    client: Client, wire: Wire
) -> None:
    made_here = submit(client)
    given = client.submit(MAIL, MAIL_SLOT, NewJob(b"x" * 16, 0, b"{}"))
    await asyncio.sleep(0)
    frame, answer = wire.frames[0]
    answer.set_result(
        Enqueued(existing=[Existing(n, job.job_id, 3) for n, job in enumerate(frame.jobs)])
    )

    assert (await made_here).created
    assert not (await given).created


async def test_refusal_of_a_frame_is_an_error_of_its_own_for_each_caller(
    client: Client, wire: Wire
) -> None:
    answers = [submit(client) for _ in range(2)]
    await asyncio.sleep(0)
    wire.frames[0][1].set_exception(Overloaded("busy", retry_after_ms=7))
    first, second = await asyncio.gather(*answers, return_exceptions=True)

    assert isinstance(first, Overloaded)
    assert isinstance(second, Overloaded)
    assert first is not second
    assert first.retry_after_ms == 7


async def test_caller_that_gave_up_disturbs_nobody(client: Client, wire: Wire) -> None:
    impatient, patient = submit(client), submit(client)
    await asyncio.sleep(0)
    impatient.cancel()
    wire.frames[0][1].set_result(Enqueued())

    assert (await patient).created


async def test_frame_stays_below_the_limits_of_a_call(client: Client, wire: Wire) -> None:
    for _ in range(JOBS_PER_CALL_MAX + 1):
        submit(client)
    assert [len(frame.jobs) for frame, _ in wire.frames] == [JOBS_PER_CALL_MAX]
    await asyncio.sleep(0)
    wire.frames.clear()

    for _ in range(5):
        submit(client, bytes(2 << 20))
    await asyncio.sleep(0)
    sizes = [sum(len(job.payload) for job in frame.jobs) for frame, _ in wire.frames]
    assert all(size <= CALL_BYTES_MAX for size in sizes)
    assert len(sizes) == 2


async def test_payload_that_no_queue_takes_is_refused_at_once(client: Client) -> None:
    with pytest.raises(PayloadTooLarge, match="'send'"):
        submit(client, bytes(PAYLOAD_BYTES_MAX + 1))


async def test_busy_server_gets_a_chunk_of_a_bulk_again(client: Client, wire: Wire) -> None:
    jobs = ((MAIL, MAIL_SLOT, NewJob(b"", 0, b"{}")) for _ in range(10))
    bulk = asyncio.create_task(client.enqueue_many(jobs))
    await asyncio.sleep(0)
    first, answer = wire.frames[0]
    answer.set_exception(Overloaded("busy", retry_after_ms=1))
    async with asyncio.timeout(5):
        while len(wire.frames) < 2:
            await asyncio.sleep(0.01)
    second, answer = wire.frames[1]
    answer.set_result(Enqueued())

    assert len(await bulk) == 10
    assert second is first
    assert first.atomic
