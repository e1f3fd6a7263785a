"""The small parts of a node: releases, waiters, timers, sessions, seeds, recovery's collector."""

from __future__ import annotations

import asyncio
import gc

import pytest

from headrace.log.memory import MemoryLog, MemoryStore
from headrace.model import commands as c
from headrace.model.commands import EndedLease, Heartbeat
from headrace.model.effects import JobEnded
from headrace.model.errors import Draining, HeadraceError, OutcomeUnknown
from headrace.model.limits import WAIT_MS_MAX
from headrace.model.options import EngineOptions
from headrace.model.pushes import DrainPushed, Push
from headrace.model.replies import Done, Reply
from headrace.runtime.peer import Peer
from headrace.runtime.recovery import GC_THRESHOLDS, recover
from headrace.runtime.releases import Owed, Releases
from headrace.runtime.seeds import Seeds
from headrace.runtime.sessions import SessionFacts, Sessions, digest_of
from headrace.runtime.timer import Timer
from headrace.runtime.waiters import Waiter, Waiting
from headrace.testing.sim_env import SimEntropy
from headrace.testing.sim_loop import SimNodeEnv, run_simulated


class Listener:
    """A peer that writes down all that happens to it, in order."""

    def __init__(self) -> None:
        self.heard: list[object] = []

    def send_reply(self, request_id: int, reply: Reply) -> None:
        self.heard.append((request_id, reply.index))

    def send_error(self, request_id: int, error: HeadraceError) -> None:
        self.heard.append((request_id, type(error).__name__))

    def send_push(self, push: Push) -> None:
        self.heard.append(type(push).__name__)

    def flush(self) -> None:
        self.heard.append("flush")


# --- releases


def test_answers_leave_in_order_up_to_the_durable_index() -> None:
    releases, peer = Releases(lambda effect, index: None), Listener()
    for index in (3, 3, 5, 9):
        releases.hold(index, peer, index * 10, Done())
    releases.release(2)
    assert peer.heard == []
    releases.release(5)
    assert peer.heard == [(30, 3), (30, 3), (50, 5), "flush"]
    assert releases.waiting == 1


def test_answers_of_an_index_leave_before_its_effects() -> None:
    peer = Listener()

    def deliver(effect: Owed, index: int) -> Peer:
        peer.send_push(DrainPushed(index))
        return peer

    releases = Releases(deliver)
    releases.hold_effect(4, JobEnded(b""))
    releases.hold(4, peer, 1, Done())
    releases.hold_effect(7, JobEnded(b""))
    releases.release(4)
    assert peer.heard == [(1, 4), "DrainPushed", "flush"]


def test_failure_answers_everybody_and_forgets_effects() -> None:
    delivered: list[Owed] = []

    def deliver(effect: Owed, index: int) -> None:
        delivered.append(effect)

    releases, peers = Releases(deliver), [Listener(), Listener()]
    releases.hold(1, peers[0], 1, Done())
    releases.hold(2, peers[1], 2, Draining())
    releases.hold_effect(2, JobEnded(b""))
    releases.fail(OutcomeUnknown)
    releases.release(10)
    assert [peer.heard for peer in peers] == [
        [(1, "OutcomeUnknown"), "flush"],
        [(2, "OutcomeUnknown"), "flush"],
    ]
    assert delivered == []


# --- waiters and timers


def _waiting(env: SimNodeEnv) -> tuple[Waiting[str, None], list[Waiter[str, None]]]:
    overdue: list[Waiter[str, None]] = []
    return Waiting(env.loop, overdue.append), overdue


def test_waiters_are_taken_by_key_and_dropped_by_peer() -> None:
    async def story(env: SimNodeEnv) -> None:
        waiting, overdue = _waiting(env)
        stays, goes = Listener(), Listener()
        for request_id, peer in enumerate((stays, goes, stays), 1):
            waiting.park("a", peer, request_id, None, 1_000)
        waiting.park("b", goes, 4, None, 1_000)
        waiting.drop_peer(goes)
        assert (waiting.count, waiting.waited_for()) == (2, ["a"])
        assert [waiter.request_id for waiter in waiting.take("a")] == [1, 3]
        await asyncio.sleep(5)
        assert (waiting.count, overdue) == (0, [])

    run_simulated(story)


def test_waiter_is_overdue_once_and_at_the_limit_at_the_latest() -> None:
    async def story(env: SimNodeEnv) -> None:
        waiting, overdue = _waiting(env)
        waiting.park("a", Listener(), 1, None, 10 * WAIT_MS_MAX)
        await asyncio.sleep(WAIT_MS_MAX / 1000 + 1)
        assert [waiter.request_id for waiter in overdue] == [1]
        assert waiting.take("a") == []

    run_simulated(story)


def _raise(bug: BaseException) -> None:
    raise bug


def test_timer_hands_on_what_its_call_raises() -> None:
    async def story(env: SimNodeEnv) -> None:
        caught: list[BaseException] = []
        Timer(env.loop, lambda: _raise(ZeroDivisionError()), caught.append).within(0)
        await asyncio.sleep(1)
        assert [type(bug) for bug in caught] == [ZeroDivisionError]

    run_simulated(story)


def test_timer_moves_earlier_but_not_later() -> None:
    async def story(env: SimNodeEnv) -> None:
        fired: list[float] = []
        timer = Timer(env.loop, lambda: fired.append(env.loop.time()), _raise)
        begun_s = env.loop.time()
        for delay_s in (5, 2, 9):
            timer.within(delay_s)
        await asyncio.sleep(20)
        assert fired == [begun_s + 2]
        assert not timer.is_set

    run_simulated(story)


# --- sessions


def test_newest_peer_is_primary_and_the_old_one_loses_nothing_by_leaving() -> None:
    sessions, old, new = Sessions(), Listener(), Listener()
    sessions.open(b"s", 1_000, 0)
    sessions.connect(b"s", old)
    sessions.connect(b"s", new)
    assert sessions.disconnect(old) == []
    assert sessions.push(b"s", DrainPushed(0), 1) is new
    assert sessions.disconnect(new) == [b"s"]
    assert sessions.push(b"s", DrainPushed(0), 1) is None


def test_pushes_up_to_the_resume_are_void() -> None:
    sessions, peer = Sessions(), Listener()
    sessions.open(b"s", 1_000, 0).resumed_index = 7
    sessions.connect(b"s", peer)
    assert [sessions.push(b"s", DrainPushed(0), index) for index in (7, 8)] == [None, peer]


@pytest.mark.parametrize(
    ("differences", "asked"),
    [
        ([(1, 5), (1, 5)], [False, True]),
        ([(1, 5), (1, 6), (1, 5)], [False, False, False]),
        ([(1, 5), (0, 0), (1, 5)], [False, False, False]),
        ([(1, 5), (1, 5), (1, 5), (1, 5)], [False, True, False, True]),
        ([(0, 5), (0, 5)], [False, True]),
    ],
)
def test_reconciliation_is_asked_for_when_a_difference_stays(
    differences: list[tuple[int, int]], asked: list[bool]
) -> None:
    facts = SessionFacts(b"s", 1_000, 0)
    held = [EndedLease(bytes(16), 3, True)]
    beats = [
        Heartbeat(b"s", held_count=1 + count, held_digest=digest_of(held) ^ digest)
        for count, digest in differences
    ]
    assert [facts.must_reconcile(beat, held) for beat in beats] == asked


def test_heartbeat_that_says_nothing_of_leases_is_not_compared() -> None:
    facts = SessionFacts(b"s", 1_000, 0)
    held = [EndedLease(bytes(16), 3, True)]
    assert not any(facts.must_reconcile(Heartbeat(b"s"), held) for _ in range(3))


# --- seeds


def test_seeds_differ_and_cost_a_draw_in_256() -> None:
    entropy = SimEntropy(5)
    draws: list[int] = []
    random_bytes = entropy.random_bytes

    def counted(count: int) -> bytes:
        draws.append(count)
        return random_bytes(count)

    entropy.random_bytes = counted  # type: ignore[method-assign]
    seeds = Seeds(entropy)
    drawn = [seeds.next() for _ in range(512)]
    assert len(set(drawn)) == 512
    assert draws == [2048, 2048]
    assert all(0 <= seed < 1 << 64 for seed in drawn)


# --- recovery


def test_recovery_leaves_the_collector_on_and_rarely_called() -> None:
    async def story(env: SimNodeEnv) -> None:
        log = MemoryLog(env, MemoryStore(env))
        before = gc.get_threshold()
        try:
            recovered = recover(env, log, "test", EngineOptions())
            assert gc.isenabled()
            assert gc.get_threshold() == GC_THRESHOLDS
            assert recovered.engine.last_index == 1
        finally:
            gc.unfreeze()
            gc.set_threshold(*before)

    run_simulated(story)


def test_failed_recovery_frees_the_lock() -> None:
    async def story(env: SimNodeEnv) -> None:
        store = MemoryStore(env)

        class Broken(MemoryLog):
            def recover(self):  # type: ignore[no-untyped-def]
                raise OSError(5, "input/output error")

        with pytest.raises(OSError, match="input/output"):
            recover(env, Broken(env, store), "test", EngineOptions(), tune_gc=False)
        assert store.holder is None
        assert gc.isenabled()

    run_simulated(story)


def test_commands_of_the_runtime_are_not_given_to_the_engine() -> None:
    """What the handlers answer themselves the engine would refuse."""
    from headrace.engine.engine import Engine

    engine = Engine()
    engine.start_epoch(1, bytes(8), "test", 1)
    for command in (c.Flush(), c.GetStats(), c.WaitJob(bytes(16), 0), c.Heartbeat(bytes(16))):
        with pytest.raises(HeadraceError):
            engine.run(command, 0)
