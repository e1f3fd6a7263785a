"""The end of a life: the faults stop, everything that can end ends, and all is written down.

Whatever still misbehaves is killed first; one worker that does its duty serves every queue.
What is left waiting after that must have a reason to wait.
"""

from __future__ import annotations

import asyncio
import contextlib

from headrace.engine.engine import Engine
from headrace.engine.reading import session_view
from headrace.log.file.inspect import Severity, verify
from headrace.model.commands import ResumeQueue
from headrace.model.errors import ClientError, InvariantViolated
from headrace.model.replies import JobView
from headrace.sim.actors import Asker, HandlerWorker
from headrace.sim.conditions import DIRECTORY, KINDS, QUEUES
from headrace.sim.final import Checkup, Final
from headrace.sim.history import Recorded
from headrace.sim.shelf import newest_snapshot
from headrace.sim.world import World
from headrace.testing.sim_env import SimEnv

QUIET_CHECK_S = 0.5
DURABLE_CHECK_S = 0.001
QUIET_S_MAX = 900.0
"""Longest time that what is left may take: leases, backoffs and restarts are much shorter."""
SETTLE_S = 5.0
"""What the dead have sent may still arrive."""
STOP_MS = 500
HEALER = "healer"


async def ended(world: World) -> Final:
    """Every process is gone, the server in good order, and what it kept has been looked over."""
    healed_ns = world.clock.mono_ns()
    gone = await _stop_faults(world)
    await _until_quiet(world)
    engine = world.engine
    if engine is None:
        world.faults.append("liveness: the server does not come back when nothing breaks any more")
        return Final(at_ns=world.clock.mono_ns())
    final = _seen(world, engine, gone)
    final.healed_ms = (final.at_ns - healed_ns) // 1_000_000
    seen_count = len(world.history.events)
    await _stop(world)
    del world.history.events[seen_count:]  # the stop itself is not part of what was judged
    final.checkups.append(_checkup(world))
    last_index = final.records[-1].index if final.records else 0
    final.snapshots = newest_snapshot(SimEnv(disk=world.machine.disk), DIRECTORY, last_index)
    return final


async def _stop_faults(world: World) -> frozenset[str]:
    """Names of those who were killed: their calls may stay open."""
    world.heal()
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
    return frozenset(actor.name for actor in gone)


async def _until_quiet(world: World) -> None:
    """No job is left that somebody could still end, or too much time has passed."""
    deadline_s = world.loop.time() + QUIET_S_MAX
    while world.loop.time() < deadline_s:
        engine = world.engine
        if engine is not None and not _unfinished(engine):
            break
        await asyncio.sleep(QUIET_CHECK_S)
    while (engine := world.engine) is not None and _is_ahead(world, engine):
        await asyncio.sleep(DURABLE_CHECK_S)


def _is_ahead(world: World, engine: Engine) -> bool:
    """It has decided what is not in the log yet."""
    return engine.last_index != world.observer.last_index


def _unfinished(engine: Engine) -> bool:
    return any(job.spec.kind in KINDS for _, job in engine.state.jobs.items())


def _seen(world: World, engine: Engine, gone: frozenset[str]) -> Final:
    """What the node knows, while it still runs."""
    world.compare_live()
    return Final(
        at_ns=world.clock.mono_ns(),
        log_now_ms=engine.now_ms,
        gone_actors=gone,
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
        checkups=[],
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


async def _stop(world: World) -> None:
    """The server in good order; an embedded one ends with its process, as it must bear."""
    world.end()
    world.hosting.stop(STOP_MS)
    await world.hosting.wait_stopped()
    for process in world.processes.values():
        process.kill()


def _checkup(world: World) -> Checkup:
    """What `headrace verify` says of the directory now."""
    findings = verify(SimEnv(disk=world.machine.disk), DIRECTORY)
    complaints = [one.message for one in findings if one.severity is Severity.ERROR]
    return Checkup(world.clock.mono_ns(), "verify", complaints)
