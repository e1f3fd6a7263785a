"""Jobs, queues, dead letters and sessions from the shell, against a running server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from tests.e2e.cli_kit import Program, headrace, serving

UNKNOWN = "0190f3a2-7b1c-7def-8123-456789abcdef"
JOBS = """
from headrace import App
app = App()

@app.job()
async def greet(name: str) -> str:
    return f"hello {name}"

@app.job()
async def fail(times: int = 1) -> None:
    raise ValueError("no \\x1b[31mway")
"""


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A running server with one worker, which serves the queue `default`."""
    directory = tmp_path_factory.mktemp("cli")
    (directory / "cli_jobs.py").write_text(JOBS)
    with serving(directory / "data") as server:
        at = server.lines[0].removeprefix("listening on ")
        with Program("worker", "cli_jobs:app", "--url", at, directory=directory) as worker:
            worker.until("ready")
            yield at


def enqueue(url: str, *arguments: object) -> str:
    ran = headrace("enqueue", *arguments, url=url)
    assert (ran.exit_code, ran.err) == (0, "")
    return ran.out.strip()


# --- enqueue


def test_enqueue_prints_the_id_of_a_durable_job(url: str) -> None:
    job_id = enqueue(url, "later", "--queue", "kept", "--json", '{"a": 1}')
    shown = headrace("job", "show", job_id, "--json", url=url).json
    assert shown["job_id"] == job_id
    assert (shown["queue"], shown["kind"], shown["payload"]) == ("kept", "later", {"a": 1})


def test_enqueue_takes_the_payload_from_standard_input(url: str) -> None:
    ran = headrace("enqueue", "later", "--queue", "kept", "--json", "-", url=url, typed='{"b": 2}')
    shown = headrace("job", "show", ran.out.strip(), "--json", url=url).json
    assert shown["payload"] == {"b": 2}


def test_every_option_of_enqueue_reaches_the_job(url: str) -> None:
    run_at = datetime.now(UTC).replace(microsecond=0) + timedelta(days=1)
    options = {
        "--queue": "kept",
        "--priority": 7,
        "--timeout": "90s",
        "--attempts": 3,
        "--key": "k1",
        "--key-window": "1h",
        "--start-by": (run_at + timedelta(hours=1)).isoformat(),
        "--run-at": run_at.isoformat(),
        "--tag": "blue",
        "--id": "0190f3a2-7b1c-7def-8123-00000000beef",
    }
    given = [word for pair in options.items() for word in pair]
    job_id = enqueue(url, "later", *given, "--tag", "red")
    shown = headrace("job", "show", job_id, "--json", url=url).json

    assert job_id == options["--id"]
    assert shown["state"] == "scheduled"
    assert (shown["priority"], shown["timeout_ms"], shown["attempt_max"]) == (7, 90_000, 3)
    assert (shown["key"], shown["tags"]) == ("k1", ["blue", "red"])
    assert shown["start_by_ms"] - shown["run_at_ms"] == 3_600_000
    assert shown["run_at_ms"] == round(run_at.timestamp() * 1_000)


def test_same_key_gives_the_first_job_again(url: str) -> None:
    first = headrace(
        "enqueue", "later", "--queue", "kept", "--key", "once", "--format", "json", url=url
    )
    again = headrace(
        "enqueue", "later", "--queue", "kept", "--key", "once", "--format", "json", url=url
    )
    assert first.json["created"] is True
    assert again.json == {"job_id": first.json["job_id"], "created": False}


def test_enqueue_waits_and_prints_the_result_alone(url: str) -> None:
    ran = headrace("enqueue", "greet", "--json", '{"name": "you"}', "--wait", url=url)
    assert (ran.exit_code, ran.out) == (0, '"hello you"\n')


def test_enqueue_of_a_job_that_dies_is_a_failure_with_its_error(url: str) -> None:
    ran = headrace("enqueue", "fail", "--attempts", 1, "--wait", url=url)
    assert (ran.exit_code, ran.out) == (1, "")
    assert r"ValueError: no \x1b[31mway" in ran.err


def test_enqueue_that_is_not_final_in_time_is_unknown(url: str) -> None:
    ran = headrace(
        "enqueue", "nobody", "--queue", "kept", "--wait", "--wait-timeout", "10ms", url=url
    )
    assert ran.exit_code == 5
    assert "is not final yet; it goes on." in ran.err


def test_refused_enqueue_says_why(url: str) -> None:
    assert headrace("enqueue", "$bad", url=url).exit_code == 1
    too_large = json.dumps({"x": "x" * 2_000_000})
    ran = headrace("enqueue", "later", "--json", "-", url=url, typed=too_large)
    assert ran.exit_code == 1
    assert "Traceback" not in ran.err


# --- job


def test_jobs_are_listed_by_everything_that_can_be_asked_for(url: str) -> None:
    enqueue(url, "a", "--queue", "listed", "--tag", "x")
    enqueue(url, "b", "--queue", "listed", "--delay", "1h")
    for asked, kinds in {
        (): ["a", "b"],
        ("--state", "ready"): ["a"],
        ("--state", "scheduled", "--state", "ready"): ["a", "b"],
        ("--kind", "b"): ["b"],
        ("--tag", "x"): ["a"],
        ("--since", "1h"): ["a", "b"],
        ("--before", "1h"): [],
    }.items():
        found = headrace("job", "list", "--queue", "listed", *asked, "--json", url=url).json
        assert sorted(view["kind"] for view in found["jobs"]) == kinds, asked


def test_list_goes_on_at_the_cursor(url: str) -> None:
    wanted = {enqueue(url, "k", "--queue", "paged") for _ in range(5)}
    seen: set[str] = set()
    cursor = ""
    for _ in range(3):
        page = headrace(
            *("job", "list", "--queue", "paged", "--limit", 2, "--json", "--cursor", cursor),
            url=url,
        ).json
        seen |= {view["job_id"] for view in page["jobs"]}
        cursor = page["cursor"]
    assert seen == wanted
    assert cursor == ""


def test_list_for_people_says_that_there_are_more(url: str) -> None:
    for _ in range(3):
        enqueue(url, "k", "--queue", "many")
    ran = headrace("job", "list", "--queue", "many", "--limit", 2, url=url)
    assert "There are more than 2; raise --limit." in ran.out
    assert headrace("job", "list", "--queue", "none", url=url).out == "No jobs.\n"


def test_job_is_shown_for_people_with_errors_and_history(url: str) -> None:
    headrace("enqueue", "fail", "--attempts", 1, "--wait", url=url)
    (dead, *_) = headrace("dead", "list", "--kind", "fail", "--json", url=url).json["jobs"]
    shown = headrace("job", "show", dead["job_id"], url=url).out
    for words in ("reason", "attempts", "1 of 1", r"ValueError: no \x1b[31mway", "history"):
        assert words in shown
    assert "\x1b" not in shown


def test_unknown_job_is_exit_code_3(url: str) -> None:
    for verb in ("show", "explain", "cancel", "retry", "run-now"):
        assert headrace("job", verb, UNKNOWN, url=url).exit_code == 3, verb
    assert headrace("job", "delete", UNKNOWN, "--yes", url=url).exit_code == 3
    assert headrace("job", "priority", 5, UNKNOWN, url=url).exit_code == 3


def test_waiting_job_is_cancelled_and_revived(url: str) -> None:
    job_id = enqueue(url, "k", "--queue", "changed")
    assert headrace("job", "cancel", job_id, "--reason", "why not", url=url).out == (
        f"{job_id} cancelled\n"
    )
    shown = headrace("job", "show", job_id, "--json", url=url).json
    assert (shown["state"], shown["reason"]) == ("cancelled", "why not")

    revived = headrace("job", "retry", job_id, "--delay", "1h", "--json", url=url)
    assert revived.exit_code == 0
    assert revived.json["jobs"][0]["job_id"] == job_id
    assert headrace("job", "show", job_id, "--json", url=url).json["state"] == "scheduled"


def test_job_is_made_due_and_its_priority_changed(url: str) -> None:
    job_id = enqueue(url, "k", "--queue", "changed", "--delay", "1h")
    assert headrace("job", "run-now", job_id, url=url).exit_code == 0
    assert headrace("job", "priority", 200, job_id, url=url).exit_code == 0
    shown = headrace("job", "show", job_id, "--json", url=url).json
    assert (shown["state"], shown["priority"]) == ("ready", 200)


def test_deleted_job_is_gone(url: str) -> None:
    job_id = enqueue(url, "k", "--queue", "changed")
    assert headrace("job", "delete", job_id, url=url).exit_code == 2
    assert headrace("job", "delete", job_id, "--yes", url=url).exit_code == 0
    assert headrace("job", "show", job_id, url=url).exit_code == 3


def test_one_refusal_does_not_keep_the_others_from_being_done(url: str) -> None:
    good = enqueue(url, "k", "--queue", "changed")
    ran = headrace("job", "cancel", UNKNOWN, good, url=url)
    assert ran.exit_code == 3
    assert ran.out == f"{good} cancelled\n"
    assert UNKNOWN in ran.err


def test_wrong_state_is_a_refusal(url: str) -> None:
    job_id = enqueue(url, "k", "--queue", "changed")
    ran = headrace("job", "retry", job_id, url=url)
    assert ran.exit_code == 1
    assert "ready" in ran.err


def test_explain_says_that_nobody_handles_the_kind(url: str) -> None:
    job_id = enqueue(url, "orphan", "--queue", "changed")
    assert "No worker handles kind 'orphan'" in headrace("job", "explain", job_id, url=url).out
    explained = headrace("job", "explain", job_id, "--json", url=url).json
    assert explained["state"] == "ready"
    assert explained["reasons"][0]["sentence"]


# --- queue


def test_queue_is_paused_shown_and_resumed(url: str) -> None:
    enqueue(url, "k", "--queue", "held")
    assert headrace("queue", "pause", "held", url=url).out == "held is paused.\n"
    assert headrace("queue", "show", "held", "--json", url=url).json["paused"] is True
    assert "paused" in headrace("queue", "list", url=url).out
    assert headrace("queue", "resume", "held", url=url).exit_code == 0
    assert headrace("queue", "show", "held", "--json", url=url).json["paused"] is False


def test_unknown_queue_is_exit_code_3(url: str) -> None:
    assert headrace("queue", "show", "nowhere", url=url).exit_code == 3


def test_queues_are_listed_with_wire_field_names(url: str) -> None:
    enqueue(url, "k", "--queue", "shown")
    found = headrace("queue", "list", "--json", url=url).json["queues"]
    (shown,) = [view for view in found if view["queue"] == "shown"]
    assert (shown["ready"], shown["unroutable"]) == (1, 1)
    assert shown["settings"]["durability"] == "group"


def test_every_setting_of_a_queue_can_be_set_and_the_others_stay(url: str) -> None:
    given = {
        "--durability": "sync",
        "--attempt-max": 3,
        "--backoff": "fixed",
        "--backoff-base": "1s",
        "--backoff-cap": "2m",
        "--crash-max": 2,
        "--payload-bytes-max": "64KiB",
        "--succeeded-age": "2h",
        "--succeeded-count": 10,
        "--succeeded-bytes": "1MiB",
        "--dead-age": "3d",
        "--dead-count": 20,
        "--dead-bytes": "2MiB",
    }
    for option, value in given.items():
        assert headrace("queue", "set", "tuned", option, value, url=url).exit_code == 0, option

    settings = headrace("queue", "show", "tuned", "--json", url=url).json["settings"]
    retry = settings.pop("retry")
    assert (retry["attempt_max"], retry["backoff"], retry["crash_max"]) == (3, "fixed", 2)
    assert (retry["base_ms"], retry["cap_ms"]) == (1_000, 120_000)
    assert settings == {
        "paused": False,
        "durability": "sync",
        "payload_bytes_max": 65_536,
        "succeeded_age_ms": 7_200_000,
        "succeeded_count": 10,
        "succeeded_bytes": 1_048_576,
        "dead_age_ms": 259_200_000,
        "dead_count": 20,
        "dead_bytes": 2_097_152,
    }


def test_purge_removes_the_jobs_of_the_states_named(url: str) -> None:
    for _ in range(3):
        enqueue(url, "k", "--queue", "purged")
    enqueue(url, "k", "--queue", "purged", "--delay", "1h")
    assert headrace("queue", "purge", "purged", "--state", "ready", url=url).exit_code == 2
    ran = headrace("queue", "purge", "purged", "--state", "ready", "--yes", "--json", url=url)
    assert ran.json == {"queue": "purged", "count": 3}
    left = headrace("queue", "show", "purged", "--json", url=url).json
    assert (left["ready"], left["scheduled"]) == (0, 1)


# --- dead, session, stats, top, health


def test_dead_jobs_are_listed_and_run_again(url: str) -> None:
    for _ in range(2):
        headrace("enqueue", "fail", "--attempts", 1, "--tag", "again", "--wait", url=url)
    listed = headrace("dead", "list", "--tag", "again", "--json", url=url).json["jobs"]
    assert [view["state"] for view in listed] == ["dead", "dead"]

    one = headrace("dead", "retry", listed[0]["job_id"], "--delay", "1h", url=url)
    assert one.exit_code == 0
    ran = headrace(
        *("dead", "retry", "--all", "--kind", "fail", "--delay", "1h", "--yes", "--json"), url=url
    )
    assert ran.exit_code == 0
    assert ran.json["refused"] == 0
    assert ran.json["revived"] >= 1
    assert headrace("dead", "list", "--tag", "again", "--json", url=url).json["jobs"] == []


def test_worker_is_a_session(url: str) -> None:
    (session, *_) = headrace("session", "list", "--json", url=url).json["sessions"]
    assert set(session["kinds"]) == {"greet", "fail"}
    assert session["connected"] is True
    assert "greet" in headrace("session", "list", url=url).out


def test_stats_have_the_names_of_metrics(url: str) -> None:
    found = headrace("stats", "--json", url=url).json
    assert found["counters"]["headrace_jobs_enqueued_total"] >= 1
    assert found["gauges"]["headrace_sessions"] == 1
    assert found["histograms"]["headrace_commit_seconds"]["count"] >= 1
    assert "headrace_commit_seconds" in headrace("stats", url=url).out


def test_top_shows_queues_and_sessions_once(url: str) -> None:
    enqueue(url, "k", "--queue", "topmost")
    shown = headrace("top", "--once", url=url)
    assert shown.exit_code == 0
    assert "topmost" in shown.out
    assert "greet" in shown.out
    assert set(headrace("top", "--json", url=url).json) == {
        "at_ms",
        "stats",
        "queues",
        "sessions",
    }


def test_running_server_is_healthy(url: str) -> None:
    assert headrace("health", url=url).exit_code == 0
    assert headrace("health", "--json", url=url).json == {"healthy": True, "message": ""}


def test_bench_reports_every_figure_and_leaves_nothing(url: str) -> None:
    ran = headrace("bench", "--jobs", 300, "--concurrency", 20, "--json", url=url)
    assert ran.exit_code == 0, ran.err
    assert (ran.json["durability"], ran.json["payload_bytes"]) == ("group", 100)
    for result in ran.json["results"]:
        assert result["jobs_per_s"] > 0
        assert 0 < result["p50_ms"] <= result["p99_ms"] <= result["max_ms"]
        assert 0 < result["commits"] <= result["jobs"] * 2
        assert result["commit_bytes_mean"] > 0
    assert [result["in_flight"] for result in ran.json["results"]] == [1, 20, 4, 1]
    left = headrace("queue", "show", "headrace-bench", "--json", url=url).json
    assert (left["ready"], left["leased"], left["succeeded"]) == (0, 0, 0)
