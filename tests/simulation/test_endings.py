"""The end of a life: what does not come to its end once nothing breaks any more is told."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from unittest import mock

import pytest

from headrace.client.worker import Worker
from headrace.log.base import Commit, Snapshot
from headrace.log.file.log import FileLog
from headrace.model.env import Env
from headrace.model.handshake import Welcome
from headrace.sim import life, shelf
from headrace.sim.actors import HandlerWorker
from headrace.sim.checkers.liveness import HEALED_MS
from headrace.sim.conditions import conditions_of
from headrace.sim.ending import ended
from headrace.sim.final import Final
from headrace.sim.life import live
from headrace.sim.world import World

pytestmark = pytest.mark.proof

OPERATIONS = 100
OUTLIVED = [seed for seed in range(20) if conditions_of(seed).outlived]
HANDED_OVER = [seed for seed in range(60) if not conditions_of(seed).outlived]


@pytest.mark.parametrize("seed", [OUTLIVED[0], HANDED_OVER[0]])
def test_progress_is_judged_in_every_life(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    finals: list[Final] = []

    async def kept(world: World) -> Final:
        finals.append(await ended(world))
        return finals[-1]

    monkeypatch.setattr(life, "ended", kept)

    assert live(seed, OPERATIONS).violations == []
    assert finals[0].healed_ms >= HEALED_MS
    assert (finals[0].gone_actors == frozenset()) == conditions_of(seed).outlived


def test_worker_that_is_idle_after_a_reconnect_is_found_out() -> None:
    enter = Worker._on_connected

    def on_connected(self: Worker, welcome: Welcome) -> None:
        if not self.session_id:
            enter(self, welcome)

    with mock.patch.object(Worker, "_on_connected", on_connected):
        found = [violation for seed in OUTLIVED for violation in live(seed, OPERATIONS).violations]

    assert any("does not come back to work" in violation for violation in found)


def test_jobs_that_nobody_runs_although_a_worker_serves_them_are_found_out() -> None:
    work = HandlerWorker.main

    async def main(self: HandlerWorker, env: Env) -> None:
        if self._well:
            await asyncio.get_running_loop().create_future()
        await work(self, env)

    with mock.patch.object(HandlerWorker, "main", main):
        found = [
            violation for seed in HANDED_OVER[:4] for violation in live(seed, OPERATIONS).violations
        ]

    assert any("jobs that a worker serves end" in violation for violation in found)


def test_commit_that_is_gone_after_the_stop_is_found_out() -> None:
    """Also when nothing on the disk is left that could tell of it."""

    class Losing(FileLog):
        def recover(self) -> tuple[Snapshot | None, Iterator[Commit]]:
            snapshot, commits = super().recover()
            return snapshot, iter(list(commits)[:-1])

    with mock.patch.object(shelf, "FileLog", Losing):
        found = [violation for seed in HANDED_OVER[:3] for violation in live(seed, 30).violations]

    assert any("were durable and are gone" in violation for violation in found)
