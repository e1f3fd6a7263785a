"""Natural group commit: what collected while the disk worked is the next commit.

No timer and no fixed delay: a lone command commits at once, a busy node commits what
came meanwhile. All calls to the log are made on one I/O thread, one at a time, so a
commit is only appended after the one before is durable.

Must never give up a commit that the log refused (its records are facts in memory
already): the same commit is offered again until the log takes it. Must never repeat one
that may have been written: `Fenced` and `Lost` end the committer.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec

from headrace.log.base import Commit, Epoch, Log, Refused
from headrace.model.env import Clock, IoThread
from headrace.model.errors import invariant
from headrace.model.limits import (
    COMMIT_BODY_BYTES_MAX,
    COMMIT_BYTES_MAX,
    COMMIT_COMMANDS_MAX,
    LOG_STALL_MS,
    REFUSED_RETRY_MS,
    ROOM_LOOK_MS,
)

NS_PER_MS = 1_000_000


class Part(msgspec.Struct, frozen=True, gc=False):
    """Records of one or more whole commands, encoded: what a commit is put together from."""

    body: bytes
    record_count: int
    command_count: int
    now_ms: int
    closed_ns: int
    """Monotonic time at which it began to wait."""
    seals: bool = False
    """The commit ends here; what follows shares no fsync with it."""


class Appended(msgspec.Struct, frozen=True):
    """What is known of a commit once it is durable."""

    last_index: int
    body_bytes: int
    command_count: int
    append_ns: int
    """Time in the log itself."""
    flight_ns: int
    """From the first time it was offered to the log."""
    total_ns: int
    """From when the first of its parts began to wait."""
    wal_bytes: int
    room_bytes: int
    """What `Log.room` says."""


class CommitterEvents(msgspec.Struct, frozen=True):
    """Whom the committer tells, always on the loop."""

    durable: Callable[[Appended], None]
    refused: Callable[[Refused], None]
    """The commit stays and is offered again; memory is ahead of the log meanwhile."""
    failed: Callable[[BaseException], None]
    """The engine must be discarded. Told once."""
    idle: Callable[[], None]
    """Everything added is durable and the thread is free."""


def commit_id_of(epoch: Epoch, first_index: int) -> bytes:
    """Unique for ever: an epoch's nonce is drawn anew, and it writes each index once."""
    return epoch.nonce + first_index.to_bytes(8, "big")


class Committer:
    """Invariant: pending parts and the commit in flight follow one another without a gap."""

    def __init__(
        self,
        log: Log,
        epoch: Epoch,
        thread: IoThread,
        clock: Clock,
        loop: asyncio.AbstractEventLoop,
        events: CommitterEvents,
        durable_index: int,
    ) -> None:
        self.durable_index = durable_index
        self.pending_bytes = 0
        """Of parts that are not durable, in flight or not."""
        self._log = log
        self._epoch = epoch
        self._thread = thread
        self._clock = clock
        self._loop = loop
        self._events = events
        self._parts: deque[Part] = deque()
        self._calls: deque[tuple[Callable[[], Any], Callable[..., None]]] = deque()
        self._flight: _Flight | None = None
        self._room_bytes = 1
        self._look_at_room_ns = 0
        self._busy = False
        self._retry: asyncio.TimerHandle | None = None
        self._dead = False

    @property
    def in_flight(self) -> bool:
        """The thread has a call; give it way."""
        return self._busy

    @property
    def idle(self) -> bool:
        """Everything that was added is durable, and no call is under way."""
        return not (self._busy or self._flight or self._parts or self._calls)

    def undurable_ms(self) -> int:
        """For how long the oldest part has been waiting for the disk; 0 when none does."""
        if self._flight is not None:
            since_ns = self._flight.since_ns
        elif self._parts:
            since_ns = self._parts[0].closed_ns
        else:
            return 0
        return (self._clock.mono_ns() - since_ns) // NS_PER_MS

    def stalled(self) -> bool:
        """The log has been at one commit for longer than LOG_STALL_MS."""
        if self._flight is None:
            return False
        return self._clock.mono_ns() - self._flight.begun_ns > LOG_STALL_MS * NS_PER_MS

    def add(self, part: Part) -> None:
        """`part` belongs to a commit to come; `kick` begins one."""
        self._parts.append(part)
        self.pending_bytes += len(part.body)

    def seal_here(self) -> None:
        """A commit ends with what has been added so far."""
        if self._parts:
            self._parts.append(msgspec.structs.replace(self._parts.pop(), seals=True))

    def call(self, call: Callable[[], Any], done: Callable[..., None]) -> None:
        """Run another call to the log between two commits; `done(result, error)` on the loop."""
        self._calls.append((call, done))
        self.kick()

    def kick(self) -> None:
        """A commit or call is under way if there is one and the thread is free."""
        if self._busy or self._dead:
            return
        if self._calls:
            call, done = self._calls.popleft()
            self._submit(call, done)
        elif self._flight is None and self._parts:
            self._flight = self._seal()
            self._append()

    def close(self) -> None:
        """Nothing more is begun; what is under way is not reported."""
        self._dead = True
        self._parts.clear()
        self._calls.clear()
        if self._retry is not None:
            self._retry.cancel()

    def _seal(self) -> _Flight:
        parts: list[Part] = []
        size_bytes = commands = 0
        while self._parts and size_bytes < COMMIT_BYTES_MAX and commands < COMMIT_COMMANDS_MAX:
            part = self._parts.popleft()
            parts.append(part)
            size_bytes += len(part.body)
            commands += part.command_count
            if part.seals:
                break
        invariant(size_bytes <= COMMIT_BODY_BYTES_MAX, "a commit fits", size_bytes=size_bytes)
        first_index = self.durable_index + 1
        commit = Commit(
            commit_id=commit_id_of(self._epoch, first_index),
            first_index=first_index,
            record_count=sum(part.record_count for part in parts),
            now_ms=parts[-1].now_ms,
            body=b"".join(part.body for part in parts) if len(parts) > 1 else parts[0].body,
        )
        return _Flight(commit, commands, parts[0].closed_ns, self._clock.mono_ns())

    def _append(self) -> None:
        flight = self._flight
        assert flight is not None
        self._retry = None

        def append() -> _Outcome:
            begun_ns = self._clock.mono_ns()
            index = self._log.append(self._epoch, flight.commit)
            ended_ns = self._clock.mono_ns()
            self._look_at_room(ended_ns)
            return _Outcome(index, ended_ns - begun_ns, self._log.wal_bytes(), self._room_bytes)

        self._submit(append, self._appended)

    def _look_at_room(self, now_ns: int) -> None:
        """On the I/O thread. Each system call there has to win the interpreter back afterwards,
        from a loop that may be busy, and answers wait for it: so not after every commit."""
        if now_ns >= self._look_at_room_ns:
            self._look_at_room_ns = now_ns + ROOM_LOOK_MS * NS_PER_MS
            self._room_bytes = self._log.room()

    def _submit(self, call: Callable[[], Any], done: Callable[..., None]) -> None:
        def finished(result: Any, error: BaseException | None) -> None:
            self._busy = False
            if not self._dead:
                self._conclude(done, result, error)

        self._busy = True
        self._thread.submit(call, finished)

    def _conclude(
        self, done: Callable[..., None], result: Any, error: BaseException | None
    ) -> None:
        try:
            done(result, error)
        except Exception as bug:
            self._fail(bug)
        self.kick()
        if self.idle and not self._dead:
            self._events.idle()

    def _fail(self, error: BaseException) -> None:
        self._dead = True
        self._events.failed(error)

    def _appended(self, outcome: _Outcome | None, error: BaseException | None) -> None:
        flight = self._flight
        assert flight is not None
        if isinstance(error, Refused):
            self._retry = self._loop.call_later(REFUSED_RETRY_MS / 1000, self._offer_again)
            self._events.refused(error)
        elif error is not None:
            self._fail(error)
        else:
            assert outcome is not None
            self._durable(flight, outcome)

    def _offer_again(self) -> None:
        if self._busy:
            self._retry = self._loop.call_later(REFUSED_RETRY_MS / 1000, self._offer_again)
        elif not self._dead:
            self._append()

    def _durable(self, flight: _Flight, outcome: _Outcome) -> None:
        commit, index = flight.commit, outcome.index
        expected = commit.first_index + commit.record_count - 1
        invariant(index == expected, "the log ends with our commit", index=index, ours=expected)
        self._flight = None
        self.durable_index = index
        self.pending_bytes -= len(commit.body)
        # The disk gets its next commit before the replies of this one are written.
        self.kick()
        now_ns = self._clock.mono_ns()
        self._events.durable(
            Appended(
                last_index=index,
                body_bytes=len(commit.body),
                command_count=flight.command_count,
                append_ns=outcome.append_ns,
                flight_ns=now_ns - flight.begun_ns,
                total_ns=now_ns - flight.since_ns,
                wal_bytes=outcome.wal_bytes,
                room_bytes=outcome.room_bytes,
            )
        )


class _Outcome(msgspec.Struct, frozen=True):
    """What the I/O thread brings back."""

    index: int
    append_ns: int
    wal_bytes: int
    room_bytes: int


class _Flight(msgspec.Struct, frozen=True):
    commit: Commit
    command_count: int
    since_ns: int
    begun_ns: int
