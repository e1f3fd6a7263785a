"""Every pair of a state and a verb: what the table says is what the engine does."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from headrace.engine import lifecycle
from headrace.engine.lifecycle import TABLE, Allowed, Refused, Verb
from headrace.model.commands import (
    Ack,
    Cancel,
    ChangePriority,
    Claim,
    Command,
    Delete,
    EndedLease,
    Expire,
    Extend,
    Failure,
    LogLines,
    Maintain,
    MarkStarted,
    Nack,
    Progress,
    Release,
    Reschedule,
    Return,
    Revive,
)
from headrace.model.errors import ClientError, InvariantViolated
from headrace.model.job import JobError, JobExtra, State
from headrace.model.replies import Settled
from tests.unit.engine.story import Lease, Story

REACHABLE = [state for state in State if state is not State.BLOCKED]
"""Nothing blocks a job yet; the table has its column because the formats have its number."""


def job_in(story: Story, state: State) -> Lease:
    """A job that is in this state, and the last lease that it had."""
    job_id = story.enqueue_one(extra=JobExtra(start_by_ms=story.now_ms + 60_000))
    lease = story.claim_one()
    if state is State.SCHEDULED:
        story.release(lease, delay_ms=1_000)
    elif state is State.READY:
        story.release(lease)
    elif state is State.SUCCEEDED:
        story.ack(lease)
    elif state is State.DEAD:
        story.nack(lease, retryable=False)
    elif state is State.CANCELLED:
        story.release(lease)
        story.cancel(job_id)
    assert story.state(job_id) is state
    return lease


COMMANDS: dict[Verb, Callable[[Lease], Command]] = {
    Verb.CLAIM: lambda lease: Claim(("mail",), ("send",)),
    Verb.START: lambda lease: MarkStarted([lease]),
    Verb.ACK: lambda lease: Ack([(*lease, b"another result")]),
    Verb.NACK: lambda lease: Nack([Failure(*lease, JobError("E"), delay_ms=50)]),
    Verb.RELEASE: lambda lease: Release([Return(*lease)]),
    Verb.EXTEND: lambda lease: Extend([lease]),
    Verb.PROGRESS: lambda lease: Progress(*lease, b"1"),
    Verb.LOG: lambda lease: LogLines(*lease, ["line"]),
    Verb.EXPIRE: lambda lease: Expire([EndedLease(*lease, True)], "worker_lost"),
    Verb.PROMOTE: lambda lease: Maintain(),
    Verb.START_BY: lambda lease: Maintain(),
    Verb.CANCEL: lambda lease: Cancel(lease[0]),
    Verb.RESCHEDULE: lambda lease: Reschedule(lease[0], 0, 5_000),
    Verb.CHANGE_PRIORITY: lambda lease: ChangePriority(lease[0], 7),
    Verb.REVIVE: lambda lease: Revive(lease[0]),
    Verb.DELETE: lambda lease: Delete(lease[0]),
}

TIME_OF = {Verb.PROMOTE: 1_000, Verb.START_BY: 60_000}
"""What the clock must have moved for the system's own verbs."""

FIRST_ANSWER = {(State.SUCCEEDED, Verb.ACK), (State.DEAD, Verb.NACK)}
"""Refused by the table, but the lease that won gets its answer again."""


def attempt(story: Story, lease: Lease, verb: Verb) -> str:
    """The command runs; the code of its refusal, or ``."""
    story.now_ms += TIME_OF.get(verb, 0)
    try:
        reply = story.run(COMMANDS[verb](lease))
    except ClientError as error:
        return error.code
    if isinstance(reply, Settled) and reply.problems:
        return reply.problems[0].code
    return ""


def state_after(story: Story, job_id: bytes) -> State | None:
    """None: the job is gone."""
    try:
        return story.state(job_id)
    except ClientError:
        return None


@pytest.mark.parametrize("verb", list(Verb), ids=lambda verb: verb.value)
@pytest.mark.parametrize("state", REACHABLE, ids=lambda state: state.word)
def test_every_pair_does_what_the_table_says(state: State, verb: Verb) -> None:
    story = Story()
    lease = job_in(story, state)
    index = story.engine.last_index
    answer = TABLE[state, verb]

    code = attempt(story, lease, verb)

    after = state_after(story, lease[0])
    if answer is Allowed.MOVES:
        assert code == ""
        assert story.engine.last_index > index
        expected = lifecycle_targets(verb)
        assert after is None if not expected else after in expected
    elif answer is Allowed.STAYS:
        assert code == ""
        assert after is state
    else:
        refused = "" if answer is Refused.IGNORED else answer.value
        assert code == ("" if (state, verb) in FIRST_ANSWER else refused)
        if verb not in TIME_OF:
            assert story.engine.last_index == index
            assert after is state
    story.assert_replays()


def lifecycle_targets(verb: Verb) -> set[State]:
    if verb is Verb.START_BY:
        return {State.CANCELLED}
    rule = next(
        rule
        for rule in vars(lifecycle).values()
        if isinstance(rule, lifecycle.Rule) and rule.verb is verb
    )
    return {State(state) for state in rule.targets}


def test_table_has_every_pair() -> None:
    assert set(TABLE) == {(state, verb) for state in State for verb in Verb}


def test_every_verb_that_moves_has_a_rule_and_no_other() -> None:
    moving = {verb for (_, verb), answer in TABLE.items() if answer is Allowed.MOVES}
    rules = {rule.verb for rule in vars(lifecycle).values() if isinstance(rule, lifecycle.Rule)}

    assert rules == moving - {Verb.START_BY}


def test_diagram_names_every_state_that_a_job_can_be_in() -> None:
    assert lifecycle.__doc__ is not None
    words = set(re.findall(r"[a-z_]+", lifecycle.__doc__.split("```")[1]))

    assert {state.word for state in State} <= words


def test_diagram_names_every_verb_that_moves_a_job() -> None:
    assert lifecycle.__doc__ is not None
    diagram = lifecycle.__doc__.split("```")[1].replace("start-by", "start_by")
    moving = {verb for (_, verb), answer in TABLE.items() if answer is Allowed.MOVES}
    shown = {"promote": "run_at comes"}

    missing = [verb.value for verb in moving if shown.get(verb.value, verb.value) not in diagram]
    assert missing == []


def test_record_that_the_table_does_not_grant_stops_the_engine() -> None:
    story = Story()
    job_id = story.enqueue_one()
    job = story.engine.state.jobs.get(job_id)
    assert job is not None

    with pytest.raises(InvariantViolated, match="record ack met job"):
        story.engine.state.move(job, lifecycle.ACK, State.SUCCEEDED)


WORDS = {
    Allowed.MOVES: "moves",
    Allowed.STAYS: "stays",
    Refused.STALE: "`stale_lease`",
    Refused.WRONG: "`wrong_state`",
    Refused.IGNORED: "–",
}


def test_document_shows_the_table_and_the_diagram() -> None:
    text = (Path(__file__).resolve().parents[3] / "spec/lifecycle.md").read_text(encoding="utf-8")
    rows = [
        f"| {verb.value} | " + " | ".join(WORDS[TABLE[state, verb]] for state in State) + " |"
        for verb in Verb
    ]

    assert "\n".join(rows) in text
    assert lifecycle.__doc__ is not None
    assert lifecycle.__doc__.split("```")[1] in text
