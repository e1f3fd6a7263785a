"""Turns: one pass of the loop, one time, one stretch of records.

The first command of a pass opens a turn and asks the loop to close it right after what
is ready now, so all commands read in one pass share one `now_ms` and end in one part of
a commit. A turn is cut early after a `sync` command, and when it holds as much as a
commit may: a command is never split.

Must never let a command run outside a turn, and never take records without handing them
to the committer.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from headrace.codec.records import encode_records
from headrace.model.commands import Command
from headrace.model.effects import Effect
from headrace.model.errors import ClientError, Unavailable
from headrace.model.limits import COMMIT_BYTES_MAX, COMMIT_COMMANDS_MAX
from headrace.model.records import Record
from headrace.model.replies import Reply
from headrace.runtime.clock import LogClock
from headrace.runtime.committer import Committer, Part
from headrace.runtime.seeds import Seeds
from headrace.runtime.term import Term

NS_PER_S = 1_000_000_000


class TurnEvents(msgspec.Struct, frozen=True):
    """Whom a turn tells."""

    begun: Callable[[], None]
    """A turn, or the rest of one that was cut, begins: time to look at the load."""
    ending: Callable[[], bool]
    """The last chance to run commands in this turn; True: open another right after it."""
    taken: Callable[[int, list[Effect]], None]
    """Records up to this index are with the committer; what they owe."""
    ended: Callable[[], None]
    failed: Callable[[BaseException], None]
    """The engine raised what it must not: what it holds may be wrong."""


class Turns:
    """The only place that runs commands and takes records."""

    def __init__(
        self,
        term: Term,
        committer: Committer,
        log_clock: LogClock,
        seeds: Seeds,
        events: TurnEvents,
    ) -> None:
        self.now_ms = 0
        """Log time of the turn."""
        self._engine = term.engine
        self._committer = committer
        self._log_clock = log_clock
        self._clock = term.clock
        self._seeds = seeds
        self._loop = term.loop
        self._stats = term.stats
        self._events = events
        self.is_open = False
        self._opened_ns = 0
        self._ends: list[int] = []
        """How many records the turn had when each of its commands had run."""
        self._size_bytes = 0
        self._closed = False

    @property
    def waiting_bytes(self) -> int:
        """Bytes that this turn and all before it have yet to bring to the disk."""
        return self._size_bytes + self._committer.pending_bytes

    def open(self) -> None:
        """A turn is open; it ends with this pass of the loop."""
        if self.is_open or self._closed:
            return
        self.is_open = True
        self._opened_ns = self._clock.mono_ns()
        self.now_ms = self._log_clock.now_ms()
        self._engine.begin_turn(self.now_ms)
        self._loop.call_soon(self._end)
        self._events.begun()

    def run(self, command: Command, size_bytes: int = 0) -> Reply:
        """The command has run. Raises: `ClientError`, `Unavailable`; nothing changed then.

        A commit's worth of commands before it stands by itself.
        """
        if len(self._ends) >= COMMIT_COMMANDS_MAX or self._size_bytes >= COMMIT_BYTES_MAX:
            self.cut()
        reply = self._engine.run(command, self._seeds.next())
        self._ends.append(self._engine.turn_record_count)
        self._size_bytes += size_bytes
        return reply

    def run_own(self, command: Command) -> Reply | None:
        """Run a command of the node itself, in a turn; None when it has no object any more."""
        self.open()
        try:
            return self.run(command)
        except (ClientError, Unavailable):
            return None
        except Exception as bug:
            self._events.failed(bug)
            return None

    def cut(self, *, seals: bool = False) -> None:
        """What ran so far is with the committer; `seals`: nothing later shares its commit."""
        records, effects = self._engine.take_turn()
        if records:
            body = encode_records(records)
            if len(body) <= COMMIT_BYTES_MAX:
                self._add(body, len(records), len(self._ends))
            else:
                self._add_in_parts(records)
            if seals:
                self._committer.seal_here()
        self._ends.clear()
        self._size_bytes = 0
        if effects:
            self._events.taken(self._engine.last_index, effects)
        if self.is_open:
            self._events.begun()

    def _add(self, body: bytes, record_count: int, command_count: int) -> None:
        now_ns = self._clock.mono_ns()
        self._committer.add(Part(body, record_count, command_count, self.now_ms, now_ns))

    def _add_in_parts(self, records: list[Record]) -> None:
        """The records came out larger than their commands let expect: each part is as many
        whole commands as a commit holds, or a single one that is larger."""
        # What no command emitted (claims at the end of the turn) goes with the last one.
        ends = [*self._ends[:-1], len(records)]
        bodies: list[bytes] = []
        first = begun = size_bytes = commands = 0
        for end in ends:
            body = encode_records(records[first:end])
            if size_bytes + len(body) > COMMIT_BYTES_MAX and bodies:
                self._add(b"".join(bodies), first - begun, commands)
                bodies, begun, size_bytes, commands = [], first, 0, 0
            bodies.append(body)
            size_bytes += len(body)
            commands += 1
            first = end
        self._add(b"".join(bodies), first - begun, commands)

    def close(self) -> None:
        """No turn ends or begins any more."""
        self._closed = True

    def _end(self) -> None:
        self.is_open = False
        if self._closed:
            return
        try:
            again = self._events.ending()
            self.cut()
            self._stats.turns += 1
            self._stats.turn_seconds.observe((self._clock.mono_ns() - self._opened_ns) / NS_PER_S)
            self._committer.kick()
            self._events.ended()
        except Exception as bug:
            self._events.failed(bug)
            return
        if again:
            self._loop.call_soon(self.open)
