"""Mistakes that show only beside what was asked, or what should have come to its end.

Whole lives passed them until somebody planted them by hand: the job is there, in its order and
once, but with another content, at another time, or without anybody who waits being served.
"""

from __future__ import annotations

from proof.mutants.catchers import ENGINE_LIVES, SIM, pointed
from proof.mutants.mutant import Mutant

_CHANGING = "unit/engine/test_changing.py"
_LEASING = "unit/engine/test_leasing.py"
_RETENTION = "unit/engine/test_retention.py"

CONTENT = (
    Mutant(
        name="delay-not-kept",
        mistake="A job that is enqueued with a delay runs at once.",
        path="engine/enqueueing.py",
        old="    if job.run_at_ms or job.delay_ms:\n",
        new="    if job.run_at_ms:\n",
        breaks="I7, contract 4",
        catchers=(SIM, pointed(_LEASING, "test_delayed_job")),
    ),
    Mutant(
        name="tags-and-headers-dropped",
        mistake="What a job carries beside its payload is kept only when it has a key.",
        path="engine/enqueueing.py",
        old="    accepted.append(EnqueuedJob(job.job_id, job.payload, job.priority, run_at_ms, "
        "job.extra))\n",
        new="    extra = job.extra if job.extra is not None and job.extra.key else None\n"
        "    accepted.append("
        "EnqueuedJob(job.job_id, job.payload, job.priority, run_at_ms, extra))\n",
        breaks="contract 1",
        catchers=(SIM,),
    ),
    Mutant(
        name="result-dropped",
        mistake="A job succeeds, and what it has returned is gone.",
        path="engine/leasing.py",
        old="            granted.append((job_id, token, result))\n",
        new="            granted.append((job_id, token, None))\n",
        breaks="contract 1",
        catchers=(SIM,),
    ),
    Mutant(
        name="rescheduled-to-another-time",
        mistake="A job that is rescheduled becomes due five seconds later than was said.",
        path="engine/changing.py",
        old="        turn.emit(JobRescheduled(job.job_id, run_at_ms))\n",
        new="        late_ms = 5_000 if run_at_ms else 0\n"
        "        turn.emit(JobRescheduled(job.job_id, run_at_ms + late_ms))\n",
        breaks="I7",
        catchers=(SIM, pointed(_CHANGING, "test_reschedule")),
    ),
    Mutant(
        name="last-word-ignored",
        mistake="A handler that gives a job up for good sees it run again.",
        path="engine/leasing.py",
        old='    if not failure.retryable:\n        return FATE_DEAD, "gave_up"\n',
        new="",
        breaks="contract 2",
        catchers=(SIM,),
        reached_at="    if attempt >= retry_policy(turn, job).attempt_max:\n",
    ),
    Mutant(
        name="own-delay-ignored",
        mistake="A failure that names its own delay waits for the policy's instead.",
        path="engine/leasing.py",
        old="    if failure.delay_ms < 0:\n",
        new="    if failure.delay_ms <= limits.DELAY_MS_MAX:\n",
        breaks="I7",
        catchers=(SIM,),
    ),
    Mutant(
        name="snooze-ends-at-once",
        mistake="A handler that puts a job off for an hour gets it again at once.",
        path="engine/leasing.py",
        old="    run_at_ms = turn.now_ms + given_back.delay_ms if given_back.delay_ms else 0\n",
        new="    run_at_ms = 0\n",
        breaks="I7",
        catchers=(SIM,),
    ),
    Mutant(
        name="done-and-refused",
        mistake="A release is done, and its worker is told that its lease was stale.",
        path="engine/leasing.py",
        old="        turn.emit(JobsReleased(list(released.values())))\n",
        new="        turn.emit(JobsReleased(list(released.values())))\n"
        "        for position, one in enumerate(command.jobs):\n"
        "            _add_problem(problems, position, stale_lease(one.job_id, one.token))\n",
        breaks="I3, contract 3",
        catchers=(SIM,),
    ),
    Mutant(
        name="weakest-queue-decides",
        mistake="A call to two queues is answered as early as the less careful of them allows.",
        path="engine/engine.py",
        old="            return max((settings.durability for settings in found), "
        "default=DURABILITY_GROUP)\n",
        new="            return min((settings.durability for settings in found), "
        "default=DURABILITY_GROUP)\n",
        breaks="I13, contract 1",
        catchers=(SIM,),
    ),
    Mutant(
        name="finished-jobs-kept-for-ever",
        mistake="Jobs that have ended stay for longer than their queue says.",
        path="engine/maintaining.py",
        old="    _prune_old(turn)\n    _forget(turn)\n",
        new="    _forget(turn)\n",
        breaks="I14",
        catchers=(SIM, pointed(_RETENTION, "test_")),
        reached_at="    _forget(turn)\n    _expire_keys(turn)\n",
    ),
)

WAITING = (
    Mutant(
        name="log-time-stands-still",
        mistake="After the wall clock was set back, log time waits until it has caught up.",
        shipped_by="the classic max(seen, wall)",
        path="runtime/clock.py",
        old="            self._boot_ns = boot_ns\n            self._slew(elapsed_ns)\n",
        new="            wall_ns = self._clock.wall_ms() * NS_PER_MS\n"
        "            seen_ns = self._boot_ns + self._offset_ns\n"
        "            self._boot_ns = boot_ns\n"
        "            self._offset_ns = max(seen_ns, wall_ns) - boot_ns\n",
        breaks="I7, I11",
        catchers=(SIM,),
    ),
    Mutant(
        name="claims-end-early",
        mistake="A lease without a session ends after half of its time, while its holder works.",
        path="runtime/leases.py",
        old="        deadline_ns = now_ns + lease_ms * NS_PER_MS\n        look = partial("
        "self._look_at_claimed",
        new="        deadline_ns = now_ns + lease_ms * NS_PER_MS // 2\n        look = partial("
        "self._look_at_claimed",
        breaks="I4, contract 3",
        catchers=(SIM,),
    ),
    Mutant(
        name="heartbeats-unheard",
        mistake="A session ends although its worker gives signs of life.",
        path="runtime/sessions.py",
        old="    def note(self, beat: Heartbeat, now_ns: int) -> None:\n"
        "        self.seen_ns = now_ns\n",
        new="    def note(self, beat: Heartbeat, now_ns: int) -> None:\n",
        breaks="I4, contract 3",
        catchers=(SIM,),
        reached_at="        self.loop_lag_ms = beat.loop_lag_ms\n",
    ),
)

DYING = (
    Mutant(
        name="leader-dies-of-a-question",
        mistake="A priority that a job has already ends the leader; a new one takes over.",
        path="engine/changing.py",
        old="    if job.priority != command.priority:\n        turn.emit(PriorityChanged(",
        new="    assert job.priority != command.priority\n"
        "    if job.priority != command.priority:\n        turn.emit(PriorityChanged(",
        breaks="I11",
        catchers=(SIM, ENGINE_LIVES),
    ),
)

RECOVERY = (
    Mutant(
        name="oldest-snapshot-loaded",
        mistake="A start begins at the older of two sound snapshots, and replays too much.",
        path="log/file/snapshot_shelf.py",
        old="    for ref in reversed(current.snapshots):\n        if check_snapshot(",
        new="    for ref in current.snapshots:\n        if check_snapshot(",
        breaks="I14, bound of recovery",
        catchers=(SIM,),
    ),
)

ENGINE = CONTENT + DYING
LOG = RECOVERY
RUNTIME = WAITING
