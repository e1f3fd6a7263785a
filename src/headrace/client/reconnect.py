"""A connection that comes back: the one owner of reconnecting and of repeating calls.

A call is repeated over connections for as long as its time lasts, when repeating it can
do no harm (`REPEATABLE`), or when it had not left yet. All others fail with
`OutcomeUnknown` as soon as their connection is lost. Why repeating is safe: an enqueue
names its jobs by ids that are remembered longer than any call is repeated, an ack names
the lease that it ends, and the rest sets what it names to a value.

`overloaded` and its like are handed to the caller; only `draining` and `outcome_unknown`
wait for the next connection, since the server that says so is about to close this one.

Must never give up silently: every call ends, at the latest when its time is over.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from headrace.client.connection import (
    Address,
    Call,
    Connection,
    Listener,
    connect,
    parse_url,
)
from headrace.model import commands
from headrace.model.commands import Command
from headrace.model.env import Env
from headrace.model.errors import (
    CannotConnect,
    Draining,
    Forbidden,
    HeadraceError,
    Internal,
    OutcomeUnknown,
    Unauthenticated,
    Unavailable,
    Unsupported,
    UnsupportedVersion,
)
from headrace.model.handshake import (
    SESSION_NONE,
    SOFTWARE_VERSION,
    HandOver,
    Hello,
    Welcome,
)
from headrace.model.ids import id_to_text
from headrace.model.limits import (
    BACKOFF_RECONNECT_MS_MAX,
    BACKOFF_RECONNECT_MS_MIN,
    CONNECT_MS,
    REPEAT_MS,
    SILENCE_MS_MAX,
)
from headrace.model.pushes import Push
from headrace.model.replies import Reply

_READING = (
    commands.GetJob,
    commands.ListJobs,
    commands.WaitJob,
    commands.Watch,
    commands.ExplainJob,
    commands.GetQueue,
    commands.ListQueues,
    commands.ListSessions,
    commands.GetStats,
    commands.Flush,
)
"""They change nothing, so that no refusal leaves a doubt."""

REPEATABLE = frozenset(
    {
        commands.Enqueue,
        commands.Ack,
        commands.Nack,
        commands.Release,
        commands.Extend,
        commands.Cancel,
        commands.ChangePriority,
        commands.Purge,
        commands.ConfigureQueue,
        commands.PauseQueue,
        commands.ResumeQueue,
        commands.CloseSession,
        *_READING,
    }
)
"""Not: `Claim`, `Revive`, `Reschedule` and `Delete`, whose second run is another act; nor what
speaks for a connection (`OpenSession`, `ResumeSession`, `SetCredit`, `Heartbeat`): the
`on_connected` of its owner says it anew."""

HOPELESS = (Unauthenticated, Forbidden, UnsupportedVersion, Unsupported)
"""Refusals of a handshake that the next attempt would meet again."""
IDS_NAMED_MAX = 10
STEADY_MS = 1_000
"""A connection that lived this long resets the backoff."""
_TICK_MS = 1_000


class LinkOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How a link presents itself and how patient it is."""

    token: str | None = None
    client_name: str = "python"
    backoff_ms_max: int = BACKOFF_RECONNECT_MS_MAX
    """Longest wait between two attempts to connect."""
    connect_ms: int = CONNECT_MS
    """For one attempt, WELCOME included."""
    silence_ms_max: int = SILENCE_MS_MAX
    """A server of which nothing comes for so long is taken for dead."""


DEFAULTS = LinkOptions()


class Link(Listener):
    """One logical connection to one server, kept by one event loop.

    Calls and callbacks belong to the loop on which `start` ran. Callbacks must not block:

    - `on_connected(welcome)` after each WELCOME, before any waiting call leaves: what it
      calls or sends goes first (a worker opens or resumes its session here);
    - `on_lost(error)` when a connection has ended; the link goes on trying by itself;
    - `on_failed(error)` when trying is pointless (wrong token, no common version): every
      call fails with it from then on;
    - `on_push(push)` for everything that the server sends unasked, but PING;
    - `before_attempt()` is awaited before each attempt to connect again: embedded mode
      takes over a directory without an owner here. What it raises ends as `on_failed`.
    """

    def __init__(
        self,
        env: Env,
        url: str,
        options: LinkOptions = DEFAULTS,
        *,
        on_push: Callable[[Push], None] = lambda push: None,
        on_connected: Callable[[Welcome], None] = lambda welcome: None,
        on_lost: Callable[[HeadraceError], None] = lambda error: None,
        on_failed: Callable[[HeadraceError], None] = lambda error: None,
        before_attempt: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self.address: Address = parse_url(url)
        self.welcome: Welcome | None = None
        """Of the newest connection."""
        self.failure: HeadraceError | None = None
        """Why this link will never connect again."""
        self._env = env
        self._options = options
        self._push_to = on_push
        self._on_connected = on_connected
        self._on_lost = on_lost
        self._on_failed = on_failed
        self._before_attempt = before_attempt
        self._session: tuple[bytes | None, int] = (None, SESSION_NONE)
        self._connection: Connection | None = None
        self._waiting: deque[Call] = deque()
        """Calls that leave as soon as the socket takes them."""
        self._parked: deque[Call] = deque()
        """Calls that leave over the next connection, not over this one."""
        self._lost = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        self._closing = False
        self._tick_timer: asyncio.TimerHandle | None = None
        self._last_exchange_s = 0.0
        self._connected_at_s = 0.0
        self._tick_at_s = 0.0
        self._delay_ms = BACKOFF_RECONNECT_MS_MIN

    # --- what users call

    async def start(self) -> Welcome:
        """The link is connected, and stays so as far as it can.

        Raises: `CannotConnect` or another `Unavailable` after one attempt (start again when
        you like); `Unauthenticated`, `UnsupportedVersion` and their like.
        """
        self._loop = asyncio.get_running_loop()
        welcome = await self._attempt()
        self._keeper = self._loop.create_task(self._keep_connected(), name="headrace-link")
        self._tick()
        return welcome

    def call(
        self, command: Command | HandOver, *, timeout_ms: int = REPEAT_MS
    ) -> asyncio.Future[Any]:
        """The reply to `command`, or its refusal as the `HeadraceError` of its code.

        `timeout_ms`: patience, beyond the time that the server itself is asked to wait.
        Fails with `OutcomeUnknown` when the answer was lost and repeating is not safe, or
        when the time is over; with `CannotConnect` when it never left.
        Cancellation: the request may have been made.
        """
        loop = self._loop
        future: asyncio.Future[Any] = loop.create_future()
        if type(command) is commands.Enqueue:
            timeout_ms = min(timeout_ms, REPEAT_MS)
        elif isinstance(command, commands.WaitJob | commands.Claim):
            timeout_ms += command.wait_ms  # the server answers when that is over
        call = Call(command, future, loop.time() + timeout_ms / 1000)
        if self.failure is not None:
            call.fail(self.failure)
            return future
        connection = self._connection
        if connection is not None and not self._waiting and connection.ready:
            connection.submit(call)
        else:
            self._waiting.append(call)
        if timeout_ms < REPEAT_MS:
            timer = loop.call_later(timeout_ms / 1000, self._expire, call)
            future.add_done_callback(lambda _: timer.cancel())
        return future

    def send(self, command: Command) -> bool:
        """An unanswered message has left; False, and dropped, while there is no connection.

        Dropping is right for all of them: a resume says what has started, and progress
        is replaced by the next.
        """
        if self._connection is None or not self._connection.open:
            return False
        self._connection.send(command)
        return True

    def set_session(self, session_id: bytes | None, mode: int) -> None:
        """What HELLO says of a session from the next connection on."""
        self._session = (session_id, mode)

    @property
    def connected(self) -> bool:
        return self._connection is not None

    @property
    def last_exchange_age_ms(self) -> int:
        """How long ago the server last said anything: the only proof of life there is."""
        heard_s = self._connection.heard_at_s if self._connection else self._last_exchange_s
        return int((self._loop.time() - heard_s) * 1000)

    @property
    def calls_pending(self) -> int:
        sent = len(self._connection.calls) if self._connection else 0
        return sent + len(self._waiting) + len(self._parked)

    async def close(self, error: HeadraceError | None = None) -> None:
        """Nothing is sent any more; calls without an answer have failed. Harmless when repeated."""
        self._closing = True
        if self._keeper is not None:
            self._keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeper
        if self._tick_timer is not None:
            self._tick_timer.cancel()
        self._fail(error or CannotConnect("The client is closed."), tell=False)

    # --- what the connection tells

    def on_refusal(self, call: Call, error: HeadraceError) -> None:
        if not isinstance(error, (Draining, OutcomeUnknown)) or not is_repeatable(call.command):
            call.fail(_after_a_lost_try(call, error) if call.lost else error)
            return
        if isinstance(error, Draining):
            call.sent = call.lost
        else:
            call.lost = True
        self._repeat(call)

    def on_reply(self, call: Call, reply: Reply) -> None:
        call.succeed(reply)

    def on_push(self, push: Push) -> None:
        self._push_to(push)

    def on_writable(self) -> None:
        self._send_waiting()

    def on_closed(self, error: HeadraceError, unanswered: list[Call]) -> None:
        was_connected = self._connection is not None
        if self._connection is not None:
            self._last_exchange_s = self._connection.heard_at_s
        self._connection = None
        for call in unanswered:
            call.lost = True
            if is_repeatable(call.command) and not call.future.done():
                self._repeat(call)
            else:
                call.fail(_unknown(call.command, f"{error.message} Nobody knows"))
        if was_connected and self.failure is None:
            self._lost.set()
            self._on_lost(error)

    # --- inside

    async def _keep_connected(self) -> None:
        try:
            await self._reconnect_for_ever()
        except asyncio.CancelledError:
            # The loop is ending, as at the end of `asyncio.run`, and nobody has closed us.
            if not self._closing and self._connection is not None:
                self._connection.close(CannotConnect("The event loop has ended."))
            raise

    async def _reconnect_for_ever(self) -> None:
        while True:
            await self._lost.wait()
            try:
                await self._reconnect()
            except HeadraceError as error:
                self._fail(error, tell=True)
                return
            except Exception as bug:
                self._fail(Internal(f"Reconnecting failed: {bug!r}."), tell=True)
                raise

    async def _reconnect(self) -> None:
        """Connected again. Raises: an error that no further attempt can cure (`HOPELESS`).

        The first attempt is made at once, unless the last connection was a short one: a
        server that takes everybody in and throws them out must not be hammered.
        """
        if self._loop.time() - self._connected_at_s > STEADY_MS / 1000:
            self._delay_ms = BACKOFF_RECONNECT_MS_MIN
        else:
            await self._back_off()
        while not await self._try_again():
            await self._back_off()

    async def _try_again(self) -> bool:
        if self._before_attempt is not None:
            await self._before_attempt()
        try:
            await self._attempt()
        except HOPELESS:
            raise
        except HeadraceError:
            return False
        return True

    async def _back_off(self) -> None:
        await asyncio.sleep(self._jittered(self._delay_ms) / 1000)
        self._delay_ms = min(self._delay_ms * 2, self._options.backoff_ms_max)

    def _jittered(self, delay_ms: float) -> float:
        """Between a half and the whole of it, so that many clients do not come at once."""
        return delay_ms * (0.5 + self._env.entropy.random_u64() / 2**65)

    async def _attempt(self) -> Welcome:
        self._lost.clear()
        session_id, session_mode = self._session
        hello = Hello(
            client_name=self._options.client_name,
            client_version=SOFTWARE_VERSION,
            auth=self._options.token,
            session_id=session_id,
            session_mode=session_mode,
        )
        connection, welcome = await connect(
            self._env.network, self.address, hello, self, self._options.connect_ms
        )
        if not connection.open:
            raise CannotConnect(f"The server at {self.address} ended the connection at once.")
        self._connection, self.welcome = connection, welcome
        self._connected_at_s = self._loop.time()
        self._parked.extend(self._waiting)
        self._waiting.clear()
        self._on_connected(self.welcome)
        self._waiting.extend(self._parked)
        self._parked.clear()
        self._send_waiting()
        return self.welcome

    def _repeat(self, call: Call) -> None:
        """It leaves again over the next connection."""
        if isinstance(call.command, commands.Enqueue):
            call.command = msgspec.structs.replace(call.command, resend=True)
        self._parked.append(call)

    def _send_waiting(self) -> None:
        connection = self._connection
        while self._waiting and connection is not None and connection.ready:
            call = self._waiting.popleft()
            if not call.future.done():
                connection.submit(call)

    def _tick(self) -> None:
        """Calls whose time is over have ended, and a silent server is given up."""
        now_s = self._loop.time()
        sent = self._connection.calls if self._connection else ()
        for call in (*self._parked, *self._waiting, *sent):
            if call.deadline_s <= now_s:
                self._expire(call)
        # While no server is there they would pile up, payloads and all.
        for calls in (self._parked, self._waiting):
            _drop_ended(calls)
        # A loop that stood still has not listened: it must not blame the server.
        was_awake = now_s - self._tick_at_s < 2 * _TICK_MS / 1000
        silent = self.last_exchange_age_ms > self._options.silence_ms_max
        if silent and was_awake and self._connection is not None:
            self._connection.abort(CannotConnect("Nothing came from the server for too long."))
        self._tick_at_s = now_s
        self._tick_timer = self._loop.call_later(_TICK_MS / 1000, self._tick)

    def _expire(self, call: Call) -> None:
        if call.sent:
            call.fail(_unknown(call.command, "No answer came in time. Nobody knows"))
        else:
            call.fail(CannotConnect(f"No server could be reached at {self.address} in time."))

    def _fail(self, error: HeadraceError, *, tell: bool) -> None:
        if self.failure is not None:
            return
        self.failure = error
        if self._connection is not None:
            self._connection.close(error)
        left = [*self._parked, *self._waiting]
        self._parked.clear()
        self._waiting.clear()
        for call in left:
            call.fail(_unknown(call.command, f"{error} Nobody knows") if call.sent else error)
        if tell:
            self._on_failed(error)


def _drop_ended(calls: deque[Call]) -> None:
    for _ in range(len(calls)):
        call = calls.popleft()
        if not call.future.done():
            calls.append(call)


def is_repeatable(command: Command | msgspec.Struct) -> bool:
    """Doing it twice does what doing it once does; jobs that the server names never do."""
    if isinstance(command, commands.Enqueue):
        return all(job.job_id for job in command.jobs)
    return type(command) in REPEATABLE


def _after_a_lost_try(call: Call, error: HeadraceError) -> HeadraceError:
    """What a refusal is worth when an earlier try of the call may have been taken: an
    `overloaded` is true of this try only."""
    if isinstance(error, Unavailable) and not isinstance(call.command, _READING):
        return _unknown(call.command, f"{error.message} An earlier try was lost: nobody knows")
    return error


def _unknown(command: Command | msgspec.Struct, why: str) -> OutcomeUnknown:
    """The error of a call that may have been made, with the ids of its jobs to look for."""
    ids = _ids_of(command)
    named = ", ".join(id_to_text(job_id) for job_id in ids[:IDS_NAMED_MAX])
    more = f" and {len(ids) - IDS_NAMED_MAX} more" if len(ids) > IDS_NAMED_MAX else ""
    of_jobs = f" for {named}{more}" if ids else ""
    return OutcomeUnknown(
        f"{why} whether {type(command).__name__} was done{of_jobs}.",
        hint="Look with `headrace job show ID`, or repeat the call with the same ids."
        if ids
        else "Look before you repeat it.",
        job_ids=ids,
    )


def _ids_of(command: Command | msgspec.Struct) -> list[bytes]:
    if isinstance(command, commands.Enqueue):
        return [job.job_id for job in command.jobs if job.job_id]
    job_id = getattr(command, "job_id", None)
    if job_id is not None:
        return [job_id]
    if isinstance(command, commands.Ack):
        return [job_id for job_id, _, _ in command.results]
    if isinstance(command, commands.Nack):
        return [failure.job_id for failure in command.failures]
    return [item.job_id for item in command.jobs] if isinstance(command, commands.Release) else []
