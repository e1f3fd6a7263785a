"""`headrace worker` as a process: applications that load, or do not, signals, reloading."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.cli_kit import Program, headrace, serving

APP = """
from headrace import App
app = App()
other = 17

@app.job(queue="{queue}")
def greet(name: str = "you") -> str:
    return f"{word} {{name}}"
"""


def write_app(directory: Path, name: str, *, word: str = "hello", queue: str = "default") -> None:
    """Whole or not at all: somebody may be about to import it."""
    draft = directory / f"{name}.draft"
    draft.write_text(APP.format(word=word, queue=queue))
    draft.rename(directory / f"{name}.py")


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(tmp_path_factory.mktemp("worker") / "data") as server:
        yield server.lines[0].split()[-1]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_worker_runs_jobs_until_a_signal(tmp_path: Path, url: str, number: signal.Signals) -> None:
    write_app(tmp_path, "runs")
    with Program("worker", "runs:app", "--url", url, directory=tmp_path) as worker:
        worker.until("ready")
        assert headrace("enqueue", "greet", "--wait", url=url).out == '"hello you"\n'
        worker.process.send_signal(number)
        assert worker.ended() == 0
    assert "Traceback" not in worker.err


def test_worker_finds_its_server_by_the_environment(tmp_path: Path, url: str) -> None:
    write_app(tmp_path, "environs")
    program = Program("worker", "environs:app", directory=tmp_path, HEADRACE_URL=url)
    with program as worker:
        worker.until("ready")
        assert worker.lines[0] == f"worker for greet at {url}"


def test_options_of_the_worker_are_seen_in_its_session(tmp_path: Path, url: str) -> None:
    write_app(tmp_path, "optional")
    arguments = (
        *("worker", "optional:app", "--url", url, "--concurrency", 3, "--prefetch-max", 2),
        *("--queue", "b", "--queue", "a", "--name", "me", "--build", "v9", "--lease", "5s"),
    )
    with Program(*arguments, directory=tmp_path) as worker:
        worker.until("ready")
        sessions = headrace("session", "list", "--json", url=url).json["sessions"]
        (session,) = [view for view in sessions if view["name"] == "me"]
        assert (session["build"], session["queues"]) == ("v9", ["b", "a"])
        assert 3 <= session["credit"] <= 5


def test_worker_on_a_directory_runs_its_engine_itself(tmp_path: Path) -> None:
    """As the first page of the documentation has it: no server at all."""
    write_app(tmp_path, "alone")
    with Program("worker", "alone:app", directory=tmp_path) as worker:
        worker.until("ready")
        ran = headrace("enqueue", "greet", "--wait", url=tmp_path / "data")
        assert ran.out == '"hello you"\n'
        worker.process.terminate()
        assert worker.ended() == 0


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ("missing:app", "There is no module 'missing'"),
        ("fine", "'fine' does not name an application."),
        ("fine.py:app", "Write fine:app."),
        ("fine:nothing", "It has: app."),
        ("fine:other", "is not an App, but a int"),
    ],
)
def test_application_that_cannot_be_found_is_a_sentence(
    tmp_path: Path, url: str, named: str, said: str
) -> None:
    write_app(tmp_path, "fine")
    with Program("worker", named, "--url", url, directory=tmp_path) as worker:
        assert worker.ended() == 2
    assert said in worker.err
    assert "Traceback" not in worker.err


def test_application_that_fails_to_import_shows_its_own_traceback(tmp_path: Path, url: str) -> None:
    (tmp_path / "broken.py").write_text("from headrace import App\napp = App()\n1 / 0\n")
    with Program("worker", "broken:app", "--url", url, directory=tmp_path) as worker:
        assert worker.ended() == 1
    assert 'broken.py", line 3' in worker.err
    assert "broken:app could not be imported: ZeroDivisionError" in worker.err
    assert "bug in headrace" not in worker.err


def test_application_without_jobs_is_refused(tmp_path: Path, url: str) -> None:
    (tmp_path / "empty.py").write_text("from headrace import App\napp = App()\n")
    with Program("worker", "empty:app", "--url", url, directory=tmp_path) as worker:
        assert worker.ended() == 1
    assert "Traceback" not in worker.err


def test_reloading_worker_runs_the_new_code(tmp_path: Path, url: str) -> None:
    write_app(tmp_path, "changing", word="old", queue="reload")
    arguments = ("worker", "changing:app", "--url", url, "--reload")
    with Program(*arguments, directory=tmp_path) as worker:
        worker.until("ready")
        assert greeting(url) == '"old you"\n'

        write_app(tmp_path, "changing", word="new!", queue="reload")
        worker.until("ready")
        assert greeting(url) == '"new! you"\n'
        assert "changing.py has changed; the worker starts again." in worker.err
        worker.process.terminate()
        assert worker.ended() == 0


def greeting(url: str) -> str:
    return headrace("enqueue", "greet", "--queue", "reload", "--wait", url=url).out


def test_worker_waits_for_a_server_that_is_not_there_yet(tmp_path: Path) -> None:
    write_app(tmp_path, "early")
    at = f"unix://{tmp_path}/data/headrace.sock"
    with Program("worker", "early:app", "--url", at, directory=tmp_path) as worker:
        while "server_absent" not in worker.err:
            assert worker.process.poll() is None, worker.err
            os.sched_yield()
        with serving(tmp_path / "data"):
            worker.until("ready")
            worker.process.terminate()
            assert worker.ended() == 0
