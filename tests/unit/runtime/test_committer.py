"""Which parts make a commit, and what becomes of commits that the log does not take."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.log.base import Lost, Refused
from headrace.log.memory import MemoryLog
from headrace.model.errors import InvariantViolated
from headrace.model.limits import COMMIT_BYTES_MAX, COMMIT_COMMANDS_MAX, LOG_STALL_MS
from headrace.runtime.committer import Appended, Committer, CommitterEvents, Part
from headrace.testing.sim_loop import SimNodeEnv, SimThread, run_simulated


class Bench:
    """A committer over a memory log on simulated time."""

    def __init__(self, env: SimNodeEnv) -> None:
        self.env = env
        self.log = MemoryLog(env)
        self.log.open()
        self.errors: list[Exception | None] = []
        append = self.log.append

        def scripted(epoch: object, commit: object) -> int:
            error = self.errors.pop(0) if self.errors else None
            if error is not None:
                raise error
            return append(epoch, commit)  # type: ignore[arg-type]

        self.log.append = scripted  # type: ignore[method-assign]
        self.thread: SimThread = env.threads.io_thread("commit", env.loop)
        self.durable: list[Appended] = []
        self.refused: list[Refused] = []
        self.failed: list[BaseException] = []
        self.idle_count = 0
        self.breaks = False
        self.committer = Committer(
            self.log,
            self.log.lead("test"),
            self.thread,
            env.clock,
            env.loop,
            CommitterEvents(self._durable, self.refused.append, self.failed.append, self._idle),
            0,
        )

    def _durable(self, commit: Appended) -> None:
        if self.breaks:
            raise ZeroDivisionError
        self.durable.append(commit)

    def _idle(self) -> None:
        self.idle_count += 1

    def add(self, body: bytes = b"x", *, commands: int = 1, seals: bool = False) -> None:
        now_ns = self.env.clock.mono_ns()
        self.committer.add(Part(body, 1, commands, 0, now_ns, seals))

    async def pause(self, duration_s: float) -> None:
        await asyncio.sleep(duration_s)

    @property
    def bodies(self) -> list[bytes]:
        return [commit.body for commit in self.log.store.commits]


def on_bench(story: Callable[[Bench], Awaitable[None]]) -> None:
    run_simulated(lambda env: story(Bench(env)))


@given(
    st.lists(
        st.tuples(
            st.sampled_from([1, 100, COMMIT_BYTES_MAX // 3, COMMIT_BYTES_MAX]),
            st.sampled_from([1, 2, COMMIT_COMMANDS_MAX // 2]),
            st.booleans(),
        ),
        min_size=1,
        max_size=12,
    )
)
def test_commits_hold_all_parts_in_order_and_end_where_they_must(
    parts: list[tuple[int, int, bool]],
) -> None:
    async def story(bench: Bench) -> None:
        for number, (size_bytes, commands, seals) in enumerate(parts):
            bench.add(bytes([number]) * size_bytes, commands=commands, seals=seals)
        bench.committer.kick()
        await bench.pause(1)
        written = b"".join(bench.bodies)
        assert written == b"".join(bytes([n]) * part[0] for n, part in enumerate(parts))
        ends = {sum(part[0] for part in parts[: n + 1]) for n, part in enumerate(parts) if part[2]}
        position, commit_ends = 0, set()
        for body in bench.bodies:
            position += len(body)
            commit_ends.add(position)
        assert ends <= commit_ends
        for commit in bench.durable:
            without_last = commit.command_count - 1
            assert without_last < COMMIT_COMMANDS_MAX + COMMIT_COMMANDS_MAX // 2
        assert bench.committer.pending_bytes == 0
        assert bench.committer.idle

    on_bench(story)


def test_commit_ends_where_it_is_told_to() -> None:
    async def story(bench: Bench) -> None:
        bench.thread.hold()
        bench.add(b"in flight ")
        bench.committer.kick()
        bench.add(b"before ")
        bench.add(b"snapshot ")
        bench.committer.seal_here()
        bench.add(b"after ")
        bench.thread.let_go()
        await bench.pause(1)
        assert bench.bodies == [b"in flight ", b"before snapshot ", b"after "]

    on_bench(story)


def test_refused_commit_keeps_its_id_and_what_came_later_follows_it() -> None:
    async def story(bench: Bench) -> None:
        bench.errors = [Refused("full"), Refused("full")]
        bench.add(b"first")
        bench.committer.kick()
        await bench.pause(0.01)
        bench.add(b"second")
        bench.committer.kick()
        await bench.pause(0.1)
        assert (bench.bodies, bench.committer.durable_index) == ([], 0)
        await bench.pause(2)
        assert bench.bodies == [b"first", b"second"]
        assert len(bench.refused) == 2

    on_bench(story)


@pytest.mark.parametrize("error", [Lost("?"), OSError(5), InvariantViolated("bug")])
def test_nothing_is_written_after_a_commit_that_may_be_lost(error: Exception) -> None:
    async def story(bench: Bench) -> None:
        bench.errors = [error]
        bench.add(b"first")
        bench.committer.kick()
        bench.add(b"second")
        await bench.pause(1)
        bench.committer.kick()
        await bench.pause(1)
        assert (bench.bodies, bench.failed) == ([], [error])

    on_bench(story)


def test_bug_in_who_is_told_ends_the_committer() -> None:
    async def story(bench: Bench) -> None:
        bench.breaks = True
        for _ in range(2):
            bench.add(seals=True)
        bench.committer.kick()
        await bench.pause(1)
        assert [type(error) for error in bench.failed] == [ZeroDivisionError]
        assert bench.durable == []

    on_bench(story)


def test_other_calls_come_between_commits() -> None:
    async def story(bench: Bench) -> None:
        bench.add(b"first")
        bench.committer.kick()
        seen: list[int] = []
        bench.committer.call(lambda: len(bench.bodies), lambda result, error: seen.append(result))
        bench.add(b"second")
        await bench.pause(1)
        assert (seen, len(bench.bodies)) == ([1], 2)

    on_bench(story)


def test_call_is_made_while_a_refused_commit_waits() -> None:
    async def story(bench: Bench) -> None:
        bench.errors = [Refused("full")] * 10
        bench.add()
        bench.committer.kick()
        await bench.pause(0.01)
        seen: list[str] = []
        bench.committer.call(lambda: "room", lambda result, error: seen.append(result))
        await bench.pause(0.01)
        assert seen == ["room"]

    on_bench(story)


def test_stall_shows_while_one_append_takes_long() -> None:
    async def story(bench: Bench) -> None:
        bench.thread.hold()
        bench.add()
        bench.committer.kick()
        assert not bench.committer.stalled()
        await bench.pause(LOG_STALL_MS / 1000 + 0.001)
        assert bench.committer.stalled()
        assert bench.committer.undurable_ms() > LOG_STALL_MS
        bench.thread.let_go()
        await bench.pause(0.01)
        assert not bench.committer.stalled()
        assert bench.durable[0].flight_ns > LOG_STALL_MS * 1_000_000

    on_bench(story)


def test_idle_is_told_when_nothing_waits_any_more() -> None:
    async def story(bench: Bench) -> None:
        for _ in range(3):
            bench.add(seals=True)
        bench.committer.kick()
        await bench.pause(1)
        assert (len(bench.bodies), bench.idle_count) == (3, 1)

    on_bench(story)


def test_closed_committer_reports_nothing() -> None:
    async def story(bench: Bench) -> None:
        bench.add()
        bench.committer.kick()
        bench.committer.close()
        await bench.pause(1)
        assert (bench.durable, bench.failed, bench.idle_count) == ([], [], 0)

    on_bench(story)
