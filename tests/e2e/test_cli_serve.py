"""`headrace serve` from start to end: addresses, refusals, signals, tokens, succession."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.cli_kit import DEADLINE_S, Program, headrace, serving

SLOW_JOBS = """
import asyncio
from headrace import App
app = App()

@app.job()
async def slow(path: str) -> None:
    open(path, "w").close()
    await asyncio.sleep(3600)
"""
EMBEDDED = """
import asyncio, sys
from headrace import App
app = App(sys.argv[1])

@app.job()
async def later() -> None: ...

async def main():
    await later.enqueue()
    print("owns", flush=True)
    sys.stdin.readline()
    job = await later.enqueue()
    print("enqueued", job.id, flush=True)
    await app.close()

asyncio.run(main())
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# --- starting


def test_serve_prints_every_address_and_ready(tmp_path: Path) -> None:
    port = free_port()
    with Program("serve", tmp_path / "d", "--listen", f"127.0.0.1:{port}") as server:
        server.until("ready")
        assert server.lines == [
            f"listening on unix://{tmp_path}/d/headrace.sock",
            f"listening on headrace://127.0.0.1:{port}",
            "ready",
        ]
        for line in server.lines[:2]:
            assert headrace("health", url=line.split()[-1]).exit_code == 0


def test_serve_without_the_unix_socket_listens_on_tcp_alone(tmp_path: Path) -> None:
    with serving(tmp_path / "d", "--no-unix-socket") as server:
        assert [line.split("://")[0] for line in server.lines] == [
            "listening on headrace",
            "ready",
        ]


def test_second_serve_is_locked_with_pid_and_host(tmp_path: Path) -> None:
    with serving(tmp_path / "d") as server:
        with Program("serve", tmp_path / "d", "--listen", "127.0.0.1:0") as second:
            assert second.ended() == 75
        assert "E-LOCKED" in second.err
        assert f"process {server.process.pid} on host {socket.gethostname()}" in second.err


def test_busy_port_is_a_sentence(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        address = f"127.0.0.1:{other.getsockname()[1]}"
        with Program("serve", tmp_path / "d", "--listen", address) as server:
            assert server.ended() == 2
    said = [line for line in server.err.splitlines() if line.startswith("headrace: ")]
    assert len(said) == 1
    assert f"cannot listen on {address}: another process listens there already" in said[0]
    assert "Traceback" not in server.err


@pytest.mark.parametrize(
    ("arguments", "missing"),
    [
        ((), "insecure_plaintext = true"),
        (("--insecure-plaintext",), "token_file"),
        (("--token-file", "token"), "insecure_plaintext"),
    ],
)
def test_listening_beyond_loopback_needs_consent_and_a_token(
    tmp_path: Path, arguments: tuple[str, ...], missing: str
) -> None:
    ran = headrace("serve", tmp_path / "d", "--listen", "0.0.0.0:0", *arguments)
    assert ran.exit_code == 2
    assert missing in ran.err
    assert not (tmp_path / "d").exists()


def test_token_is_asked_for_and_never_shown(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("a secret of some length\n")
    token.chmod(0o600)
    beyond = ("--listen", "0.0.0.0:0", "--insecure-plaintext", "--token-file", token)
    with Program("serve", tmp_path / "d", *beyond) as server:
        server.until("listening on unix")
        port = server.until("listening on headrace").rpartition(":")[2]
        server.until("ready")
        url = f"headrace://127.0.0.1:{port}"
        without = headrace("job", "list", url=url)
        with_it = headrace("job", "list", "--token-file", token, url=url)
        locally = headrace("job", "list", url=tmp_path / "d")
        server.process.terminate()
        assert server.ended() == 0
    assert without.exit_code == 1
    assert "token" in without.err
    assert (with_it.exit_code, locally.exit_code) == (0, 0)
    assert "secret" not in server.err + without.err + "".join(server.lines)


def test_probe_inside_a_container_needs_no_token(tmp_path: Path) -> None:
    """As `deploy/Containerfile` has it: who can open the directory may do everything anyway."""
    token = tmp_path / "token"
    token.write_text("secret")
    token.chmod(0o600)
    environ = {
        "HEADRACE_SERVER__LISTEN": "0.0.0.0:0",
        "HEADRACE_SERVER__INSECURE_PLAINTEXT": "true",
        "HEADRACE_SERVER__TOKEN_FILE": str(token),
    }
    with Program("serve", tmp_path / "d", **environ) as server:
        server.until("ready")
        with Program("health", "--url", tmp_path / "d", **environ) as probe:
            assert probe.until("healthy") == "healthy"
            assert probe.ended() == 0
        assert headrace("queue", "list", url=tmp_path / "d").exit_code == 0


def test_token_file_that_others_may_read_is_refused(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("secret")
    token.chmod(0o644)
    ran = headrace("job", "list", "--token-file", token, url="headrace://127.0.0.1:1")
    assert ran.exit_code == 2
    assert "chmod 600" in ran.err


def test_few_open_files_are_reported_with_a_remedy(tmp_path: Path) -> None:
    command = (
        f"ulimit -n 256; exec {sys.executable} -m headrace.cli.main serve {tmp_path}/d"
        " --listen 127.0.0.1:0"
    )
    process = subprocess.Popen(
        ["bash", "-c", command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert any(line == "ready\n" for line in process.stdout)
    finally:
        process.terminate()
        _, err = process.communicate(timeout=DEADLINE_S)
    assert "open_files_limited" in err
    assert "ulimit -n" in err


def test_systemd_is_told_when_the_server_is_ready_and_when_it_stops(tmp_path: Path) -> None:
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(path))
        listener.settimeout(DEADLINE_S)
        arguments = ("serve", tmp_path / "d", "--listen", "127.0.0.1:0")
        with Program(*arguments, NOTIFY_SOCKET=str(path)) as server:
            assert listener.recv(100) == b"READY=1"
            server.process.terminate()
            assert listener.recv(100) == b"STOPPING=1"
            assert server.ended() == 0


# --- stopping


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_ends_an_idle_server_in_order(tmp_path: Path, number: signal.Signals) -> None:
    with serving(tmp_path / "d") as server:
        server.process.send_signal(number)
        assert server.ended() == 0
    assert headrace("verify", tmp_path / "d").exit_code == 0
    assert headrace("doctor", tmp_path / "d", "--json").json["closed_clean"] is True


def test_second_signal_ends_a_draining_server_at_once(tmp_path: Path) -> None:
    (tmp_path / "slow_jobs.py").write_text(SLOW_JOBS)
    started = tmp_path / "started"
    os.mkfifo(started)
    with serving(tmp_path / "d", "--drain", "1h") as server:
        worker_arguments = ("worker", "slow_jobs:app", "--url", tmp_path / "d")
        with Program(*worker_arguments, directory=tmp_path) as worker:
            worker.until("ready")
            payload = f'{{"path": "{started}"}}'
            assert headrace("enqueue", "slow", "--json", payload, url=tmp_path / "d").exit_code == 0
            started.open().close()  # the handler runs once this returns

            server.process.terminate()
            wait_for(server, "server_stopping")
            assert server.process.poll() is None
            server.process.terminate()
            assert server.ended() == 130
            worker.process.kill()
    assert headrace("verify", tmp_path / "d", "--deep").exit_code == 0


def wait_for(program: Program, event: str) -> None:
    """The event is in its log."""
    while event not in program.err:
        assert program.process.poll() is None, program.err
        os.sched_yield()


# --- succession


def test_embedded_owner_hands_over_to_a_server(tmp_path: Path) -> None:
    directory = tmp_path / "d"
    owner = subprocess.Popen(
        [sys.executable, "-c", EMBEDDED, str(directory)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "owns\n"
        with serving(directory) as server:
            out, _ = owner.communicate("go on\n", timeout=DEADLINE_S)
            job_id = out.split()[1]
            shown = headrace("job", "show", job_id, "--json", url=server.lines[0].split()[-1])
            assert shown.json["kind"] == "later"
    finally:
        owner.kill()
        owner.wait()


def test_owner_that_does_not_answer_is_named(tmp_path: Path) -> None:
    with serving(tmp_path / "d") as server:
        server.process.send_signal(signal.SIGSTOP)
        try:
            ran = headrace("job", "list", url=tmp_path / "d")
        finally:
            server.process.send_signal(signal.SIGCONT)
    assert ran.exit_code == 4
    assert f"process {server.process.pid}" in ran.err
    assert "does not answer" in ran.err


# --- nobody there


def test_no_server_is_exit_code_4(tmp_path: Path) -> None:
    for url in (f"headrace://127.0.0.1:{free_port()}", f"unix://{tmp_path}/nobody.sock"):
        ran = headrace("job", "list", url=url)
        assert ran.exit_code == 4, url
        assert "headrace serve" in ran.err


@pytest.mark.parametrize("url", ["headrace://", "http://127.0.0.1", "unix://relative"])
def test_what_is_no_url_is_refused(url: str) -> None:
    ran = headrace("job", "list", url=url)
    assert ran.exit_code == 2
    assert "is not the address of a server" in ran.err


@pytest.mark.parametrize(
    "arguments", [("serve",), ("verify",), ("doctor",), ("backup", "headrace://h:1")]
)
def test_url_is_no_directory(arguments: tuple[str, ...], tmp_path: Path) -> None:
    ran = headrace(*arguments, "headrace://h:1")
    assert ran.exit_code == 2
    assert "headrace://h:1 is no directory." in ran.err


def test_missing_directory_is_not_made_by_looking(tmp_path: Path) -> None:
    ran = headrace("job", "list", url=tmp_path / "nothing")
    assert ran.exit_code == 4
    assert "is no data directory" in ran.err
    assert list(tmp_path.iterdir()) == []


def test_health_does_not_open_a_directory(tmp_path: Path) -> None:
    assert headrace("enqueue", "k", url=tmp_path / "d").exit_code == 0
    ran = headrace("health", url=tmp_path / "d")
    assert ran.exit_code == 1
    assert ran.out.startswith("not healthy: ")


# --- directories without a server


def test_directory_without_an_owner_is_opened_used_and_closed(tmp_path: Path) -> None:
    directory = tmp_path / "d"
    made = headrace("enqueue", "k", url=directory)
    assert f"making a new data directory, {directory}." in made.err
    listed = headrace("job", "list", "--json", url=directory).json["jobs"]
    assert [view["job_id"] for view in listed] == [made.out.strip()]
    report = headrace("doctor", directory, "--json").json
    assert report["closed_clean"] is True
    assert report["problem"] == ""


def test_command_takes_over_the_directory_when_its_owner_is_killed(tmp_path: Path) -> None:
    """Both wait for a job; the first command owns the directory and is killed."""
    directory = tmp_path / "d"
    (tmp_path / "greeting.py").write_text(
        "from headrace import App\napp = App()\n\n@app.job()\ndef greet() -> str:\n"
        "    return 'hello'\n"
    )
    with Program("enqueue", "nobody", "--wait", "--url", directory) as owner:
        wait_until_owned(directory)
        with Program("enqueue", "greet", "--wait", "--url", directory) as waiting:
            wait_until_queued(directory, "greet")
            owner.process.kill()
            owner.process.wait()
            arguments = ("worker", "greeting:app", "--url", directory)
            with Program(*arguments, directory=tmp_path) as worker:
                assert waiting.until('"hello"') == '"hello"'
                assert waiting.ended() == 0
                worker.process.terminate()
                assert worker.ended() == 0


def test_command_that_owns_a_directory_hands_over_to_a_server(tmp_path: Path) -> None:
    directory = tmp_path / "d"
    with Program("enqueue", "nobody", "--wait", "--url", directory) as owner:
        wait_until_owned(directory)
        with serving(directory) as server:
            assert owner.process.poll() is None
            url = server.lines[0].split()[-1]
            (view,) = headrace("job", "list", "--json", url=url).json["jobs"]
            assert headrace("job", "cancel", view["job_id"], url=url).exit_code == 0
            assert owner.ended() == 1
            assert "was cancelled" in owner.err


def wait_until_owned(directory: Path) -> None:
    while headrace("health", url=directory).exit_code != 0:
        os.sched_yield()


def wait_until_queued(directory: Path, kind: str) -> None:
    while not headrace("job", "list", "--kind", kind, "--json", url=directory).json["jobs"]:
        os.sched_yield()


# --- endings


def test_interrupted_command_closes_the_directory_and_ends_with_130(tmp_path: Path) -> None:
    directory = tmp_path / "d"
    with Program("enqueue", "nobody", "--wait", "--url", directory) as waiting:
        wait_until_owned(directory)
        waiting.process.send_signal(signal.SIGINT)
        assert waiting.ended() == 130
    assert "Traceback" not in waiting.err
    assert headrace("doctor", directory, "--json").json["closed_clean"] is True


def test_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    for _ in range(3):
        headrace("enqueue", "k", "--json", '{"x": "' + "x" * 200_000 + '"}', url=tmp_path / "d")
    with Program("dump", tmp_path / "d") as dump:
        assert dump.process.stdout is not None
        dump.process.stdout.readline()
        dump.process.stdout.close()
        assert dump.ended() == 1
    assert dump.err == ""
