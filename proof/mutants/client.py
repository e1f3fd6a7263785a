"""Mistakes in the SDK: repeating calls, reconnecting, holding leases, heartbeats, stopping."""

from __future__ import annotations

from proof.mutants.catchers import SIM, checks, pointed
from proof.mutants.mutant import Mutant

_LINK = "unit/client/test_link.py"
_SESSION = "unit/client/test_worker_session.py"
_SLOTS = "unit/client/test_slots.py"
SDK_JOBS = checks("jobs through a real server", "tests/e2e/test_sdk_jobs.py")
SDK_RECONNECT = checks(
    "servers that are killed under their clients", "tests/e2e/test_sdk_reconnect.py"
)
SDK_EXECUTORS = checks("handlers in threads and processes", "tests/e2e/test_sdk_executors.py")

CALLS = (
    Mutant(
        name="claim-repeated",
        mistake="A claim whose answer was lost is repeated: the jobs of the first are held by "
        "nobody until their leases end.",
        path="client/reconnect.py",
        old="        commands.Release,\n        commands.Extend,\n",
        new="        commands.Release,\n        commands.Claim,\n        commands.Extend,\n",
        reached_at="    return type(command) in REPEATABLE",
        breaks="unknown outcomes stay unknown",
        catchers=(pointed(_LINK, "test_call_that_may_not_be_repeated"),),
    ),
    Mutant(
        name="revive-repeated",
        mistake="A revive whose answer was lost is repeated: a job that ended since runs again.",
        shipped_by="bullmq#439",
        path="client/reconnect.py",
        old="        commands.Cancel,\n        commands.ChangePriority,\n",
        new="        commands.Cancel,\n        commands.Revive,\n"
        "        commands.ChangePriority,\n",
        reached_at="    return type(command) in REPEATABLE",
        breaks="unknown outcomes stay unknown",
        catchers=(pointed(_LINK, "test_call_that_may_not_be_repeated"),),
    ),
    Mutant(
        name="new-id-on-retry",
        mistake="A repeated enqueue makes new ids: the job runs twice.",
        shipped_by="bullmq#439; every SDK whose server names the jobs",
        path="client/reconnect.py",
        old="            call.command = msgspec.structs.replace(call.command, resend=True)\n",
        new="""\
            for job in call.command.jobs:
                job.job_id = job.job_id[:8] + self._env.entropy.random_bytes(8)
            call.command = msgspec.structs.replace(call.command, resend=True)
""",
        breaks="I2, I8, contract 1",
        catchers=(SIM, pointed(_LINK, "test_enqueue_whose_answer_was_lost"), SDK_RECONNECT),
    ),
    Mutant(
        name="calls-lost-on-reconnect",
        mistake="Calls without an answer are forgotten when the connection comes back.",
        path="client/reconnect.py",
        old="        self._waiting.extend(self._parked)\n        self._parked.clear()\n",
        new="        self._parked.clear()\n",
        breaks="every call ends",
        catchers=(
            SDK_RECONNECT,
            pointed(_LINK, "test_what_the_owner_says_on_connecting"),
        ),
    ),
    Mutant(
        name="silent-server-trusted",
        mistake="A half-open connection is waited on for ever: the worker looks healthy, idle.",
        shipped_by="celery#8030, celery#10205",
        path="client/reconnect.py",
        old="        if silent and was_awake and self._connection is not None:\n",
        new="        if False:\n",
        breaks="I11",
        catchers=(pointed(_LINK, "test_silent_server_is_given_up"),),
    ),
    Mutant(
        name="answer-of-another-call",
        mistake="Two calls on their way share a request id.",
        path="client/connection.py",
        old="            request_id = request_id + 1 if request_id < _REQUEST_ID_MAX else 1\n"
        "            if request_id not in self._calls:\n"
        "                self._last_id = request_id\n",
        new="            request_id = request_id + 1 if request_id < _REQUEST_ID_MAX else 1\n"
        "            if True:\n"
        "                self._last_id = request_id & 1\n",
        breaks="each call gets its own answer",
        catchers=(SIM, pointed(_LINK, "test_calls_are_answered"), pointed(_LINK, "test_")),
    ),
    Mutant(
        name="ack-given-up",
        mistake="An ack that the server could not take at once is forgotten: the job runs again.",
        path="client/settle.py",
        old="            self._offer_again(command, settled, error)\n",
        new="            for held in settled:\n                self._holdings.forget(held)\n",
        breaks="contract 2",
        catchers=(pointed(_SESSION, "test_ack_is_said_again"),),
    ),
)

HOLDING = (
    Mutant(
        name="idle-after-reconnect",
        mistake="After a reconnect the worker does not resume, and is given nothing any more.",
        shipped_by="celery#8030, celery#8091, celery#10205",
        path="client/worker.py",
        old="    def _on_connected(self, welcome: Welcome) -> None:\n        self._enter()\n",
        new="    def _on_connected(self, welcome: Welcome) -> None:\n"
        "        if not self.session_id:\n            self._enter()\n",
        breaks="I11",
        catchers=(
            SDK_RECONNECT,
            pointed(_SESSION, "test_many_reasons_to_resume"),
        ),
    ),
    Mutant(
        name="resume-verdicts-ignored",
        mistake="A worker that resumes goes on with jobs that are somebody else's now.",
        shipped_by="asynq#717, Hangfire#1183",
        path="client/worker.py",
        old="                if verdict == VERDICT_DROP:\n                    self._drop(held)\n",
        new="                if verdict == VERDICT_DROP:\n                    pass\n",
        breaks="contract 3",
        catchers=(pointed(_SESSION, "test_worker_that_resumes_stops"),),
    ),
    Mutant(
        name="push-across-a-resume-taken",
        mistake="A push that crosses a resume is taken, though its jobs were given to others.",
        path="client/worker.py",
        old="            if not _is_under_way(self._resuming):\n"
        "                self._on_jobs(push)\n",
        new="            if True:\n                self._on_jobs(push)\n",
        breaks="contract 3",
        catchers=(pointed(_SESSION, "test_job_pushed_while_a_resume"),),
    ),
    Mutant(
        name="pushed-twice-runs-twice",
        mistake="A job that is pushed again under the same lease runs again.",
        path="client/worker.py",
        old="            return False  # what is owed is sent again; once is enough\n",
        new="            return True\n",
        breaks="contract 3",
        catchers=(pointed(_SESSION, "test_job_that_is_pushed_twice"),),
    ),
    Mutant(
        name="dropped-job-starts",
        mistake="A job whose lease was dropped while it waited is started all the same.",
        shipped_by="asynq#717",
        path="client/slots.py",
        old="            if held.state == RESERVED and self._takes_process(held):\n",
        new="            if self._takes_process(held):\n",
        breaks="contract 3",
        catchers=(
            SDK_JOBS,
            pointed(_SLOTS, "test_job_that_was_given_back"),
        ),
    ),
    Mutant(
        name="cancelled-job-starts",
        mistake="A job cancelled between its announcement and its first step runs.",
        shipped_by="celery#4300",
        path="client/slots.py",
        old="        if held.state != STARTED:  # it was cancelled in the pass in between\n",
        new="        if False:\n",
        breaks="contract 8",
        catchers=(pointed(_SLOTS, "test_job_that_is_settled_between"),),
    ),
    Mutant(
        name="cancel-not-passed-on",
        mistake="The handler of a cancelled job is not stopped.",
        shipped_by="celery#4300, hatchet#1010",
        path="client/worker.py",
        old="            self._stop_started(held, STOP_CANCEL)\n",
        new="            pass\n",
        breaks="contract 8",
        catchers=(SDK_JOBS,),
    ),
    Mutant(
        name="acked-before-it-ran",
        mistake="A job is acked as it is handed to its handler: a crash loses it.",
        shipped_by="Celery's default, sidekiq#1831",
        path="client/running.py",
        old="        handler = held.handler\n        try:\n            if handler.is_plain:",
        new="        handler = held.handler\n        self._settler.ack(held, None)\n"
        "        try:\n            if handler.is_plain:",
        breaks="I1, contract 2",
        catchers=(SIM, SDK_JOBS),
    ),
    Mutant(
        name="handlers-not-announced",
        mistake="The server is not told what has started: a poison job is never charged.",
        shipped_by="sidekiq#4594",
        path="client/worker.py",
        old="        self._link.send(Started([(held.job_id, held.token) for held in jobs]))\n",
        new="        pass\n",
        breaks="I5",
        catchers=(pointed(_SESSION, "test_server_is_told_what_starts"),),
    ),
    Mutant(
        name="timeout-not-enforced",
        mistake="A handler runs for as long as it likes.",
        shipped_by="Hangfire#1197",
        path="client/slots.py",
        old="        if held.group.timeout_ms:\n",
        new="        if False:\n",
        breaks="I11",
        catchers=(
            SDK_JOBS,
            pointed(_SLOTS, "test_deadline_stops_the_handler"),
        ),
    ),
)

LIVING = (
    Mutant(
        name="heartbeat-waits-for-the-loop",
        mistake="A worker whose loop is blocked sends no heartbeat, and loses its jobs.",
        shipped_by="bull#412, bull#1982, bullmq#439",
        path="client/heartbeat.py",
        old="        vitals = self._vitals()\n        command = Heartbeat(",
        new="        vitals = self._vitals()\n        if vitals.loop_lag_ms > 100:\n"
        "            return\n        command = Heartbeat(",
        breaks="contract 3",
        catchers=(SIM, SDK_EXECUTORS),
    ),
    Mutant(
        name="heartbeat-ends-with-its-connection",
        mistake="A heartbeat whose link has failed is not begun again: the session expires.",
        shipped_by="celery#8030",
        path="client/heartbeat.py",
        old="        while True:\n            await self._beat_over_one_link()\n",
        new="        await self._beat_over_one_link()\n",
        breaks="contract 3",
        catchers=(pointed("unit/client/test_heartbeat.py", "test_"),),
    ),
    Mutant(
        name="unstarted-jobs-not-returned",
        mistake="A worker that stops keeps what it has not started until its last handler ends.",
        shipped_by="dramatiq#850",
        path="client/worker.py",
        old="        for held in self._slots.drain():\n            self._settler.release(held)\n",
        new="        self._slots.drain()\n",
        breaks="I7, contract 4",
        catchers=(pointed(_SESSION, "test_stopping_worker_gives_back"),),
    ),
    Mutant(
        name="stop-drops-the-last-acks",
        mistake="A worker that stops does not wait for the answers to its last acks.",
        path="client/worker.py",
        old="                    await self._settler.settled()\n",
        new="                    pass\n",
        breaks="contract 2",
        catchers=(
            pointed(_SESSION, "test_stopping_worker_waits"),
            SDK_JOBS,
        ),
    ),
    Mutant(
        name="prefetched-jobs-kept",
        mistake="A busy worker keeps unstarted jobs that the server asks back for an idle one.",
        shipped_by="dramatiq#850, celery's prefetch",
        path="client/worker.py",
        old="        for held in named:\n            self._settler.release(held)\n",
        new="",
        breaks="I7, contract 4",
        catchers=(SDK_JOBS,),
    ),
)

MUTANTS = CALLS + HOLDING + LIVING
