"""Mistakes in the engine: leases and attempts, order, keys and ids, cancel, retention, replay."""

from __future__ import annotations

from proof.mutants.catchers import ENGINE_LIVES, ENGINE_TWINS, SIM, pointed
from proof.mutants.mutant import Mutant

_CHANGING = "unit/engine/test_changing.py"
_ENQUEUEING = "unit/engine/test_enqueueing.py"
_LEASING = "unit/engine/test_leasing.py"
_LIFE = "simulation/test_node_life.py"
_RETENTION = "unit/engine/test_retention.py"
_SESSIONS = "unit/engine/test_sessions.py"

LEASES = (
    Mutant(
        name="stale-ack-accepted",
        mistake="An ack counts whatever its token: a late worker ends the attempt of another.",
        shipped_by="Hangfire#1183, asynq#717",
        path="engine/leasing.py",
        old="""\
        if job is None or job.token != token or job_id in seen:
            _add_problem(problems, position, _ack_refusal(turn, job_id, token, seen))
        elif not lifecycle.ACK.moves[job.state]:
            _add_problem(problems, position, stale_lease(job_id, token))
        elif result is not None and len(result) > limits.RESULT_BYTES_MAX:
            _add_problem(problems, position, _result_too_large(job_id, result))
        else:
            seen[job_id] = token
            granted.append((job_id, token, result))
""",
        new="""\
        if job is None or job_id in seen:
            _add_problem(problems, position, _ack_refusal(turn, job_id, token, seen))
        elif not lifecycle.ACK.moves[job.state]:
            _add_problem(problems, position, stale_lease(job_id, token))
        elif result is not None and len(result) > limits.RESULT_BYTES_MAX:
            _add_problem(problems, position, _result_too_large(job_id, result))
        else:
            seen[job_id] = token
            granted.append((job_id, job.token, result))
""",
        breaks="I3, contract 3",
        catchers=(
            SIM,
            ENGINE_LIVES,
            pointed(_LEASING, "test_ack_with_an_expired_lease"),
        ),
    ),
    Mutant(
        name="repeated-ack-refused",
        mistake="A repeated ack is told that its lease is stale, though it is the one that won.",
        path="engine/leasing.py",
        old="    return known is not None and known.token == token and known.state == SUCCEEDED",
        new="    return False",
        breaks="I3",
        catchers=(SIM, ENGINE_LIVES, pointed(_LEASING, "test_repeated_ack")),
    ),
    Mutant(
        name="second-ack-finishes-again",
        mistake="One call that names a lease twice ends its job twice.",
        path="engine/leasing.py",
        old="        if job is None or job.token != token or job_id in seen:\n",
        new="        if job is None or job.token != token:\n",
        breaks="I3",
        catchers=(pointed(_LEASING, "test_call_that_acks_a_lease_twice"),),
    ),
    Mutant(
        name="lost-start-not-charged",
        mistake="A lease that ends after its start costs no attempt: a poison job runs for ever.",
        shipped_by="sidekiq#4594, procrastinate#1408",
        path="engine/evolve.py",
        old="        if lease.started:\n            job.attempt += 1\n",
        new="        if lease.started:\n",
        breaks="I5, contract 2",
        catchers=(SIM, ENGINE_LIVES, pointed(_LEASING, "test_lost_worker_charges_only_jobs")),
    ),
    Mutant(
        name="reserved-job-charged",
        mistake="A job that its worker never started is charged when the worker is lost.",
        path="engine/evolve.py",
        old="            cold.return_count += 1\n",
        new="            cold.return_count += 1\n            job.attempt += 1\n",
        breaks="I5",
        catchers=(SIM, ENGINE_LIVES, pointed(_LEASING, "test_lost_worker_charges_only_jobs")),
    ),
    Mutant(
        name="crash-limit-off-by-one",
        mistake="A job that kills its workers kills one more than its limit says.",
        path="engine/leasing.py",
        old="cold.crash_count + 1 >= policy.crash_max",
        new="cold.crash_count >= policy.crash_max",
        breaks="I5",
        catchers=(SIM, ENGINE_LIVES, pointed(_LEASING, "test_job_that_kills_its_workers")),
    ),
    Mutant(
        name="attempt-limit-off-by-one",
        mistake="A failing job gets one attempt more than its policy grants.",
        shipped_by="Oban's planner",
        path="engine/leasing.py",
        old="    if attempt >= retry_policy(turn, job).attempt_max:",
        new="    if attempt > retry_policy(turn, job).attempt_max:",
        breaks="I5",
        catchers=(SIM, ENGINE_LIVES, pointed(_LEASING, "test_attempts_end_with_a_dead_job")),
    ),
    Mutant(
        name="lost-push-stays-leased",
        mistake="Leases that a resumed worker does not know are left as they are: the job whose "
        "push got lost is reserved for ever.",
        shipped_by="procrastinate#740, PgQueuer#475",
        path="engine/attending.py",
        old="    _give_back(turn, session, known)\n",
        new="",
        breaks="I11, contract 2",
        catchers=(pointed(_SESSIONS, "test_resume_"),),
    ),
    Mutant(
        name="more-than-its-credit",
        mistake="A session is pushed all that is ready, whatever room it has.",
        path="engine/dispatching.py",
        old="    room = min(session.room, limits.CLAIM_JOBS_MAX)\n",
        new="    room = limits.CLAIM_JOBS_MAX if session.room > 0 else 0\n",
        breaks="I9",
        catchers=(pointed(_SESSIONS, "test_session_holds_no_more_than_its_credit"),),
    ),
    Mutant(
        name="cancel-misses-the-holder",
        mistake="The worker that runs a cancelled job is never told.",
        shipped_by="celery#4300, hatchet#1010",
        path="engine/changing.py",
        old="            turn.effects.append(PushCancel(session.session_id, "
        "[(job.job_id, job.token)]))\n",
        new="            pass\n",
        breaks="contract 8",
        catchers=(pointed(_SESSIONS, "test_cancel_of_a_leased_job_is_told"),),
    ),
    Mutant(
        name="cancel-forgotten-when-lease-ends",
        mistake="A cancelled job whose worker is lost runs again.",
        shipped_by="celery#1246",
        path="engine/leasing.py",
        old="    if job.flags & FLAG_CANCEL_REQUESTED:\n        fate, why = FATE_CANCELLED, ",
        new="    if False:\n        fate, why = FATE_CANCELLED, ",
        breaks="contract 8",
        catchers=(
            SIM,
            ENGINE_LIVES,
            pointed(_CHANGING, "test_every_other_end"),
        ),
    ),
)

ORDER = (
    Mutant(
        name="released-job-goes-to-the-back",
        mistake="A job that comes back unstarted stands behind younger ones.",
        path="engine/evolve.py",
        old="keeps_place=not released.snoozed",
        new="keeps_place=False",
        breaks="I6",
        catchers=(SIM, ENGINE_LIVES, pointed(_LEASING, "test_released_job_keeps_its_place")),
    ),
    Mutant(
        name="due-job-jumps-the-queue",
        mistake="A job that becomes due stands before those that were ready already.",
        path="engine/state.py",
        old="        job.number = self.take_number()\n"
        "        self.move(job, lifecycle.PROMOTE, READY)",
        new="        self.move(job, lifecycle.PROMOTE, READY)",
        breaks="I6",
        catchers=(SIM, ENGINE_LIVES, pointed(_LEASING, "test_job_that_becomes_due_stands_behind")),
    ),
    Mutant(
        name="returned-job-lost-in-its-lane",
        mistake="A job that comes back is put at the end of a list that is read in order.",
        path="engine/lanes.py",
        old="        if order and job.number < order[-1].number:\n",
        new="        if False:\n",
        breaks="I6",
        catchers=(SIM, ENGINE_LIVES, ENGINE_TWINS),
    ),
    Mutant(
        name="priorities-upside-down",
        mistake="Of the kinds that a session serves, the one with the lowest priority comes first.",
        shipped_by="dramatiq#232",
        path="engine/lanes.py",
        old="        priority = max((lanes.bitmap & mask).bit_length() for lanes in busy) - 1",
        new="        priority = min((lanes.bitmap & mask).bit_length() for lanes in busy) - 1",
        breaks="I6",
        catchers=(SIM, ENGINE_LIVES, ENGINE_TWINS),
    ),
    Mutant(
        name="due-a-second-early",
        mistake="A delayed job is ready a second before its time.",
        shipped_by="kombu#337",
        path="engine/timers.py",
        old="            if at_ms is None or at_ms > now_ms:\n",
        new="            if at_ms is None or at_ms > now_ms + 1_000:\n",
        breaks="I7, contract 4",
        catchers=(SIM, ENGINE_LIVES, pointed(_LEASING, "test_delayed_job_is_not_claimable")),
    ),
    Mutant(
        name="paused-queue-dispatches",
        mistake="Sessions are served from a paused queue.",
        path="engine/dispatching.py",
        old="        if lanes and not queues[lanes[0].queue].paused:\n",
        new="        if lanes:\n",
        breaks="contract 5",
        catchers=(SIM, ENGINE_LIVES, pointed(_SESSIONS, "test_paused_queue_feeds_nobody")),
    ),
    Mutant(
        name="paused-queue-is-claimed",
        mistake="A client without a session claims from a paused queue.",
        path="engine/claiming.py",
        old="        if queue is None or queue.paused:\n",
        new="        if queue is None:\n",
        breaks="contract 5",
        catchers=(SIM, ENGINE_LIVES, pointed(_LEASING, "test_claim_of_a_paused_queue")),
    ),
)

NAMES = (
    Mutant(
        name="key-ends-with-its-job",
        mistake="An idempotency key is free as soon as its job has ended, inside its window.",
        shipped_by="asynq#764, Oban 2.23",
        path="engine/state.py",
        old="        self.ended_now.append(job_id)\n"
        "        queue.totals[_TOTAL_OF_STATE[state]] += 1",
        new="        self.ended_now.append(job_id)\n"
        "        self.free_key(job.spec.queue, job.spec.kind, job.cold, job_id)\n"
        "        queue.totals[_TOTAL_OF_STATE[state]] += 1",
        breaks="I8, contract 5",
        catchers=(SIM, ENGINE_LIVES, pointed(_RETENTION, "test_key_outlives_its_job")),
    ),
    Mutant(
        name="keys-not-in-snapshot",
        mistake="Idempotency keys are dropped when state is loaded from a snapshot.",
        path="engine/snapshot.py",
        old="            state.keys.load(row.scope, taken)\n",
        new="            pass\n",
        breaks="I8, I12",
        catchers=(ENGINE_LIVES, SIM),
    ),
    Mutant(
        name="ids-forgotten-early",
        mistake="An ended id is forgotten after a second: a repeated call creates its job again.",
        shipped_by="bullmq#439",
        path="engine/maintaining.py",
        old="    before_ms = turn.now_ms - limits.REMEMBER_MS\n",
        new="    before_ms = turn.now_ms - 1_000\n",
        breaks="I8, contract 1",
        catchers=(SIM, ENGINE_LIVES, pointed(_RETENTION, "test_ids_are_remembered")),
    ),
    Mutant(
        name="ended-id-enqueued-again",
        mistake="A repeated enqueue of a job that has ended, and is not kept, creates it again.",
        shipped_by="bullmq#439, asynq's unique TTL",
        path="engine/enqueueing.py",
        old="    if known is not None:\n        return job_id, known.state\n",
        new="",
        breaks="I3, I8",
        catchers=(SIM, ENGINE_LIVES, pointed(_RETENTION, "test_ids_are_remembered")),
    ),
    Mutant(
        name="ended-ids-not-in-snapshot",
        mistake="A snapshot has no ended ids: after the next start a repeated call creates again.",
        path="engine/snapshot.py",
        old="    rows += state.remembered.rows()\n",
        new="",
        breaks="I8, I12",
        catchers=(SIM, ENGINE_LIVES),
    ),
    Mutant(
        name="atomic-batch-half-applied",
        mistake="An atomic call that is refused at its third job has created the first two.",
        path="engine/enqueueing.py",
        old="""\
                error.details.setdefault("position", position)
                raise
""",
        new="""\
                error.details.setdefault("position", position)
                for spec_no, jobs in call.accepted.items():
                    turn.emit(JobsEnqueued(command.specs[spec_no], jobs))
                raise
""",
        breaks="I2; a refused command emits nothing",
        catchers=(SIM, ENGINE_LIVES, pointed(_ENQUEUEING, "test_atomic_call")),
    ),
    Mutant(
        name="refused-for-room-but-done",
        mistake="Room is looked for after the jobs are in: the caller is refused, the jobs run.",
        path="engine/enqueueing.py",
        old="""\
    check_room(turn.state, call.count, call.bytes)
    for spec_no, jobs in call.accepted.items():
        turn.emit(JobsEnqueued(command.specs[spec_no], jobs))
""",
        new="""\
    for spec_no, jobs in call.accepted.items():
        turn.emit(JobsEnqueued(command.specs[spec_no], jobs))
    check_room(turn.state, call.count, call.bytes)
""",
        breaks="I2; a refused command emits nothing",
        catchers=(
            SIM,
            ENGINE_LIVES,
            pointed(_ENQUEUEING, "_in_memory_are_bounded"),
        ),
    ),
)

KEEPING = (
    Mutant(
        name="deleted-job-stays-in-its-lane",
        mistake="A waiting job that is deleted stays in the index that claims look at.",
        path="engine/state.py",
        old="        self.unplace(job)\n        self.free_key(job.spec.queue",
        new="        self.free_key(job.spec.queue",
        breaks="I11",
        catchers=(SIM, ENGINE_LIVES, pointed(_CHANGING, "test_purge")),
    ),
    Mutant(
        name="start-by-lost-at-restart",
        mistake="After a start from a snapshot, jobs run that should have begun long ago.",
        path="engine/snapshot.py",
        old="                state.place(job)\n                state.start_by.watch(job)\n",
        new="                state.place(job)\n",
        breaks="I12, contract 4",
        catchers=(SIM, ENGINE_LIVES, pointed(_RETENTION, "test_start_by_holds_after_a_recovery")),
    ),
    Mutant(
        name="dead-jobs-dropped-like-finished-ones",
        mistake="Dead jobs are dropped by the count that holds for succeeded ones.",
        path="engine/maintaining.py",
        old="    kept_max = settings.dead_count if is_dead else settings.succeeded_count",
        new="    kept_max = settings.succeeded_count",
        breaks="contract 2",
        catchers=(pointed(_RETENTION, "test_dead_jobs_have_a_ring"),),
    ),
    Mutant(
        name="pruned-bytes-stay-counted",
        mistake="What retention drops is still counted: in the end it drops everything.",
        shipped_by="bull#840",
        path="engine/state.py",
        old="            self.finished_bytes -= len(entry.packed)\n            self.ended.remove",
        new="            self.ended.remove",
        breaks="I11, I12",
        catchers=(SIM, ENGINE_LIVES, pointed(_RETENTION, "test_ring_keeps")),
    ),
    Mutant(
        name="end-not-told",
        mistake="Whoever waits for the end of a job is not told of it.",
        shipped_by="celery#1662, celery#5229",
        path="engine/engine.py",
        old="            effects += [JobEnded(job_id) for job_id in ended]\n",
        new="            effects += []\n",
        breaks="I11; what an effect owed is owed again",
        catchers=(SIM, pointed(_LIFE, "test_wait_is_answered_with_the")),
    ),
)

REPLAY = (
    Mutant(
        name="change-missing-from-snapshot-walk",
        mistake="A job that changes while a snapshot is taken is in it as it was later.",
        path="engine/state.py",
        old="        if jobs.walk is not None:\n            jobs.walk.touch(job_id)\n",
        new="",
        breaks="I12",
        catchers=(ENGINE_LIVES, SIM),
    ),
    Mutant(
        name="end-missing-from-snapshot-walk",
        mistake="What leaves a table while a snapshot is taken is missing from it.",
        path="engine/table.py",
        old='''\
        """The entry is gone. Raises: `KeyError` when there is none."""
        if self.walk is not None:
            self.walk.touch(key)
''',
        new='''\
        """The entry is gone. Raises: `KeyError` when there is none."""
''',
        breaks="I1, I12",
        catchers=(ENGINE_LIVES, SIM),
    ),
    Mutant(
        name="attempts-not-in-snapshot",
        mistake="A job loaded from a snapshot has all its attempts before it again.",
        path="engine/snapshot.py",
        old="            row.attempt,\n",
        new="            0,\n",
        breaks="I5, I12",
        catchers=(SIM, ENGINE_LIVES),
    ),
    Mutant(
        name="time-not-logged",
        mistake="The live state follows the clock, and the log does not say so.",
        path="engine/turn.py",
        old="            self.records.append(passed)\n",
        new="            pass\n",
        breaks="I12",
        catchers=(ENGINE_LIVES, SIM),
    ),
    Mutant(
        name="sessions-numbered-anew",
        mistake="After a start from a snapshot, two sessions share a number and their leases.",
        path="engine/snapshot.py",
        old="        state.next_session_no = row.next_session_no\n",
        new="",
        breaks="I4, I12",
        catchers=(SIM, ENGINE_LIVES),
    ),
)

MUTANTS = LEASES + ORDER + NAMES + KEEPING + REPLAY
