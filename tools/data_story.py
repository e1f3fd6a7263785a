"""A short life of a queue that leaves every record type in a log, and how a state is told.

Nothing here is random and nothing reads a clock: the same code writes the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from headrace.cli.wire_names import plain
from headrace.codec.records import encode_records
from headrace.codec.rows import encode_rows
from headrace.engine.engine import Engine
from headrace.log.base import Commit
from headrace.log.file.log import FileLog
from headrace.model import commands
from headrace.model.effects import PushJobs
from headrace.model.ids import make_job_id, slot_of_queue
from headrace.model.job import BACKOFF_LIST, JobError, JobExtra, JobSpec, RetryPolicy
from headrace.model.limits import REMEMBER_MS
from headrace.model.queue import DURABILITY_SYNC, QueueSettings
from headrace.model.replies import JobPage, QueuePage, SessionPage
from headrace.runtime.committer import commit_id_of
from headrace.testing.sim_env import SimEnv

KEY_WINDOW_MS = 1_000
DAY_MS = 24 * 3_600_000
KEEPS_FEW = QueueSettings(
    durability=DURABILITY_SYNC,
    retry=RetryPolicy(attempt_max=3, jitter=False, base_ms=5_000),
    succeeded_count=2,
    dead_count=2,
)
LISTED = RetryPolicy(attempt_max=4, backoff=BACKOFF_LIST, delays_ms=(1_000, 60_000), crash_max=2)
_VOLATILE = ("connected", "credit", "last_seen_ms", "loop_lag_ms", "stalled", "stuck_slots")
ERROR = JobError("ValueError", "an address is missing", "Traceback …\nValueError: …")


class DataStory:
    """A leader of a log, command by command, a commit each."""

    def __init__(self, env: SimEnv, new_log: Callable[[], FileLog]) -> None:
        self.engine = Engine()
        self._env = env
        self._new_log = new_log
        self._leases: dict[bytes, int] = {}
        self._ids = 0
        self._lead()

    def _lead(self) -> None:
        self._log = self._new_log()
        self._log.open()
        self._epoch = self._log.lead("vector")
        self.engine.start_epoch(self._epoch.number, self._epoch.nonce, "vector", self._now_ms)
        self._commit()

    def restart(self) -> None:
        """A clean end, and another epoch."""
        self._log.close()
        self._lead()

    def live(self, part: str) -> None:
        """Every command that leaves a record, on jobs of this part's own."""
        self._run(commands.ConfigureQueue(f"{part}-mail", KEEPS_FEW))
        session_id = part.encode().ljust(16, b"-")
        self._open_session(session_id, part)
        ids = self._enqueue_ten(part)
        self._serve()
        self._work(ids)
        self._operate(part)
        self._expire_and_forget(part)
        self._leave_some(part, session_id)

    def snapshot(self) -> int:
        """Its index."""
        walk = self.engine.begin_snapshot()
        writer = self._log.begin_snapshot(self._epoch, walk.index)
        while rows := walk.next_rows(16):
            writer.write(encode_rows(rows))
        writer.publish()
        return walk.index

    def last_words(self) -> None:
        """One more commit, whose end the vector will not have."""
        self._enqueue("torn", [b'"nobody was told that this job exists"'])

    # --- the life

    def _open_session(self, session_id: bytes, part: str) -> None:
        queues = (f"{part}-mail",)
        self._run(
            commands.OpenSession(
                session_id, f"worker of {part}", "host", 42, "1.2.3", ("send",), queues, 32
            )
        )
        self.engine.set_connected(session_id, True)

    def _enqueue_ten(self, part: str) -> list[bytes]:
        payloads = [f'{{"user_id":{number}}}'.encode() for number in range(9)]
        extra = JobExtra(
            key=f"{part}:welcome",
            key_window_ms=KEY_WINDOW_MS,
            tags=("welcome", "é"),
            headers={"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"},
        )
        ids = self._enqueue(f"{part}-mail", payloads, timeout_ms=30_000)
        return ids + self._enqueue(f"{part}-mail", [b'"keyed"'], extra=extra, priority=200)

    def _work(self, ids: list[bytes]) -> None:
        leases = [(job_id, self._leases[job_id]) for job_id in ids]
        self._run(commands.MarkStarted(leases[:6]))
        self._run(commands.Progress(*leases[0], b'{"percent":50}'))
        self._run(commands.LogLines(*leases[0], ["half of it", "is done"]))
        self._run(commands.Ack([(*lease, b'"sent"') for lease in leases[:3]]))
        self._run(commands.Nack([commands.Failure(*leases[3], ERROR)]))
        self._run(commands.Nack([commands.Failure(*leases[4], ERROR, retryable=False)]))
        self._run(commands.Release([commands.Return(*leases[5], 7_000, started=True)]))
        self._run(commands.Cancel(leases[6][0], "no longer needed"))
        self._run(commands.Release([commands.Return(*leases[6])]))
        lost = [commands.EndedLease(*leases[7], True), commands.EndedLease(*leases[8], False)]
        self._run(commands.Expire(lost, "worker_lost"))

    def _operate(self, part: str) -> None:
        """What an operator does to waiting and final jobs."""
        queue = f"{part}-later"
        first, second, third, late = self._enqueue(
            queue, [b"1", b"2", b"3", b"4"], delay_ms=DAY_MS, retry=LISTED
        )
        self._run(commands.PauseQueue(queue))
        self._run(commands.Reschedule(first, delay_ms=2 * DAY_MS))
        self._run(commands.ChangePriority(second, 7))
        self._run(commands.Cancel(third, "by hand"))
        self._run(commands.Revive(third, DAY_MS))
        self._run(commands.Delete(late))
        self._enqueue(queue, [b'"late"'], extra=JobExtra(start_by_ms=self._now_ms + 2_000))

    def _expire_and_forget(self, part: str) -> None:
        """Time passes: promotion, start-by, retention, ids and keys forgotten."""
        for duration_ms in (KEY_WINDOW_MS + 1_500, 10_000, REMEMBER_MS + 20_000):
            self._env.clock.advance_ms(duration_ms)
            self._run(commands.Maintain())

    def _leave_some(self, part: str, session_id: bytes) -> None:
        """One job in each state, a key, remembered ids, and an open session."""
        extra = JobExtra(key=f"{part}:later", key_window_ms=DAY_MS)
        self._enqueue(f"{part}-mail", [b'"keyed and leased"'], extra=extra)
        self._serve()
        self._run(commands.CloseSession(session_id, "stopped"))
        self._open_session(session_id[::-1], part)
        done, dead, held, _, single = self._enqueue(f"{part}-mail", [b"1", b"2", b"3", b"4", b"5"])
        self._serve()
        self._run(commands.Ack([(done, self._leases[done], None)]))
        failure = commands.Failure(dead, self._leases[dead], ERROR, retryable=False)
        self._run(commands.Nack([failure]))
        self._run(commands.MarkStarted([(held, self._leases[held])]))
        self._run(commands.Release([commands.Return(single, self._leases[single])]))
        self._enqueue(f"{part}-batch", [b'"for a client without a session"'], kind="crunch")
        self._run(commands.Claim((f"{part}-batch",), ("crunch",), lease_ms=45_000))
        binary = b"\x00\xff not JSON"
        media_type = "application/octet-stream"
        self._enqueue(f"{part}-batch", [binary], kind="nobody", media_type=media_type)

    # --- how it is done

    @property
    def _now_ms(self) -> int:
        return self._env.clock.wall_ms()

    def _enqueue(
        self,
        queue: str,
        payloads: Iterable[bytes],
        *,
        kind: str = "send",
        priority: int = 100,
        delay_ms: int = 0,
        extra: JobExtra | None = None,
        **spec: Any,
    ) -> list[bytes]:
        jobs = [
            commands.NewJob(self._new_id(queue), 0, payload, priority, 0, delay_ms, extra)
            for payload in payloads
        ]
        self._run(commands.Enqueue([JobSpec(queue, kind, **spec)], jobs))
        return [job.job_id for job in jobs]

    def _new_id(self, queue: str) -> bytes:
        self._ids += 1
        return make_job_id(self._now_ms, slot_of_queue(queue), self._ids.to_bytes(8, "big"))

    def _serve(self) -> None:
        """Ready jobs are leased to whoever is connected."""
        self.engine.begin_turn(self._now_ms)
        self.engine.dispatch()
        self._commit()

    def _run(self, command: commands.Command) -> None:
        self._env.clock.advance_ms(10)
        self.engine.begin_turn(self._now_ms)
        self.engine.run(command, seed=self.engine.last_index)
        self._commit()

    def _commit(self) -> None:
        records, effects = self.engine.take_turn()
        for effect in effects:
            if isinstance(effect, PushJobs):
                self._note(effect)
        if not records:
            return
        first_index = self.engine.last_index - len(records) + 1
        body = encode_records(records)
        commit_id = commit_id_of(self._epoch, first_index)
        now_ms = self.engine.now_ms
        self._log.append(self._epoch, Commit(commit_id, first_index, len(records), now_ms, body))

    def _note(self, push: PushJobs) -> None:
        for group in push.groups:
            self._leases.update((job.job_id, group.token) for job in group.jobs)


def told(engine: Engine) -> dict[str, Any]:
    """The whole state, as its readers see it, in plain values."""
    engine.begin_turn(engine.now_ms)
    page = engine.run(commands.ListJobs(limit=1_000))
    queues = engine.run(commands.ListQueues())
    sessions = engine.run(commands.ListSessions())
    assert isinstance(page, JobPage)
    assert isinstance(queues, QueuePage)
    assert isinstance(sessions, SessionPage)
    engine.take_turn()
    return {
        "last_index": engine.last_index,
        "now_ms": engine.now_ms,
        "jobs": [plain(engine.job_view(view.job_id, True)) for view in page.jobs],
        "queues": [plain(view) for view in queues.queues],
        "sessions": [_lasting(plain(view)) for view in sessions.sessions],
    }


def _lasting(session: dict[str, Any]) -> dict[str, Any]:
    """Without what only its leader knew."""
    return {name: value for name, value in session.items() if name not in _VOLATILE}
