"""Mistakes in the runtime: what leaves when, leases and their time, commits, snapshots, clocks."""

from __future__ import annotations

from proof.mutants.catchers import NODE_LIVES, SIM, pointed
from proof.mutants.mutant import Mutant

_COMMITS = "simulation/test_node_commits.py"
_LEASES = "simulation/test_node_leases.py"
_LIFE = "simulation/test_node_life.py"
_SNAPSHOTS = "simulation/test_node_snapshots.py"
_PARTS = "unit/runtime/test_parts.py"

LEAVING = (
    Mutant(
        name="reply-before-durable",
        mistake="Replies leave at the end of the turn, before their commit is durable.",
        shipped_by="etcd#14370: a single node could lose an acknowledged write",
        path="runtime/leader.py",
        old="        self._releases.release(self._committer.durable_index)\n",
        new="        self._releases.release(self.engine.last_index)\n",
        breaks="I1, I13, contract 1",
        catchers=(SIM, pointed(_COMMITS, "test_reply_waits_until")),
    ),
    Mutant(
        name="push-before-durable",
        mistake="A job is pushed before its claim is durable: after a crash two workers have it.",
        shipped_by="etcd#14370",
        path="runtime/releases.py",
        old="        self._release_effects(durable_index)\n",
        new="        self._release_effects(1 << 62)\n",
        breaks="I4, I13, contract 3",
        catchers=(SIM, pointed(_PARTS, "test_answers")),
    ),
    Mutant(
        name="effects-before-answers",
        mistake="A worker is pushed a job before it knows that its session is open.",
        path="runtime/releases.py",
        old="        self._release_answers(durable_index)\n"
        "        self._release_effects(durable_index)\n",
        new="        self._release_effects(durable_index)\n"
        "        self._release_answers(durable_index)\n",
        breaks="the order of releases",
        catchers=(pointed(_PARTS, "test_answers_of_an_index_leave_before"),),
    ),
    Mutant(
        name="reads-see-the-undurable",
        mistake="A read is answered at once, with what a crash may take back.",
        shipped_by="etcd#14370: no read barrier",
        path="runtime/handlers.py",
        old="        self._releases.hold(self._engine.last_index, peer, request_id, reply)\n",
        new="""\
        if isinstance(reply, JobReply):
            reply.index = self._engine.last_index
            self._releases.say(peer, request_id, reply)
            return
        self._releases.hold(self._engine.last_index, peer, request_id, reply)
""",
        breaks="I13",
        catchers=(SIM, pointed(_COMMITS, "test_read_waits_for_the_commit")),
    ),
    Mutant(
        name="async-answered-as-durable",
        mistake="An early reply of an async queue says that its job is durable.",
        shipped_by="Redis and NATS, whose default answers before any sync",
        path="runtime/handlers.py",
        old="""\
            reply.durability = durability
            reply.index = self._engine.last_index
            self._stats.early_replies += 1
""",
        new="""\
            reply.index = self._engine.last_index
            self._stats.early_replies += 1
""",
        breaks="I13, contract 1",
        catchers=(SIM, pointed(_COMMITS, "test_async_enqueue_is_answered_early")),
    ),
    Mutant(
        name="async-window-open-for-ever",
        mistake="Early replies run ahead of a slow disk without a bound.",
        shipped_by="NATS JetStream: two minutes",
        path="runtime/handlers.py",
        old="        return self._committer.undurable_ms() < self._async_window_ms",
        new="        return True",
        breaks="I13, contract 1",
        catchers=(pointed(_COMMITS, "test_early_replies_stop"),),
    ),
    Mutant(
        name="refused-commit-dropped",
        mistake="A commit that a full disk refused is given up; its records are facts in memory.",
        path="runtime/committer.py",
        old="            self._retry = self._loop.call_later"
        "(REFUSED_RETRY_MS / 1000, self._offer_again)\n"
        "            self._events.refused(error)\n",
        new="            self._flight = None\n            self._events.refused(error)\n",
        breaks="I1, I12",
        catchers=(pointed(_COMMITS, "test_refused_commit_is_offered_again"),),
    ),
    Mutant(
        name="lost-commit-offered-again",
        mistake="A commit that may have been written is written again.",
        shipped_by="PostgreSQL until 10.7 (fsyncgate)",
        path="runtime/committer.py",
        old="        if isinstance(error, Refused):\n",
        new="        if error is not None:\n",
        breaks="I1, I13",
        catchers=(pointed("unit/runtime/test_committer.py", "test_nothing_is_written_after"), SIM),
    ),
    Mutant(
        name="call-split-over-commits",
        mistake="Each record is a commit of its own: a crash leaves half of a call.",
        path="runtime/turns.py",
        old="                self._add(body, len(records), len(self._ends))\n",
        new="""\
                for record in records:
                    self._add(encode_records([record]), 1, len(self._ends))
                    self._committer.seal_here()
""",
        breaks="I2; a command is in one commit",
        catchers=(SIM, pointed(_COMMITS, "test_commands_that_came_while_the_disk")),
    ),
)

TIME = (
    Mutant(
        name="leases-unwatched-after-recovery",
        mistake="After a recovery nobody looks at the leases: jobs of lost workers stay theirs.",
        shipped_by="asynq#1051, Hangfire.Mongo#307",
        path="runtime/leader.py",
        old="        self._leases.watch_all()\n",
        new="        pass\n",
        breaks="I11, contract 2",
        catchers=(SIM, pointed(_LEASES, "test_session_that_does_not_come_back")),
    ),
    Mutant(
        name="no-time-to-come-back",
        mistake="After a recovery short leases end before their workers could connect again.",
        shipped_by="good_job#90",
        path="runtime/leases.py",
        old="            facts.seen_ns += max(0, RECOVERY_GRACE_MS * NS_PER_MS - facts.lease_ns)\n",
        new="",
        breaks="I4, contract 3",
        catchers=(pointed(_LEASES, "test_short_lease_outlasts_the_way_back"),),
    ),
    Mutant(
        name="expiry-late",
        mistake="A silent worker keeps its jobs for three times its lease.",
        shipped_by="PgQueuer#475",
        path="runtime/leases.py",
        old="        deadline_ns = facts.seen_ns + facts.lease_ns\n"
        "        if deadline_ns > now_ns:",
        new="        deadline_ns = facts.seen_ns + 3 * facts.lease_ns\n"
        "        if deadline_ns > now_ns:",
        breaks="I11",
        catchers=(pointed(_LEASES, "test_session_without_heartbeat"),),
    ),
    Mutant(
        name="expiry-early",
        mistake="A worker that misses one heartbeat loses its jobs.",
        shipped_by="bullmq#439",
        path="runtime/leases.py",
        old="        deadline_ns = facts.seen_ns + facts.lease_ns\n"
        "        if deadline_ns > now_ns:",
        new="        deadline_ns = facts.seen_ns + facts.lease_ns // 3\n"
        "        if deadline_ns > now_ns:",
        breaks="I4, contract 3",
        catchers=(SIM, pointed(_LEASES, "test_heartbeats_keep_leases")),
    ),
    Mutant(
        name="dead-session-renewed",
        mistake="The leases of a session of which nothing is heard are renewed by the server.",
        shipped_by="procrastinate#740, Hangfire.Mongo#307",
        path="runtime/leases.py",
        old="        else:\n            facts.expiring = True\n",
        new="""\
        else:
            facts.seen_ns = now_ns
            self._wheel.add(now_ns + facts.lease_ns, partial(self._look_at_session, facts))
            return
            facts.expiring = True
""",
        breaks="I11, contract 2",
        catchers=(SIM, pointed(_LEASES, "test_session_without_heartbeat")),
    ),
    Mutant(
        name="slow-disk-costs-leases",
        mistake="A disk that stalls for longer than a lease costs every worker its jobs.",
        shipped_by="bull#412, Hangfire#1183",
        path="runtime/upkeep.py",
        old="            self._leases.pause(flight_ns)\n",
        new="            pass\n",
        breaks="I4",
        catchers=(pointed(_LEASES, "test_no_lease_ends_while_the_log_stalls"),),
    ),
    Mutant(
        name="paused-node-blames-workers",
        mistake="A server that stood still takes all its workers for lost.",
        shipped_by="bull#412",
        path="runtime/upkeep.py",
        old="            self._leases.resume_after(int(late_s * NS_PER_S))\n",
        new="            pass\n",
        breaks="I4",
        catchers=(pointed(_LEASES, "test_no_lease_ends_because_the_loop"),),
    ),
    Mutant(
        name="timeout-forgotten-at-recovery",
        mistake="A job that ran over a restart of the server has no timeout any more.",
        path="runtime/leases.py",
        old="                if lease is not None and lease.timeout_ms and lease.started:\n",
        new="                if lease is None:\n",
        breaks="I11",
        catchers=(pointed(_LEASES, "test_timeout_of_a_job_that_runs_over"),),
    ),
    Mutant(
        name="void-push-delivered",
        mistake="A push that a resume has answered for is sent all the same: two have the job.",
        path="runtime/sessions.py",
        old="        if facts is None or facts.peer is None or index <= facts.resumed_index:\n",
        new="        if facts is None or facts.peer is None:\n",
        breaks="I4, contract 3",
        catchers=(pointed(_PARTS, "test_pushes_up_to_the_resume"),),
    ),
    Mutant(
        name="ended-lease-pushed",
        mistake="A job is pushed under a lease that ended before the disk had caught up.",
        path="runtime/leader.py",
        old="            groups = self._still_held(effect.groups)\n",
        new="            groups = effect.groups\n",
        breaks="I4, contract 3",
        catchers=(pointed(_LEASES, "test_lease_that_has_ended_before_its_commit_w"),),
    ),
    Mutant(
        name="difference-never-noticed",
        mistake="Server and worker never find out that they disagree about what is held.",
        shipped_by="Hangfire.Mongo#307, asynq PR#1158",
        path="runtime/sessions.py",
        old="        return repeated\n",
        new="        return False\n",
        breaks="I11",
        catchers=(pointed(_LEASES, "test_same_difference_twice"),),
    ),
    Mutant(
        name="wall-clock-followed-at-once",
        mistake="Log time jumps with the wall clock: delayed jobs fire early, or never.",
        shipped_by="celery#6438, libfaketime users",
        path="runtime/clock.py",
        old="            self._offset_ns += max(-step_ns, min(step_ns, drift_ns))\n",
        new="            self._offset_ns += drift_ns\n",
        breaks="I7, contract 4",
        catchers=(pointed("unit/runtime/test_clock.py", "test_"),),
    ),
    Mutant(
        name="due-jobs-wait-for-traffic",
        mistake="No timer stands for what becomes due: an idle node starts no delayed job.",
        shipped_by="procrastinate#1408",
        path="runtime/upkeep.py",
        old="            self._plan_maintenance(due_ms)\n",
        new="            pass\n",
        breaks="I7, I11, contract 4",
        catchers=(SIM, pointed(_LIFE, "test_scheduled_job_is_pushed_on_time")),
    ),
)

KEEPING = (
    Mutant(
        name="snapshot-inside-a-commit",
        mistake="A snapshot is of an index inside a commit: replay has nowhere to go on.",
        path="runtime/snapshots.py",
        old="        self._committer.seal_here()\n",
        new="",
        breaks="I12, I15",
        catchers=(pointed(_SNAPSHOTS, "test_snapshot_begun_while"),),
    ),
    Mutant(
        name="snapshot-under-a-wrong-index",
        mistake="A snapshot is labelled with the durable index, and holds what came later.",
        path="runtime/snapshots.py",
        old="            lambda: self._log.begin_snapshot(self._epoch, run.walk.index),\n",
        new="            lambda: self._log.begin_snapshot(\n"
        "                self._epoch, self._committer.durable_index\n"
        "            ),\n",
        breaks="I12, I15",
        catchers=(SIM, pointed(_SNAPSHOTS, "test_snapshot_begun_while")),
    ),
    Mutant(
        name="snapshot-without-its-last-block",
        mistake="The rows that do not fill a block are left out of the snapshot.",
        path="runtime/snapshots.py",
        old="            self._encode()\n            self.walked = True\n",
        new="            self.walked = True\n",
        breaks="I1, I12",
        catchers=(NODE_LIVES, pointed(_SNAPSHOTS, "test_snapshot_taken_while")),
    ),
    Mutant(
        name="half-a-commit-replayed",
        mistake="Replay takes the first record of each commit.",
        path="runtime/recovery.py",
        old="            engine.apply(index, record)\n",
        new="            engine.apply(index, record)\n            break\n",
        breaks="I1, I12",
        catchers=(NODE_LIVES, pointed(_LIFE, "test_restarted_node_has_the_state")),
    ),
    Mutant(
        name="epoch-not-written",
        mistake="A leader decides before its epoch is in the log.",
        shipped_by="what fencing epochs of RabbitMQ and Kafka are for",
        path="runtime/recovery.py",
        old="    log.append(epoch, commit)\n",
        new="    pass\n",
        breaks="I4, I12",
        catchers=(pointed(_LIFE, "test_first_record_of_a_node"), SIM),
    ),
)

MUTANTS = LEAVING + TIME + KEEPING
