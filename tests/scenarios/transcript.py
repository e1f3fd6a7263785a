"""Transcripts: what somebody does to an engine, and what it says and writes down.

A transcript is a text file. A line that begins with `> ` is a step; the lines below it, up
to the next empty line, are its outcome: what the engine answered, then each record with
its index. Jobs and sessions have names instead of ids. `python -m
tests.scenarios.transcript --rewrite` writes the outcomes anew: then read the diff.

Steps (times in ms; `JOB@TOKEN` names an older lease than the last one):

    enqueue JOB... [queue=] [kind=] [priority=] [delay=] [key=] [start_by=] [attempts=]
    claim [COUNT] [queue=] [kind=]
    ack | nack | release | expire | extend JOB... [delay=] [started=yes] [retry=no] [reason=]
    started JOB...   cancel | delete | revive JOB   reschedule JOB [delay=]   priority JOB N
    session NAME [credit=] [queues=a,b] [kinds=] [strict=yes]   dispatch   close NAME
    pause | resume QUEUE   keep QUEUE COUNT   wait MS   show JOB   explain JOB
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from headrace.codec.records import decode_records
from headrace.model import commands as c
from headrace.model.effects import JobEnded
from headrace.model.errors import ClientError
from headrace.model.job import BACKOFF_FIXED, JobError, JobExtra, JobSpec, RetryPolicy, State
from headrace.model.limits import PRIORITY_DEFAULT
from headrace.model.queue import QueueSettings
from headrace.model.replies import (
    Changed,
    Claimed,
    Enqueued,
    Explanation,
    JobReply,
    PushedGroup,
    Settled,
)
from tests.unit.engine.story import BEGIN_MS, Lease, Story

FOLDER = Path(__file__).resolve().parent

DULL = {"payload", "name", "host", "pid", "build", "lease_ms", "strict", "error"}
"""Fields that are the same in every step, or named in it."""


class Transcript:
    """One story, told by steps."""

    def __init__(self) -> None:
        self.story = Story()
        self.ids: dict[str, bytes] = {}
        self.tokens: dict[str, int] = {}
        self.out: list[str] = []

    def step(self, line: str) -> list[str]:
        """What the step brought about, line by line."""
        self.out = []
        words = line.split()
        options = dict(word.split("=", 1) for word in words if "=" in word)
        names = [word for word in words[1:] if "=" not in word]
        seen, effects = self.story.engine.last_index, len(self.story.effects)
        try:
            VERBS[words[0]](self, names, options)
        except ClientError as error:
            self.out.append(f"refused: {error.code}")
        self.out += self.records_after(seen)
        for effect in self.story.effects[effects:]:
            if not isinstance(effect, JobEnded):
                self.out.append(f"then {self.text(effect)}")
        return self.out

    # --- names for ids, and back

    def id_of(self, name: str) -> bytes:
        return self.ids.setdefault(name, (len(self.ids) + 1).to_bytes(16, "big"))

    def name_of(self, value: bytes) -> str:
        names = {job_id: name for name, job_id in self.ids.items()}
        return names.get(value) or (value.decode("utf-8", "replace") if value else "-")

    def lease_of(self, name: str) -> Lease:
        job, _, token = name.partition("@")
        return self.id_of(job), int(token) if token else self.tokens.get(job, 0)

    def records_after(self, index: int) -> Iterator[str]:
        for position, body in enumerate(self.story.committed[index:], start=index + 1):
            [record] = decode_records(body, 1)
            yield f"{position} {self.text(record)}"

    def text(self, value: Any, *, nested: bool = False) -> str:
        """A value in words: no defaults, nothing that no transcript is about, times since
        the beginning."""
        if isinstance(value, bytes):
            return self.name_of(value)
        if isinstance(value, (list, tuple)):
            return "[" + ", ".join(self.text(part, nested=True) for part in value) + "]"
        if isinstance(value, int) and value >= BEGIN_MS:
            return f"+{value - BEGIN_MS}"
        if isinstance(value, PushedGroup):
            return " ".join(f"{self.name_of(job.job_id)}@{value.token}" for job in value.jobs)
        if not isinstance(value, msgspec.Struct):
            return str(value)
        words = [] if nested else [type(value).__name__]
        for field in msgspec.structs.fields(type(value)):
            part = getattr(value, field.name)
            if field.name in DULL or part in (field.default, [], b"", None, PRIORITY_DEFAULT):
                continue
            shown = self.text(part, nested=True)
            words.append(shown if field.name == "job_id" else f"{field.name}={shown}")
        return " ".join(words)

    # --- steps

    def enqueue(self, names: list[str], options: dict[str, str]) -> None:
        retry = None
        if "attempts" in options:
            retry = RetryPolicy(int(options["attempts"]), BACKOFF_FIXED, 1_000, jitter=False)
        spec = JobSpec(options.get("queue", "mail"), options.get("kind", "send"), retry=retry)
        extra = None
        if "key" in options or "start_by" in options:
            start_by_ms = self.story.now_ms + int(options.get("start_by", -self.story.now_ms))
            extra = JobExtra(options.get("key", ""), start_by_ms=start_by_ms)
        jobs = [
            c.NewJob(
                self.id_of(name),
                0,
                options.get("payload", "{}").encode(),
                int(options.get("priority", 100)),
                0,
                int(options.get("delay", 0)),
                extra,
            )
            for name in names
        ]
        reply = self.story.run(c.Enqueue([spec], jobs))
        assert isinstance(reply, Enqueued)
        for one in reply.existing or ():
            state = State(one.state).word if one.state else "known no more"
            self.out.append(f"exists: {self.name_of(one.job_id)} ({state})")
        self.out += [f"refused: {names[p.position]} {p.code}" for p in reply.problems or ()]

    def claim(self, names: list[str], options: dict[str, str]) -> None:
        queues = (options.get("queue", "mail"),)
        kinds = (options.get("kind", "send"),)
        reply = self.story.run(c.Claim(queues, kinds, int(names[0]) if names else 1))
        assert isinstance(reply, Claimed)
        for group in reply.groups:
            for job in group.jobs:
                self.out.append(f"{self.name_of(job.job_id)}@{group.token} attempt {job.attempt}")
        self.note_tokens()
        if not reply.groups:
            self.out.append("nothing")

    def note_tokens(self) -> None:
        for lease in self.story.engine.all_leases():
            self.tokens[self.name_of(lease.job_id)] = lease.token

    def settled(self, names: list[str], command: c.Command) -> None:
        reply = self.story.run(command)
        assert isinstance(reply, Settled)
        self.out += [f"refused: {names[p.position]} {p.code}" for p in reply.problems or ()]

    def ack(self, names: list[str], options: dict[str, str]) -> None:
        self.settled(names, c.Ack([(*self.lease_of(name), b"result") for name in names]))

    def nack(self, names: list[str], options: dict[str, str]) -> None:
        retryable = options.get("retry") != "no"
        delay_ms = int(options.get("delay", -1))
        failures = [
            c.Failure(*self.lease_of(name), JobError("Error"), retryable, delay_ms)
            for name in names
        ]
        self.settled(names, c.Nack(failures))

    def release(self, names: list[str], options: dict[str, str]) -> None:
        delay_ms, started = int(options.get("delay", 0)), options.get("started") == "yes"
        returns = [c.Return(*self.lease_of(name), delay_ms, started) for name in names]
        self.settled(names, c.Release(returns))

    def extend(self, names: list[str], options: dict[str, str]) -> None:
        self.settled(names, c.Extend([self.lease_of(name) for name in names]))

    def expire(self, names: list[str], options: dict[str, str]) -> None:
        started = options.get("started") == "yes"
        leases = [c.EndedLease(*self.lease_of(name), started) for name in names]
        self.story.run(c.Expire(leases, options.get("reason", "worker_lost")))

    def started(self, names: list[str], options: dict[str, str]) -> None:
        self.story.run(c.MarkStarted([self.lease_of(name) for name in names]))

    def changed(self, command: c.Command) -> None:
        reply = self.story.run(command)
        if isinstance(reply, Changed):
            asked = ", asked to stop" if reply.cancel_requested else ""
            self.out.append(State(reply.state).word + asked)

    def cancel(self, names: list[str], options: dict[str, str]) -> None:
        self.changed(c.Cancel(self.id_of(names[0]), "not wanted"))

    def delete(self, names: list[str], options: dict[str, str]) -> None:
        self.changed(c.Delete(self.id_of(names[0])))

    def revive(self, names: list[str], options: dict[str, str]) -> None:
        self.changed(c.Revive(self.id_of(names[0])))

    def reschedule(self, names: list[str], options: dict[str, str]) -> None:
        self.changed(c.Reschedule(self.id_of(names[0]), 0, int(options.get("delay", 0))))

    def priority(self, names: list[str], options: dict[str, str]) -> None:
        self.changed(c.ChangePriority(self.id_of(names[0]), int(names[1])))

    def session(self, names: list[str], options: dict[str, str]) -> None:
        self.story.run(
            c.OpenSession(
                self.id_of(names[0]),
                names[0],
                "host",
                1,
                "b1",
                tuple(options.get("kinds", "send").split(",")),
                tuple(options.get("queues", "mail").split(",")),
                int(options.get("credit", 10)),
                options.get("strict") == "yes",
            )
        )

    def dispatch(self, names: list[str], options: dict[str, str]) -> None:
        self.story.dispatch()
        self.note_tokens()

    def close(self, names: list[str], options: dict[str, str]) -> None:
        self.story.run(c.CloseSession(self.id_of(names[0]), "bye"))

    def pause(self, names: list[str], options: dict[str, str]) -> None:
        self.story.run(c.PauseQueue(names[0]))

    def resume(self, names: list[str], options: dict[str, str]) -> None:
        self.story.run(c.ResumeQueue(names[0]))

    def keep(self, names: list[str], options: dict[str, str]) -> None:
        count = int(names[1])
        settings = QueueSettings(succeeded_count=count, dead_count=count)
        self.story.run(c.ConfigureQueue(names[0], settings))

    def wait(self, names: list[str], options: dict[str, str]) -> None:
        self.story.wait(int(names[0]))

    def show(self, names: list[str], options: dict[str, str]) -> None:
        reply = self.story.run(c.GetJob(self.id_of(names[0])))
        assert isinstance(reply, JobReply)
        assert reply.job is not None
        reason = f", {reply.job.reason}" if reply.job.reason else ""
        self.out.append(f"{State(reply.job.state).word}, attempt {reply.job.attempt}{reason}")

    def explain(self, names: list[str], options: dict[str, str]) -> None:
        reply = self.story.run(c.ExplainJob(self.id_of(names[0])))
        assert isinstance(reply, Explanation)
        self.out += [f"{reason.code}: {reason.sentence}" for reason in reply.reasons]


Step = Callable[[Transcript, list[str], dict[str, str]], None]

_NOT_STEPS = {"step", "id_of", "name_of", "lease_of", "records_after", "text", "changed"}
VERBS: dict[str, Step] = {
    name: verb
    for name, verb in vars(Transcript).items()
    if callable(verb) and not name.startswith("_") and name not in _NOT_STEPS
}


def told(text: str) -> str:
    """The same transcript with the outcomes that the engine gives today."""
    transcript = Transcript()
    blocks = []
    for block in text.rstrip().split("\n\n"):
        steps = [line for line in block.splitlines() if line.startswith("> ")]
        if not steps:
            blocks.append(block)
            continue
        lines = []
        for step in steps:
            lines += [step, *transcript.step(step[2:])]
        blocks.append("\n".join(lines))
    transcript.story.assert_replays()
    return "\n\n".join(blocks) + "\n"


def main() -> None:
    for path in sorted(FOLDER.glob("*.txt")):
        text = path.read_text(encoding="utf-8")
        if "--rewrite" in sys.argv:
            path.write_text(told(text), encoding="utf-8")
        elif told(text) != text:
            raise SystemExit(f"{path.name} tells another story now; see --rewrite")


if __name__ == "__main__":
    main()
