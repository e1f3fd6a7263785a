"""The end of a life: the faults stop, everything that can end ends, and all is written down.

Either those who took part live on, and what they have begun and asked has to come to its end;
or they die, and one worker that does its duty serves every queue. What is left waiting after
that must have a reason to wait.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from headrace.engine.engine import Engine
from headrace.engine.reading import session_view
from headrace.model.commands import ResumeQueue
from headrace.model.errors import ClientError, InvariantViolated, StopError
from headrace.model.replies import JobView
from headrace.sim.actors import Asker, HandlerWorker
from headrace.sim.checkers.liveness import HEALED_MS
from headrace.sim.conditions import DIRECTORY, KINDS, QUEUES
from headrace.sim.final import Final, SnapshotFacts
from headrace.sim.history import NEVER, Recorded
from headrace.sim.shelf import left_behind
from headrace.sim.world import World
from headrace.testing.sim_env import SimEnv

CHECK_S = 0.5
DURABLE_CHECK_S = 0.001
QUIET_S_MAX = 900.0
"""Longest time that what is left may take: leases, backoffs and restarts are much shorter."""
DURABLE_S_MAX = 60.0
STOP_S_MAX = 60.0
SETTLE_S = 5.0
"""What the dead have sent may still arrive."""
LIVE_ON_S = 80.0
"""Longer than the longest wait that anybody asks for, and than a call is repeated."""
STOP_MS = 500
HEALER = "healer"


async def ended(world: World) -> Final:
    """Every process is gone, the server in good order, and what it kept has been looked over."""
    world.heal()
    healed_ns = world.clock.mono_ns()
    gone = await (_live_on(world) if world.conditions.outlived else _hand_over(world))
    await _outwait(world, DURABLE_S_MAX, DURABLE_CHECK_S, _is_durable, "commits become durable")
    engine = world.engine
    if engine is None:
        world.faults.append("liveness: the server does not come back when nothing breaks any more")
        return Final(at_ns=world.clock.mono_ns())
    final = _seen(world, engine, gone)
    final.healed_ms = (final.at_ns - healed_ns) // 1_000_000
    final.snapshots = await _stop_unseen(world, engine.last_index)
    world.check_up()
    return final


async def _live_on(world: World) -> frozenset[str]:
    """Nobody is asked for anything more; everybody works, or has been told why it cannot.

    Who shares a directory and meets a failing disk there ends with its stop code, as a
    server does, but has nobody to start it again.
    """
    world.note("faults over")
    await asyncio.sleep(LIVE_ON_S)
    for actor in world.actors:
        told = world.conditions.embedded and isinstance(actor.failure, StopError)
        if not actor.connected and not told:
            failed = f": {actor.failure}" if actor.failure is not None else ""
            world.faults.append(f"liveness: {actor.name} does not come back to work{failed}")
    return frozenset()


async def _hand_over(world: World) -> frozenset[str]:
    """Names of those who were killed: their calls may stay open. Every job has ended."""
    gone = world.actors
    world.retire(gone)
    await asyncio.sleep(SETTLE_S)
    world.note("faults over")
    healer = Asker(world, HEALER)
    world.start(HEALER, healer.main)
    for queue in QUEUES:
        world.ask(healer, ResumeQueue(queue))
    worker = HandlerWorker(world, "good worker", well=True)
    world.start(worker.name, worker.main)
    await _outwait(world, QUIET_S_MAX, CHECK_S, _is_done, "jobs that a worker serves end")
    await asyncio.sleep(HEALED_MS / 1_000)
    return frozenset(actor.name for actor in gone)


async def _outwait(
    world: World, limit_s: float, check_s: float, holds: Callable[[World], bool], what: str
) -> None:
    """It holds; when that takes too long, it is a fault of this life."""
    deadline_s = world.loop.time() + limit_s
    while not holds(world):
        if world.loop.time() > deadline_s:
            world.faults.append(f"liveness: {what}: not within {limit_s:.0f} s")
            return
        await asyncio.sleep(check_s)


def _is_done(world: World) -> bool:
    """No job is left that somebody could still end."""
    return world.engine is not None and not _unfinished(world.engine)


def _is_durable(world: World) -> bool:
    """The node has decided nothing that is not in the log yet."""
    engine = world.engine
    return engine is None or engine.last_index == world.observer.last_index


def _unfinished(engine: Engine) -> bool:
    return any(job.spec.kind in KINDS for _, job in engine.state.jobs.items())


def _seen(world: World, engine: Engine, gone: frozenset[str]) -> Final:
    """What the node knows, while it still runs."""
    world.compare_live()
    return Final(
        at_ns=world.clock.mono_ns(),
        log_now_ms=engine.now_ms,
        gone_actors=gone,
        born_ns=dict(world.born_ns),
        records=[event for event in world.history.events if isinstance(event, Recorded)],
        log_faults=list(world.observer.faults),
        jobs=_views(engine, world),
        leases=list(engine.all_leases()),
        sessions=[session_view(session) for session in engine.state.sessions.values()],
        gauges=engine.gauges(),
        options=world.conditions.settings.engine_options(),
        live_digest=engine.digest(),
        live_fault=_fault_of(engine),
        recoveries=world.recoveries,
    )


def _views(engine: Engine, world: World) -> dict[bytes, JobView]:
    """Of every job that was asked for, or that a call without ids has made."""
    made = [job_id for job_id, _ in engine.state.jobs.items()]
    made += [job_id for job_id, _ in engine.state.ended.items()]
    views = {}
    for job_id in dict.fromkeys([*world.ids, *made]):
        with contextlib.suppress(ClientError):
            views[job_id] = engine.job_view(job_id)
    return views


def _fault_of(engine: Engine) -> str:
    try:
        engine.check_state()
    except InvariantViolated as error:
        return str(error)
    return ""


async def _stop_unseen(world: World, last_index: int) -> list[SnapshotFacts]:
    """What the directory holds then, up to `last_index`; all that was durable is still there.

    What the stop itself brings about is not part of what is judged.
    """
    history = world.history
    seen_events, seen_calls = len(history.events), len(history.calls)
    pending = [call for call in history.calls if call.returned_ns == NEVER]
    await _stop(world)
    env = SimEnv(disk=world.machine.disk)
    found = left_behind(env, DIRECTORY, last_index, world.observer.recovered)
    del history.events[seen_events:], history.calls[seen_calls:]
    for call in pending:
        call.returned_ns, call.reply, call.error = NEVER, None, None
    return found


async def _stop(world: World) -> None:
    """The server in good order; an embedded one ends with its process, as it must bear."""
    world.end()
    world.hosting.stop(STOP_MS)
    try:
        await asyncio.wait_for(world.hosting.wait_stopped(), STOP_S_MAX)
    except TimeoutError:
        world.faults.append(f"liveness: a server that is asked to stop: not within {STOP_S_MAX} s")
    for process in world.processes.values():
        process.kill()
