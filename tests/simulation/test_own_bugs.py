"""A bug of headrace itself is a broken life, wherever it shows: nothing excuses it as a fault."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any
from unittest import mock

import pytest

from headrace.client.reconnect import Link
from headrace.client.worker import Worker
from headrace.engine.engine import Engine
from headrace.model.commands import ChangePriority
from headrace.runtime.clock import LogClock
from headrace.sim.conditions import conditions_of
from headrace.sim.life import live

pytestmark = pytest.mark.proof

SEEDS = range(4)
OPERATIONS = 150
PLANTED = KeyError("planted")


def violations() -> Iterator[str]:
    return (violation for seed in SEEDS for violation in live(seed, OPERATIONS).violations)


def test_node_that_dies_of_a_command_is_found_out_though_it_comes_back() -> None:
    real = Engine.run

    def run(self: Engine, command: Any, *rest: Any, **options: Any) -> Any:
        if isinstance(command, ChangePriority):
            raise PLANTED
        return real(self, command, *rest, **options)

    with mock.patch.object(Engine, "run", run):
        assert any("node: leader_failed" in violation for violation in violations())


def test_worker_that_dies_of_a_push_is_found_out_though_it_comes_back() -> None:
    real, pushes = Worker._on_push, count()

    def on_push(self: Worker, push: Any) -> None:
        if next(pushes) == 2:
            raise PLANTED
        real(self, push)

    with mock.patch.object(Worker, "_on_push", on_push):
        assert any("unhandled: worker" in violation for violation in violations())


def test_call_that_fails_with_a_bare_exception_is_found_out() -> None:
    real = Link.call

    def call(self: Link, command: Any, **options: Any) -> Any:
        answer = real(self, command, **options)
        if isinstance(command, ChangePriority) and not answer.done():
            answer.set_exception(PLANTED)
        return answer

    with mock.patch.object(Link, "call", call):
        assert any("KeyError('planted')" in violation for violation in violations())


@pytest.mark.parametrize("embedded", [False, True])
def test_start_that_fails_by_a_bug_is_found_out_whoever_starts(embedded: bool) -> None:
    real, starts = LogClock.__init__, count()

    def begin(self: LogClock, *given: Any) -> None:
        if next(starts) == 1:
            raise PLANTED
        real(self, *given)

    seeds = [seed for seed in range(40) if conditions_of(seed).embedded == embedded][:4]
    with mock.patch.object(LogClock, "__init__", begin):
        found = [violation for seed in seeds for violation in live(seed, OPERATIONS).violations]

    assert any("start: KeyError" in violation for violation in found)


@pytest.mark.parametrize("seed", SEEDS)
def test_without_a_bug_these_lives_are_whole(seed: int) -> None:
    assert live(seed, OPERATIONS).violations == []
