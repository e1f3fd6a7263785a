"""Sessions: who is given what, in which turn, and what happens when they go."""

from __future__ import annotations

from headrace.model import limits
from headrace.model.commands import (
    CloseSession,
    ConfigureQueue,
    HeldLease,
    MarkStarted,
    OpenSession,
    PauseQueue,
    ResumeQueue,
    ResumeSession,
    SetCredit,
)
from headrace.model.effects import PushCancel, PushJobs, SessionEnded
from headrace.model.job import State
from headrace.model.queue import QueueSettings
from headrace.model.replies import VERDICT_CANCEL, VERDICT_DROP, VERDICT_KEEP, SessionResumed
from tests.unit.engine.story import PLAIN, Lease, Story


def pushed(pushes: list[PushJobs], session_id: bytes | None = None) -> list[bytes]:
    """Ids in the order in which they were pushed."""
    return [
        job.job_id
        for push in pushes
        if session_id in (None, push.session_id)
        for group in push.groups
        for job in group.jobs
    ]


def leases(pushes: list[PushJobs]) -> list[Lease]:
    return [
        (job.job_id, group.token) for push in pushes for group in push.groups for job in group.jobs
    ]


def test_waiting_session_is_served_in_the_turn_that_feeds_it() -> None:
    story = Story()
    story.open_session()
    story.dispatch()
    story.engine.begin_turn(story.now_ms)
    job_id = story.enqueue_one()

    assert pushed(story.dispatch()) == [job_id]


def test_session_holds_no_more_than_its_credit() -> None:
    story = Story()
    session_id = story.open_session(credit=2)
    story.enqueue(5)

    assert len(pushed(story.dispatch())) == 2
    assert pushed(story.dispatch()) == []

    story.run(SetCredit(session_id, 4))
    assert len(pushed(story.dispatch())) == 2


def test_ended_lease_makes_room_for_the_next_job() -> None:
    story = Story()
    story.open_session(credit=1)
    first, second = story.enqueue(2)
    [lease] = leases(story.dispatch())
    assert lease[0] == first

    story.ack(lease)

    assert pushed(story.dispatch()) == [second]


def test_several_queues_are_served_in_rotation() -> None:
    story = Story()
    story.open_session(queues=("mail", "video", "idle"), credit=1)
    for queue in ("mail", "video"):
        story.enqueue(3, queue=queue)
    order = []
    for _ in range(6):
        [lease] = leases(story.dispatch())
        order.append(story.job(lease[0]).queue)
        story.ack(lease)

    assert order == ["mail", "video"] * 3


def test_large_room_is_shared_between_the_queues() -> None:
    story = Story()
    story.open_session(queues=("mail", "video"), credit=10)
    story.enqueue(100)
    story.enqueue(3, queue="video")

    counts = [story.job(job_id).queue for job_id in pushed(story.dispatch())]

    assert (counts.count("mail"), counts.count("video")) == (7, 3)


def test_strict_session_serves_its_queues_as_listed() -> None:
    story = Story()
    story.open_session(queues=("video", "mail"), credit=3, strict=True)
    low = story.enqueue(2, queue="mail", priority=255)
    high = story.enqueue(2, queue="video", priority=0)

    assert pushed(story.dispatch()) == [*high, low[0]]


def test_hungry_sessions_share_scarce_jobs() -> None:
    story = Story()
    ids = [story.open_session(number, credit=10) for number in (1, 2, 3)]
    story.enqueue(6)

    pushes = story.dispatch()

    assert [len(pushed(pushes, session_id)) for session_id in ids] == [2, 2, 2]


def test_no_job_waits_for_a_session_that_filled_up_elsewhere() -> None:
    """The first session is woken for `mail`, and spends its only place on `video`."""
    story = Story()
    story.open_session(1, queues=("video", "mail"), credit=1, strict=True)
    idle = story.open_session(2, queues=("mail",), credit=1)
    story.dispatch()
    story.engine.begin_turn(story.now_ms)
    in_mail = story.enqueue_one()
    in_video = story.enqueue_one(queue="video")

    pushes = story.dispatch()

    assert sorted(pushed(pushes)) == sorted([in_mail, in_video])
    assert pushed(pushes, idle) == [in_mail]


def test_paused_queue_feeds_nobody_until_it_is_resumed() -> None:
    story = Story()
    story.open_session()
    story.enqueue_one()
    story.run(PauseQueue("mail"))
    assert pushed(story.dispatch()) == []

    story.run(ResumeQueue("mail"))

    assert len(pushed(story.dispatch())) == 1


def test_session_without_connection_is_given_nothing() -> None:
    story = Story()
    session_id = story.open_session()
    story.engine.set_connected(session_id, False)
    story.enqueue_one()
    assert pushed(story.dispatch()) == []

    story.engine.set_connected(session_id, True)

    assert len(pushed(story.dispatch())) == 1


def test_dispatch_is_bounded_and_says_that_there_is_more() -> None:
    story = Story(PLAIN)
    for number in range(1, 9):
        story.open_session(number, credit=limits.SESSION_CREDIT_MAX)
    story.enqueue(10_000)
    story.engine.begin_turn(story.now_ms)

    assert story.engine.dispatch()

    records, effects = story.engine.take_turn()
    assert len(records) <= 17
    jobs = sum(len(pushed([push])) for push in effects if isinstance(push, PushJobs))
    assert limits.CLAIM_JOBS_MAX <= jobs <= 2 * limits.CLAIM_JOBS_MAX


def test_delivered_attempt_counts_the_one_under_way() -> None:
    story = Story()
    story.open_session(credit=1)
    story.enqueue_one()
    [push] = story.dispatch()
    assert push.groups[0].jobs[0].attempt == 1
    story.expire(*leases([push]))

    [again] = story.dispatch()

    assert again.groups[0].jobs[0].attempt == 2


# --- resume and close


def test_resume_keeps_drops_and_cancels_lease_by_lease() -> None:
    story = Story()
    session_id = story.open_session()
    story.enqueue(4)
    kept, cancelled, ended, lost = leases(story.dispatch())
    story.cancel(cancelled[0])
    story.ack(ended)
    held = [HeldLease(*lease) for lease in (kept, cancelled, ended)]

    reply = story.run(ResumeSession(session_id, held, 0))

    assert isinstance(reply, SessionResumed)
    assert reply.verdicts == [VERDICT_KEEP, VERDICT_CANCEL, VERDICT_DROP]
    view = story.job(lost[0])
    assert (view.state, view.attempt) == (State.READY, 0)


def test_resume_gives_back_a_job_that_the_worker_knows_by_an_older_lease() -> None:
    story = Story()
    session_id = story.open_session(credit=1)
    job_id = story.enqueue_one()
    [old] = leases(story.dispatch())
    story.release(old)
    story.dispatch()

    reply = story.run(ResumeSession(session_id, [HeldLease(*old)], 0))

    assert isinstance(reply, SessionResumed)
    assert reply.verdicts == [VERDICT_DROP]
    assert story.state(job_id) is State.READY


def test_resume_may_name_settled_jobs_beside_a_full_credit() -> None:
    story = Story()
    session_id = story.open_session()
    numbers = range(limits.SESSION_CREDIT_MAX + 1)
    held = [HeldLease(number.to_bytes(16, "big"), 1, True) for number in numbers]

    reply = story.run(ResumeSession(session_id, held, limits.SESSION_CREDIT_MAX))

    assert isinstance(reply, SessionResumed)
    assert set(reply.verdicts) == {VERDICT_DROP}


def test_close_returns_what_had_not_started_and_charges_the_rest() -> None:
    story = Story()
    session_id = story.open_session()
    first, second = story.enqueue(2)
    started, _ = leases(story.dispatch())
    story.run(MarkStarted([started]))

    story.run(CloseSession(session_id))

    assert (story.job(first).attempt, story.job(second).attempt) == (1, 0)
    assert SessionEnded(session_id) in story.effects
    assert story.refusal(SetCredit(session_id, 1)) == "unknown_session"
    story.assert_replays()


def test_closed_session_is_interested_in_nothing() -> None:
    story = Story()
    story.run(CloseSession(story.open_session()))
    job_id = story.enqueue_one()

    assert pushed(story.dispatch()) == []
    assert story.state(job_id) is State.READY


def test_cancel_of_a_leased_job_is_told_to_its_session_once() -> None:
    story = Story()
    session_id = story.open_session()
    story.enqueue_one()
    [lease] = leases(story.dispatch())

    story.cancel(lease[0])
    story.cancel(lease[0])

    told = [effect for effect in story.effects if isinstance(effect, PushCancel)]
    assert told == [PushCancel(session_id, [lease])]


def test_session_opened_again_is_the_same_session() -> None:
    story = Story()
    session_id = story.open_session(credit=1)
    story.enqueue_one()
    story.dispatch()

    assert story.open_session(credit=3) == session_id

    assert len(story.engine.leases_of(session_id)) == 1
    assert story.engine.session_ids() == [session_id]


def test_session_that_names_a_kind_twice_is_refused() -> None:
    command = OpenSession(bytes(16), "w", "h", 1, "b", ("a", "a"), ("q",), 1)

    assert Story().refusal(command) == "bad_request"


def test_configured_queue_feeds_those_who_wait_for_it() -> None:
    story = Story()
    story.run(ConfigureQueue("mail", QueueSettings(paused=True)))
    story.open_session()
    story.enqueue_one()
    assert pushed(story.dispatch()) == []

    story.run(ConfigureQueue("mail", QueueSettings()))

    assert len(pushed(story.dispatch())) == 1
