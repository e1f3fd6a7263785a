"""One job as a person reads it, and why it does not run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from headrace.cli.output import print_facts, print_line, print_table
from headrace.cli.times import ago, now_ms, roughly, stamp
from headrace.cli.wire_names import JSON_MEDIA_TYPE, state_word
from headrace.model.durations import format_duration, format_size
from headrace.model.ids import id_to_text
from headrace.model.job import BACKOFF_WORDS, JobError, RetryPolicy
from headrace.model.replies import Explanation, JobView

SHOWN_CHARACTERS = 2_000
"""Of a payload, result or traceback, unless all of it is asked for."""


def show(view: JobView, *, full: bool) -> None:
    now = now_ms()
    print_facts(
        [
            ("job", id_to_text(view.job_id)),
            ("state", state_word(view)),
            ("reason", view.reason),
            ("cancel", "requested, its worker was told" if view.cancel_requested else ""),
            ("queue", view.queue),
            ("kind", view.kind),
            ("priority", view.priority),
            ("attempt", f"{view.attempt} of {view.attempt_max}"),
            ("retry", _policy(view.retry)),
            ("worker", view.worker),
            *_times(view, now),
            ("timeout", format_duration(view.timeout_ms) if view.timeout_ms else ""),
            ("key", view.key),
            ("tags", ", ".join(view.tags)),
            ("headers", _pairs(view.headers)),
            ("snoozed", f"{view.snooze_count} times" if view.snooze_count else ""),
            ("workers lost", view.crash_count or ""),
            ("progress", _body(view.progress, JSON_MEDIA_TYPE, full)),
            ("payload", _body(view.payload, view.media_type, full)),
            ("result", _body(view.result, JSON_MEDIA_TYPE, full)),
        ]
    )
    _show_errors(view.errors, view.errors_dropped, full)
    _show_history(view)
    if view.log_lines:
        print_line("\nlog")
        for line in view.log_lines:
            print_line(f"  {line}")


def show_explanation(explanation: Explanation) -> None:
    print_line(explanation.summary)
    for reason in explanation.reasons:
        if reason.sentence != explanation.summary:
            print_line(f"- {reason.sentence}")
        if reason.remedy:
            print_line(f"  {reason.remedy.replace('ID', id_to_text(explanation.job_id))}")


def _times(view: JobView, now: int) -> Iterable[tuple[str, str]]:
    for name, at_ms in (
        ("enqueued", view.enqueued_at_ms),
        ("due", view.run_at_ms),
        ("start by", view.start_by_ms),
        ("leased", view.leased_at_ms),
        ("ended", view.ended_at_ms),
    ):
        yield name, f"{stamp(at_ms)} ({ago(at_ms, now)})" if at_ms else ""
    if view.leased_at_ms and view.ended_at_ms:
        yield "ran", roughly(view.ended_at_ms - view.leased_at_ms)


def _policy(policy: RetryPolicy | None) -> str:
    if policy is None:
        return ""
    delays = ", ".join(format_duration(delay_ms) for delay_ms in policy.delays_ms)
    base = delays or f"from {format_duration(policy.base_ms)} to {format_duration(policy.cap_ms)}"
    return f"{BACKOFF_WORDS[policy.backoff]}, {base}"


def _pairs(headers: dict[str, str] | None) -> str:
    return "\n".join(f"{name}: {value}" for name, value in (headers or {}).items())


def _body(content: bytes | None, media_type: str, full: bool) -> str:
    if content is None:
        return ""
    if media_type != JSON_MEDIA_TYPE:
        return f"{format_size(len(content))} of {media_type}"
    try:
        text = msgspec.json.format(content, indent=2).decode()
    except (msgspec.DecodeError, UnicodeDecodeError):
        return f"{format_size(len(content))} that are no JSON"
    return text if full else _cut(text)


def _cut(text: str) -> str:
    if len(text) <= SHOWN_CHARACTERS:
        return text
    return f"{text[:SHOWN_CHARACTERS]}\n… {len(text) - SHOWN_CHARACTERS:,} more characters (--full)"


def _show_errors(errors: Sequence[JobError], dropped: int, full: bool) -> None:
    if not errors:
        return
    print_line("\nerrors" + (f" ({dropped} in between were dropped)" if dropped else ""))
    for error in errors:
        what = f"{error.type}: {error.message}" if error.message else error.type
        print_line(f"  attempt {error.attempt}, {stamp(error.at_ms)}: {what}")
    last = errors[-1].traceback
    if last:
        text = last if full else _cut(last)
        print_line("\n" + "\n".join(f"  {line}" for line in text.splitlines()))


def _show_history(view: JobView) -> None:
    if not view.history:
        return
    print_line("\nhistory")
    print_table(
        ("when", "what", "attempt"),
        [(stamp(entry.at_ms), entry.event, entry.attempt or "") for entry in view.history],
        "",
    )
