"""Tests of `welcome.py`: `pytest examples/testing`. No server, no directory, no waiting."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from headrace import JobFailed, State
from headrace.testing import TestApp

from .welcome import app, mailer, remind, send_welcome


@pytest_asyncio.fixture
async def test_app() -> AsyncIterator[TestApp]:
    mailer.sent.clear()
    mailer.is_down = False
    async with TestApp(app) as test:
        yield test


@pytest.mark.asyncio
async def test_welcome_is_sent_and_a_reminder_follows_in_a_week(test_app: TestApp) -> None:
    job = await send_welcome.enqueue("ada@example.org")
    await test_app.run_until_idle()

    assert await job.result() == "sent in attempt 1"
    assert mailer.sent == ["Welcome to ada@example.org"]

    await test_app.advance("7d")

    assert mailer.sent[1:] == ["Still there? to ada@example.org"]


@pytest.mark.asyncio
async def test_welcome_is_tried_again_while_the_mail_service_is_down(test_app: TestApp) -> None:
    mailer.is_down = True
    job = await send_welcome.enqueue("ada@example.org")
    await test_app.run_until_idle()

    assert await job.state() is State.SCHEDULED

    mailer.is_down = False
    await test_app.advance("1m")

    assert await job.result() == "sent in attempt 2"


@pytest.mark.asyncio
async def test_bad_address_is_given_up_at_once(test_app: TestApp) -> None:
    job = await send_welcome.enqueue("nobody")
    await test_app.run_until_done()

    with pytest.raises(JobFailed, match="no address"):
        await job.result()


def test_code_without_a_loop_can_be_tested_too() -> None:
    mailer.sent.clear()
    with TestApp(app) as test:
        remind.enqueue_sync("ada@example.org")
        assert test.run_until_idle_sync() == 1
        assert [job.kind for job in test.jobs()] == ["remind"]

    assert mailer.sent == ["Still there? to ada@example.org"]
