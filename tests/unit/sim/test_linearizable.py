"""Jobs as clients see them: stories that can be, and stories that no order of calls explains."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.model.commands import (
    Ack,
    Cancel,
    Claim,
    Command,
    Delete,
    Enqueue,
    Failure,
    GetJob,
    Nack,
    NewJob,
    OpenSession,
    Release,
    Return,
    Revive,
)
from headrace.model.errors import HeadraceError, OutcomeUnknown, UnknownJob, WrongState
from headrace.model.job import JobError, JobSpec, State
from headrace.model.replies import (
    Changed,
    Claimed,
    Done,
    Enqueued,
    JobReply,
    JobView,
    Problem,
    PushedGroup,
    PushedJob,
    Reply,
    Settled,
)
from headrace.sim.checkers.base import Life
from headrace.sim.checkers.job_model import NOTHING
from headrace.sim.checkers.linearizable import Linearizable, operations_of
from headrace.sim.final import Final
from headrace.sim.history import NEVER, Call, History, PushedLease
from headrace.sim.linearizability import linearize
from tests.unit.sim.test_linearizability import by_brute_force

JOB = bytes(15) + b"\1"


class Seen:
    """What clients saw of one job, call by call; times are small numbers."""

    def __init__(self) -> None:
        self.history = History()
        self.now = 0

    def call(self, command: Command, answer: Reply | HeadraceError | None) -> Call:
        """One after another; a test moves times when calls shall overlap."""
        self.now += 2
        call = self.history.call("client 1", command, self.now)
        if isinstance(answer, Reply):
            call.reply, call.returned_ns = answer, self.now + 1
        elif answer is not None:
            call.error, call.returned_ns = answer, self.now + 1
        return call

    def enqueue(self, answer: Reply | HeadraceError | None = None) -> Call:
        jobs = [NewJob(JOB, 0, b"{}")]
        return self.call(Enqueue([JobSpec("mail", "send")], jobs), answer or Enqueued())

    def claim(self, token: int) -> Call:
        group = PushedGroup(token, "mail", "send", "", 0, 8, [PushedJob(JOB, 1, b"{}")])
        return self.call(Claim(("mail",), ("send",)), Claimed(groups=[group]))

    def ack(self, token: int, code: str = "", answer: HeadraceError | None = None) -> Call:
        return self.call(Ack([(JOB, token, None)]), answer or settled(code))

    def nack(self, token: int, code: str = "") -> Call:
        return self.call(Nack([Failure(JOB, token, JobError("E"))]), settled(code))

    def release(self, token: int, code: str = "") -> Call:
        return self.call(Release([Return(JOB, token)]), settled(code))

    def get(self, state: State, token: int = 0) -> Call:
        view = JobView(JOB, "mail", "send", state, 100, 0, 8, 0, token=token)
        return self.call(GetJob(JOB), JobReply(job=view))

    def get_nothing(self) -> Call:
        return self.call(GetJob(JOB), UnknownJob())

    def cancel(self) -> Call:
        return self.call(Cancel(JOB), Changed(state=State.CANCELLED))

    def revive(self) -> Call:
        return self.call(Revive(JOB), Changed(state=State.READY))

    def delete(self, answer: Reply | HeadraceError | None = None) -> Call:
        return self.call(Delete(JOB), answer or Done())

    def push(self, token: int) -> None:
        self.now += 2
        self.history.events.append(PushedLease(self.now, "worker 1", JOB, token))

    def complaint(self) -> str:
        found = Linearizable().check(self.history, Final())
        return "" if not found else str(found[0]).partition("explains: ")[2]


def settled(code: str) -> Settled:
    return Settled(problems=[Problem(0, code, "")] if code else None)


def test_a_job_that_is_claimed_retried_and_succeeds_is_explained() -> None:
    seen = Seen()
    seen.enqueue()
    seen.claim(5)
    seen.nack(5)
    seen.get(State.SCHEDULED, 5)
    seen.push(9)
    seen.ack(5, "stale_lease")
    seen.ack(9)
    seen.ack(9)
    seen.get(State.SUCCEEDED, 9)

    assert seen.complaint() == ""


def test_a_lost_job_is_not() -> None:
    seen = Seen()
    seen.enqueue()
    seen.get_nothing()

    assert seen.complaint() == "get: unknown"


def test_a_job_may_be_forgotten_once_it_has_ended_and_not_before() -> None:
    seen = Seen()
    seen.enqueue()
    seen.cancel()
    seen.get_nothing()

    assert seen.complaint() == ""


def test_a_stale_read_is_not() -> None:
    seen = Seen()
    seen.enqueue()
    seen.claim(5)
    seen.ack(5)
    seen.get(State.LEASED, 5)

    assert seen.complaint() == "get: leased under lease 5"


def test_a_lost_ack_is_not() -> None:
    seen = Seen()
    seen.enqueue()
    seen.claim(5)
    seen.ack(5)
    seen.claim(9)

    assert seen.complaint() == "claim of lease 9"


def test_a_resurrected_job_is_not_unless_somebody_revived_it() -> None:
    seen, revived = Seen(), Seen()
    for one in (seen, revived):
        one.enqueue()
        one.cancel()
    revived.revive()
    for one in (seen, revived):
        one.get(State.READY)

    assert seen.complaint() == "get: ready under lease 0"
    assert revived.complaint() == ""


def test_only_who_serves_a_job_may_hold_it_unseen() -> None:
    """A job that is leased to nobody's knowledge can die; this one cannot."""
    elsewhere, here = Seen(), Seen()
    for one, queue in ((elsewhere, "video"), (here, "mail")):
        one.call(OpenSession(bytes(16), "w", "h", 1, "", ("send",), (queue,), 1), None)
        one.enqueue()
        one.get(State.DEAD)

    assert elsewhere.complaint() == "get: dead under lease 0"
    assert here.complaint() == ""


def test_who_claims_a_job_without_an_answer_may_hold_it_unseen() -> None:
    elsewhere, here = Seen(), Seen()
    for one, kind in ((elsewhere, "cut"), (here, "send")):
        one.enqueue()
        one.call(Claim(("mail",), (kind,)), OutcomeUnknown())
        one.get(State.DEAD)

    assert elsewhere.complaint() == "get: dead under lease 0"
    assert here.complaint() == ""


def test_the_verdict_does_not_hang_on_what_was_looked_at_before() -> None:
    seen = Seen()
    seen.enqueue()
    seen.get(State.DEAD)
    life = Life(seen.history, Final())
    assert life.asked.calls(OpenSession) == []

    assert [one.checker for one in Linearizable().judge(life)] == ["Linearizable"]


def test_a_token_granted_twice_or_out_of_order_is_not() -> None:
    twice, back = Seen(), Seen()
    for one, token in ((twice, 5), (back, 4)):
        one.enqueue()
        one.claim(5)
        one.claim(token)

    assert twice.complaint() == "claim of lease 5"
    assert back.complaint() == "claim of lease 4"


def test_an_ack_of_a_lease_that_had_been_superseded_is_not() -> None:
    seen = Seen()
    seen.enqueue()
    seen.claim(5)
    seen.claim(9)
    seen.ack(5)

    assert seen.complaint() == "ack of lease 5"


def test_the_refusal_of_a_lease_that_won_is_not() -> None:
    seen = Seen()
    seen.enqueue()
    seen.claim(5)
    seen.ack(5)
    seen.ack(5, "stale_lease")

    assert seen.complaint() == "refused ack of lease 5"


def test_a_lease_may_end_by_itself_at_any_time() -> None:
    seen = Seen()
    seen.enqueue()
    seen.claim(5)
    seen.get(State.READY, 5)
    seen.release(5, "stale_lease")

    assert seen.complaint() == ""


def test_a_nack_of_a_lease_that_was_released_is_not_taken() -> None:
    seen = Seen()
    seen.enqueue()
    seen.claim(5)
    seen.release(5)
    seen.nack(5)

    assert seen.complaint() == "nack of lease 5"


def test_a_repeated_nack_and_a_release_that_met_its_own_effect_are_explained() -> None:
    seen = Seen()
    seen.enqueue()
    seen.claim(5)
    seen.nack(5)
    seen.nack(5)
    seen.claim(9)
    seen.release(9, "stale_lease")

    assert seen.complaint() == ""


def test_a_deleted_job_is_gone_and_a_leased_one_is_not_deleted() -> None:
    gone, waiting = Seen(), Seen()
    for one in (gone, waiting):
        one.enqueue()
    gone.delete()
    gone.get(State.READY)
    waiting.delete(WrongState())

    assert gone.complaint() == "get: ready under lease 0"
    assert waiting.complaint() == "delete refused as wrong_state"

    waiting.call(Claim(("mail",), ("send",)), OutcomeUnknown())
    waiting.history.calls[-1].called_ns = 0

    assert waiting.complaint() == ""  # somebody may have held it, and lost it again


def test_calls_without_an_answer_may_have_happened_or_not() -> None:
    seen = Seen()
    lost = seen.enqueue(OutcomeUnknown())
    seen.get_nothing()
    seen.get(State.READY)
    seen.claim(5)
    seen.ack(5, answer=OutcomeUnknown())
    seen.get(State.LEASED, 5)
    seen.get(State.SUCCEEDED, 5)

    assert seen.complaint() == ""

    lost.error, lost.reply = None, Enqueued()

    assert seen.complaint() != ""


def test_an_open_ack_happens_once_and_only_of_a_live_lease() -> None:
    seen = Seen()
    seen.enqueue()
    seen.claim(5)
    call = seen.ack(5)
    call.reply, call.returned_ns = None, NEVER
    seen.claim(9)
    seen.get(State.SUCCEEDED, 5)

    assert seen.complaint() == "get: succeeded under lease 5"


def test_a_refused_enqueue_makes_nothing() -> None:
    seen = Seen()
    seen.enqueue(Enqueued(problems=[Problem(0, "payload_too_large", "")]))
    seen.get(State.READY)

    assert seen.complaint() == "get: ready under lease 0"


def test_calls_that_overlap_may_be_taken_in_any_order() -> None:
    seen = Seen()
    seen.enqueue()
    seen.claim(5)
    ack = seen.ack(5)
    read = seen.get(State.LEASED, 5)
    ack.returned_ns = read.returned_ns + 1

    assert seen.complaint() == ""


def test_a_view_shows_a_lease_that_nobody_had_seen() -> None:
    seen = Seen()
    seen.enqueue()
    seen.call(Claim(("mail",), ("send",)), OutcomeUnknown())
    seen.get(State.LEASED, 5)
    seen.get(State.READY, 5)

    assert seen.complaint() == ""

    seen.claim(5)

    assert seen.complaint() == "claim of lease 5"


def test_a_lease_that_nobody_can_have_been_granted_is_not_explained() -> None:
    seen = Seen()
    seen.enqueue()
    seen.get(State.LEASED, 5)

    assert seen.complaint() == "get: leased under lease 5"


# --- against brute force: a job that obeys the rules is always explained


class Reference:
    """One job, as simple as can be, whose calls happen at once."""

    def __init__(self, seen: Seen) -> None:
        self.seen = seen
        self.state, self.token, self.next_token = "absent", 0, 1

    def act(self, verb: str, lost: bool) -> None:
        call: Call = getattr(self, verb)()
        if lost:
            call.reply, call.error, call.returned_ns = None, OutcomeUnknown(), NEVER

    def enqueue(self) -> Call:
        if self.state == "absent":
            self.state = "waiting"
            return self.seen.enqueue()
        return self.get()

    def claim(self) -> Call:
        if self.state != "waiting":
            return self.get()
        self.state, self.token = "leased", self.next_token
        self.next_token += 1
        return self.seen.claim(self.token)

    def ack(self) -> Call:
        if self.state == "leased":
            self.state = "succeeded"
        won = self.state == "succeeded" and self.token
        return self.seen.ack(self.token or 99, "" if won else "stale_lease")

    def release(self) -> Call:
        if self.state != "leased":
            return self.seen.release(self.token or 99, "stale_lease")
        self.state = "waiting"
        return self.seen.release(self.token)

    def expire(self) -> Call:
        if self.state == "leased":
            self.state = "waiting"
        return self.get()

    def cancel(self) -> Call:
        if self.state not in ("waiting", "cancelled"):
            return self.get()
        self.state = "cancelled"
        return self.seen.cancel()

    def revive(self) -> Call:
        if self.state not in ("cancelled", "succeeded"):
            return self.get()
        self.state = "waiting"
        return self.seen.revive()

    def get(self) -> Call:
        if self.state == "absent":
            return self.seen.get_nothing()
        state = {"waiting": State.READY}.get(self.state) or State.of_word(self.state)
        return self.seen.get(state, self.token)


VERBS = ("enqueue", "claim", "ack", "release", "expire", "cancel", "revive", "get")


@settings(max_examples=200)
@given(
    acts=st.lists(st.tuples(st.sampled_from(VERBS), st.integers(0, 9)), max_size=14),
    stretch=st.lists(st.integers(0, 5), min_size=15, max_size=15),
)
def test_a_job_that_obeys_the_rules_is_always_explained(
    acts: list[tuple[str, int]], stretch: list[int]
) -> None:
    seen = Seen()
    job = Reference(seen)
    for verb, dice in acts:
        job.act(verb, lost=dice == 0 and verb != "claim")
    for call, longer in zip(seen.history.calls, stretch, strict=False):
        if call.returned_ns != NEVER:
            call.returned_ns += longer

    assert seen.complaint() == ""


ANSWERS = (
    lambda seen: seen.enqueue(),
    lambda seen: seen.claim(5),
    lambda seen: seen.claim(9),
    lambda seen: seen.ack(5),
    lambda seen: seen.ack(5, "stale_lease"),
    lambda seen: seen.ack(9),
    lambda seen: seen.nack(5),
    lambda seen: seen.release(5),
    lambda seen: seen.get(State.READY, 0),
    lambda seen: seen.get(State.READY, 5),
    lambda seen: seen.get(State.LEASED, 5),
    lambda seen: seen.get(State.SUCCEEDED, 5),
    lambda seen: seen.get_nothing(),
    lambda seen: seen.cancel(),
    lambda seen: seen.revive(),
    lambda seen: seen.delete(),
)
"""Any of them may come at any time: most of such histories are wrong."""


@settings(max_examples=150)
@given(
    answers=st.lists(st.integers(0, len(ANSWERS) - 1), min_size=1, max_size=5),
    stretch=st.lists(st.integers(0, 6), min_size=5, max_size=5),
    lost=st.integers(0, 9),
)
def test_search_and_brute_force_agree_on_jobs(
    answers: list[int], stretch: list[int], lost: int
) -> None:
    seen = Seen()
    for number in answers:
        ANSWERS[number](seen)
    for number, (call, longer) in enumerate(zip(seen.history.calls, stretch, strict=False)):
        if number == lost:
            call.reply, call.error, call.returned_ns = None, OutcomeUnknown(), NEVER
        elif call.error is None or not isinstance(call.error, OutcomeUnknown):
            call.returned_ns += longer
    operations = dict(operations_of(Life(seen.history, Final()))).get(JOB, [])
    if len(operations) > 6:
        return  # too many orders for the slow way

    found = linearize(operations, frozenset([NOTHING])).verdict

    assert found is by_brute_force(operations, frozenset([NOTHING]))
