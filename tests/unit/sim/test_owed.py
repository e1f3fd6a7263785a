"""Effects: what a commit owes to a connection, and an answer that proves that it never came."""

from __future__ import annotations

import pytest

from headrace.model.commands import Flush, OpenSession, ResumeSession, WaitJob, Watch
from headrace.model.job import State
from headrace.model.records import SessionClosed
from headrace.model.replies import Done, JobReply, Problem, Settled
from headrace.sim.history import NEVER, Connected, PushedLease, ToldEnd
from tests.unit.sim.telling import BY_CLIENT, Telling, complaints, insert, last_call


class Life(Telling):
    """`client 1` is connected; it serves, watches and waits over that connection."""

    def connect(self) -> None:
        self.history.events.append(Connected(self.tick(), BY_CLIENT))

    def prove(self) -> None:
        """A later call that was answered."""
        call = self.history.call(BY_CLIENT, Flush(), self.tick())
        call.reply, call.returned_ns = Done(index=self.engine.last_index), self.tick()

    def watch(self, job_id: bytes) -> None:
        call = self.history.call(BY_CLIENT, Watch([job_id]), self.tick())
        call.reply = Settled(index=self.engine.last_index)
        call.returned_ns = self.tick()

    def tell(self, job_id: bytes) -> None:
        self.history.events.append(ToldEnd(self.tick(), BY_CLIENT, job_id, State.SUCCEEDED))

    def found(self) -> list[str]:
        return complaints("EffectsArrive", self)


def serving(*, pushed: bool) -> Life:
    """A job was claimed for the session of `client 1`."""
    story = Life()
    story.connect()
    story.open_session()
    story.enqueue(1)
    story.dispatch()
    for place, event in enumerate(story.history.events):
        if isinstance(event, PushedLease):
            story.history.events[place] = PushedLease(
                event.at_ns, BY_CLIENT, event.job_id, event.token
            )
    if not pushed:
        story.history.events = [
            event for event in story.history.events if not isinstance(event, PushedLease)
        ]
    return story


def test_a_push_that_came_before_a_later_answer_is_well() -> None:
    story = serving(pushed=True)
    story.prove()

    assert story.found() == []


def test_a_push_that_never_came_is_seen_once_something_later_is_answered() -> None:
    story = serving(pushed=False)

    assert story.found() == []

    story.prove()

    assert "was not pushed to client 1 in its turn" in story.found()[0]


@pytest.mark.parametrize("why", ["connected anew", "resumed", "closed"])
def test_a_push_may_be_lost_with_its_connection_or_its_session(why: str) -> None:
    story = serving(pushed=False)
    session_id = last_call(story, OpenSession).command.session_id  # type: ignore[attr-defined]
    if why == "connected anew":
        story.connect()
    elif why == "closed":
        insert(story, SessionClosed(session_id))
    else:
        story.history.call(BY_CLIENT, ResumeSession(session_id, []), story.tick())
    story.prove()

    assert story.found() == []


def test_nothing_is_judged_of_who_does_not_say_when_it_connected() -> None:
    story = serving(pushed=False)
    story.history.events = [
        event for event in story.history.events if not isinstance(event, Connected)
    ]
    story.prove()

    assert story.found() == []


def watching(*, told: bool) -> tuple[Life, bytes]:
    story = Life()
    story.connect()
    [job_id] = story.enqueue(1)
    story.watch(job_id)
    story.ack(story.claim_one())
    if told:
        story.tell(job_id)
    return story, job_id


def test_a_watcher_who_is_told_is_well_and_one_who_is_not_is_seen() -> None:
    story, _ = watching(told=True)
    story.prove()

    assert story.found() == []

    story, _ = watching(told=False)
    story.prove()

    assert "client 1 watched it, and was not told its end" in story.found()[0]


def test_a_watch_of_a_job_that_had_ended_is_told_too() -> None:
    story, job_id = watching(told=True)
    story.watch(job_id)
    story.prove()

    assert "was not told its end" in story.found()[0]

    story.tell(job_id)

    assert story.found() == []


def test_a_watch_ends_with_its_connection_and_never_began_for_unknown_jobs() -> None:
    story, _ = watching(told=False)
    story.connect()
    story.prove()

    assert story.found() == []

    story, _ = watching(told=False)
    last_call(story, Watch).reply.problems = [Problem(0, "unknown_job", "")]  # type: ignore[union-attr]
    story.prove()

    assert story.found() == []


def waiting(*, answered: bool) -> Life:
    story = Life()
    story.connect()
    [job_id] = story.enqueue(1)
    call = story.history.call(BY_CLIENT, WaitJob(job_id, 60_000), story.tick())
    story.ack(story.claim_one())
    if answered:
        view = story.engine.job_view(job_id)
        call.reply = JobReply(job=view, index=story.engine.last_index)
        call.returned_ns = story.tick()
    return story


def test_a_wait_that_ends_with_its_job_is_well_and_one_that_goes_on_is_seen() -> None:
    story = waiting(answered=True)
    story.prove()

    assert story.found() == []

    story = waiting(answered=False)
    story.prove()

    assert "waited for it, and was not told its end" in story.found()[0]


def test_a_wait_that_is_answered_after_something_later_is_seen() -> None:
    story = waiting(answered=True)
    story.prove()
    last_call(story, WaitJob).returned_ns = story.tick()

    assert "waited for it" in story.found()[0]


def test_a_wait_over_a_connection_that_ended_is_asked_again() -> None:
    story = waiting(answered=False)
    story.connect()
    story.prove()

    assert last_call(story, WaitJob).returned_ns == NEVER
    assert story.found() == []
