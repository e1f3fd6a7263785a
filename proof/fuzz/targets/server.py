"""A whole server under bent frames: nothing refused leaves a trace, nothing stops the node.

For every input: the node lives; each request that waits for an answer gets one, and those
that were refused changed nothing, by the digest of the state and the index of the log; the
log alone gives the state that memory holds.
"""

from __future__ import annotations

from collections import Counter
from functools import cache

import msgspec

from headrace.codec.messages import ANSWERS, MESSAGES, TYPE_NUMBERS, UNANSWERED, encode_body
from headrace.model import commands as c
from headrace.model.handshake import ErrorFrame, Welcome
from headrace.model.job import JobError
from headrace.testing.sim_loop import SimLoop, SimNodeEnv, run_simulated
from proof.fuzz import frames, vectors
from proof.fuzz.arcs import unwatched
from proof.fuzz.server_world import DEAD, JOB_1, READY, SESSION, SINGLE, SUCCEEDED, Heard, World
from proof.fuzz.target import TAKEN, Target, expect
from proof.fuzz.targets import wire
from proof.fuzz.targets.wire import server_must

MODULES = ("headrace/server", "headrace/protocol", "headrace/runtime", "headrace/engine")

_READS = {
    kind.__name__
    for kind in (
        c.GetJob, c.ListJobs, c.WaitJob, c.ExplainJob, c.GetQueue, c.ListQueues, c.ListSessions,
        c.GetStats, c.Flush, c.Watch, c.Heartbeat,
    )
}  # fmt: skip
_WAITING = {"Claim", "WaitJob"}
_UNANSWERED = {kind.__name__ for kind in UNANSWERED}


REUSES_MAX = 100
"""Of one world, for inputs that change nothing; each takes a tenth of a simulated second."""


class _Kept:
    """A world that nothing has changed yet: most inputs are refused, and making one is dear."""

    loop: SimLoop | None = None
    world: World
    digest = ""
    uses = 0

    def give(self) -> World:
        if self.loop is None:
            self.loop = SimLoop()
            self.world = World(SimNodeEnv(self.loop))
            self.loop.run_until_complete(self.world.start())
            self.digest, self.uses = self.world.engine.digest(), 0
        self.uses += 1
        return self.world

    def take_back(self, *, idle: bool) -> None:
        """`idle`: nothing of the input has an effect that is still to come."""
        world = self.world
        changed = (
            not idle or world.failures or world.events_bad() or world.engine.digest() != self.digest
        )
        if changed or self.uses >= REUSES_MAX:
            self.drop()

    def drop(self) -> None:
        if self.loop is not None:
            self.loop.close()
        self.loop = None


_KEPT = _Kept()


def check_server_node(data: bytes) -> str:
    with unwatched():
        world = _KEPT.give()
        before = world.engine.digest(), world.engine.last_index
    assert _KEPT.loop is not None
    try:
        heard = _KEPT.loop.run_until_complete(world.say(data))
        with unwatched():
            outcome = _checked(world, data, heard, before)
    except BaseException:
        _KEPT.drop()
        raise
    with unwatched():
        names = {name for _, name in server_must(data).messages}
        _KEPT.take_back(idle=names <= _READS - _WAITING - {"Watch"})
    return outcome


def check_server_stranger(data: bytes) -> str:
    """From the first byte on: who is not welcomed changes nothing, and is told why."""
    with unwatched():
        world = _KEPT.give()
        before = world.engine.digest(), world.engine.last_index
    assert _KEPT.loop is not None
    try:
        heard = _KEPT.loop.run_until_complete(world.say(data, greeted=False))
        with unwatched():
            expect(not world.failures, "no input stops the node", failures=world.failures)
            expect(not world.events_bad(), "the node has no complaint", events=world.events_bad())
            numbers = [frame.type_number for frame in heard.frames()]
            welcomed = TYPE_NUMBERS[Welcome] in numbers
            after = world.engine.digest(), world.engine.last_index
            expect(welcomed or before == after, "strangers leave no trace", said=numbers)
            last = numbers[-1:] == [TYPE_NUMBERS[ErrorFrame]]
            expect(last or not heard.ended, "whoever is turned away is told why", said=numbers)
    except BaseException:
        _KEPT.drop()
        raise
    with unwatched():
        _KEPT.take_back(idle=not welcomed)
    return f"{TAKEN if welcomed else 'refused'} {_codes(heard.frames())} {heard.ended}"


def _checked(world: World, data: bytes, heard: Heard, before: tuple[str, int]) -> str:
    expect(not world.failures, "no input stops the node", failures=world.failures)
    expect(not world.events_bad(), "the node has no complaint", events=world.events_bad())
    must = server_must(data)
    answers = [frame for frame in heard.frames() if frame.request_id]
    refusals = _codes(answers)
    _expect_answers(must.messages, answers, ended=must.closed)
    expect(heard.ended == must.closed, "the connection ends when the document says so")
    if _changes_nothing(must.messages, answers, ended=must.closed):
        after = world.engine.digest(), world.engine.last_index
        expect(before == after, "what is refused leaves no trace", answers=refusals)
    expect(world.replayed().digest() == world.engine.digest(), "the log gives the same state")
    names = sorted({name for _, name in must.messages})
    taken = any(frame.type_number != TYPE_NUMBERS[ErrorFrame] for frame in answers)
    return f"{TAKEN if taken else 'refused'} {names} {sorted(set(refusals))}"


def _codes(answers: list[frames.Frame]) -> list[str]:
    return [
        msgspec.msgpack.decode(frame.body, type=ErrorFrame).code
        for frame in answers
        if frame.type_number == TYPE_NUMBERS[ErrorFrame]
    ]


def _expect_answers(
    messages: list[tuple[int, str]], answers: list[frames.Frame], *, ended: bool
) -> None:
    given = Counter(frame.request_id for frame in answers)
    expect("internal" not in _codes(answers), "no refusal is a bug", codes=_codes(answers))
    if ended:
        return
    replies = {frame.request_id: MESSAGES[frame.type_number] for frame in answers}
    expected = _expected(messages)
    for request_id, kind in replies.items():
        fits = kind is ErrorFrame or kind in expected.get(request_id, ())
        expect(fits, "the reply is that of its request", reply=kind, request_id=request_id)
    asked = Counter(request_id for request_id, _ in messages if request_id)
    waits = Counter(request_id for request_id, name in messages if name in _WAITING)
    for request_id, count in asked.items():
        least = count - waits[request_id]
        expect(given[request_id] >= least, "each request is answered", request_id=request_id)


def _expected(messages: list[tuple[int, str]]) -> dict[int, set[type[msgspec.Struct]]]:
    """Request id → what may answer it."""
    kinds: dict[str, type[msgspec.Struct]] = {kind.__name__: ANSWERS[kind] for kind in ANSWERS}
    found: dict[int, set[type[msgspec.Struct]]] = {}
    for request_id, name in messages:
        if name in kinds:
            found.setdefault(request_id, set()).add(kinds[name])
    return found


def _changes_nothing(
    messages: list[tuple[int, str]], answers: list[frames.Frame], *, ended: bool
) -> bool:
    """Everything that was asked was refused, or was a question.

    Where the connection has ended nobody was told, so only questions say so much.
    """
    error = TYPE_NUMBERS[ErrorFrame]
    replied = {frame.request_id for frame in answers if frame.type_number != error}
    refused = {frame.request_id for frame in answers} - replied
    return all(
        name in _READS or (not ended and name not in _UNANSWERED and request_id in refused)
        for request_id, name in messages
    )


@cache
def _tokens() -> dict[bytes, int]:
    async def found(env: SimNodeEnv) -> dict[bytes, int]:
        world = await World(env).start()
        return {job_id: world.token_of(job_id) for job_id in (JOB_1, SINGLE)}

    return run_simulated(found)


def seeds() -> list[bytes]:
    """The vectors of requests, and requests that name leases of this very world."""
    return [*_vectors(), *_live()]


def _vectors() -> list[bytes]:
    return [frame for frame in vectors.wire().values() if server_must(frame).messages]


def _live() -> list[bytes]:
    tokens = _tokens()
    mine, single = (JOB_1, tokens[JOB_1]), (SINGLE, tokens[SINGLE])
    error = JobError("E", "m", "t")
    found: list[msgspec.Struct] = [
        c.Started([mine]),
        c.Ack([(*mine, b"1"), (*single, None)]),
        c.Nack([c.Failure(*mine, error, True, 5), c.Failure(*single, error, False)]),
        c.Release([c.Return(*mine, 60_000, True), c.Return(*single)]),
        c.Extend([single], 60_000),
        c.Progress(*mine, b"0.5"),
        c.LogLines(*mine, ["line"]),
        c.ResumeSession(SESSION, [c.HeldLease(*mine, True)], 3),
        c.CloseSession(SESSION, "done"),
        c.Cancel(JOB_1),
        c.Cancel(READY),
        c.Reschedule(READY, delay_ms=5_000),
        c.ChangePriority(READY, 255),
        c.Revive(DEAD),
        c.Delete(SUCCEEDED),
        c.Purge("other", (3, 6)),
        c.Watch([JOB_1, DEAD]),
        c.ListJobs("other", (5, 6), limit=1),
        c.Claim(("other",), ("once",), wait_ms=10),
    ]
    return [_framed(command) for command in found]


def _framed(command: msgspec.Struct) -> bytes:
    number = TYPE_NUMBERS[type(command)]
    request_id = 0 if type(command) in UNANSWERED else 7
    return frames.Frame(number, request_id, encode_body(command)).encoded()


TARGETS = (
    Target(
        "server",
        seeds,
        check_server_node,
        frames.mutated,
        MODULES,
        exhaustive_bytes_max=0,
        sampled=8,
        weight=3,
    ),
    Target(
        "server-stranger",
        wire.handshakes,
        check_server_stranger,
        wire.mutate_handshake,
        MODULES,
        exhaustive_bytes_max=0,
        sampled=40,
    ),
)
