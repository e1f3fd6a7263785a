"""The house rules hold for this repository, and each of them can fail."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest

from tools import tidy


def test_repository_keeps_the_house_rules() -> None:
    assert tidy.faults(tidy.ROOT) == []


@dataclass(frozen=True)
class Case:
    name: str
    path: str
    text: str
    fault: str


ENGINE = "src/headrace/engine/lanes.py"
SERVER = "src/headrace/server/tcp.py"
LOG = "src/headrace/log/file/writer.py"
PROGRESS = "src/headrace/client/progress.py"
CASES = [
    Case("todo without issue", "docs/a.md", "# A\n\nTODO later\n", "TODO needs an issue"),
    Case("todo without reason", "src/headrace/a.py", "# TODO(#12):\n", "TODO needs an issue"),
    Case("machine path", "tools/a.sh", "cd /home/alice/src\n", "somebody's machine"),
    Case("dead link", "docs/a.md", "# A\n\n[gone](gone.md)\n", "dead link: gone.md"),
    Case("two titles", "docs/a.md", "# A\n\n# B\n", "one title, this one 2"),
    Case("no title", "docs/a.md", "text\n", "one title, this one 0"),
    Case("banned name", "src/headrace/a.py", "def requeue_job(): ...\n", "'requeue'"),
    Case("banned class", "src/headrace/a.py", "class JobManager: ...\n", "'manager'"),
    Case("banned prose", "src/headrace/a.py", '"""Ask the broker."""\n', "'broker'"),
    Case("engine reads a clock", ENGINE, "import time\n", "the engine is pure: no time"),
    Case("engine has a library", ENGINE, "from rich import print\n", "pure: no rich"),
    Case("engine hashes", ENGINE, "hash('a')\n", "deterministic: no hash()"),
    Case("engine asks for now", ENGINE, "datetime.datetime.now()\n", "time and randomness"),
    Case("log knows jobs", LOG, "from headrace.model.job import Job\n", "not headrace.model.job"),
    Case("log knows codec", LOG, "import headrace.codec\n", "not headrace.codec"),
    Case("server calls os", SERVER, "os.unlink('a')\n", "os.unlink: outside"),
    Case("server imports of os", SERVER, "from os import unlink\n", "os.unlink: outside"),
    Case("server reads a path", SERVER, "import os\nos.path.exists('a')\n", "os.path.exists"),
    Case("server renames os", SERVER, "import os as system\n", "os under another name"),
    Case("server imports sleep", SERVER, "from time import sleep\n", "time: outside"),
    Case("server imports time", SERVER, "import time\ntime.sleep(1)\n", "time: outside"),
    Case("server draws", SERVER, "import random\n", "random: outside"),
    Case("server draws a secret", SERVER, "import secrets\n", "secrets: outside"),
    Case("server has sockets", SERVER, "import socket\n", "socket: outside"),
    Case("server starts programs", SERVER, "import subprocess\n", "subprocess: outside"),
    Case("server selects", SERVER, "import select\n", "select: outside"),
    Case("server gets signals", SERVER, "import signal\n", "signal: outside"),
    Case("server has processes", SERVER, "from multiprocessing import Pool\n", "multiprocessing"),
    Case("server makes files", SERVER, "import tempfile\n", "tempfile: outside"),
    Case("server copies files", SERVER, "import shutil\n", "shutil: outside"),
    Case("server walks paths", SERVER, "from pathlib import Path\n", "pathlib: outside"),
    Case("server opens a file", SERVER, "open('a')\n", "open(): outside"),
    Case("server prints", SERVER, "print('a')\n", "print(): outside"),
    Case("server hashes", SERVER, "hash('a')\n", "hash(): outside"),
    Case("server has a library", SERVER, "import uvloop\n", "uvloop: outside"),
    Case("server starts a thread", SERVER, "threading.Thread()\n", "threading.Thread: outside"),
    Case("server waits for a thread", SERVER, "threading.Event()\n", "threading.Event: outside"),
    Case(
        "server has a pool",
        SERVER,
        "from concurrent.futures import ThreadPoolExecutor\n",
        "concurrent.futures.ThreadPoolExecutor: outside",
    ),
    Case("server opens a door", SERVER, "asyncio.start_server()\n", "asyncio.start_server"),
    Case("server uses a thread", SERVER, "asyncio.to_thread(f)\n", "asyncio.to_thread"),
    Case("server makes a loop", SERVER, "asyncio.new_event_loop()\n", "asyncio.new_event_loop"),
    Case("server uses a pool", SERVER, "loop.run_in_executor(None, f)\n", "run_in_executor"),
    Case("server connects", SERVER, "loop.create_connection(f)\n", "create_connection"),
    Case("server hops", SERVER, "loop.call_soon_threadsafe(f)\n", "call_soon_threadsafe"),
    Case(
        "server has the real disk",
        SERVER,
        "from headrace.runtime.real_disk import RealDisk\n",
        "headrace.runtime.real_disk: outside",
    ),
    Case(
        "server has the real env", SERVER, "from headrace.runtime import env\n", "runtime: outside"
    ),
    Case("server makes an id", SERVER, "uuid.uuid4()\n", "time and randomness"),
    Case("exception unused", PROGRESS, "loop.call_soon_threadsafe(f)\n", "nothing here uses it"),
    Case("long file", "tests/a.py", "a = 1\n" * 601, "tests/a.py: 601 lines, at most 600"),
    Case("long function", "tests/a.py", "def f():\n" + " a = 1\n" * 60, "::f: 61 lines"),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_fault_is_found(case: Case, tmp_path: Path) -> None:
    write(tmp_path, case.path, case.text)
    found = tidy.faults(tmp_path)

    assert len(found) == 1, found
    assert case.fault in found[0]
    assert found[0].startswith(case.path)


ALLOWED = {
    "docs/a.md": "# A\n\n```\n# no title\n[no](link.md)\n```\n\n[b](b.md#there) [c](https://c.d)\n",
    "docs/b.md": "# B\n\nTODO(#7): the reason\n",
    ENGINE: "import heapq\nfrom headrace.model.job import Job\nimport msgspec\n",
    LOG: "from headrace.log.base import Log\nfrom headrace.model import errors\n",
    SERVER: "import asyncio, os\nos.path.join('a', 'b')\nlock = threading.Lock()\n",
    PROGRESS: "loop.call_soon_threadsafe(threading.get_ident())\n",
    "src/headrace/runtime/env.py": "import os\nos.unlink('a')\n",
    "src/headrace/runtime/real_loops.py": "import uvloop\n",
    "src/headrace/cli/main.py": "import time\ntime.sleep(1)\n",
    "tests/a.py": 'def f():\n """' + "long\n" * 70 + ' """\n' + " a = 1\n" * 58,
}


def test_what_is_allowed_is_no_fault(tmp_path: Path) -> None:
    for path, text in ALLOWED.items():
        write(tmp_path, path, text)
    assert tidy.faults(tmp_path) == []


def test_ratchet_tolerates_what_it_lists_and_nothing_longer(tmp_path: Path) -> None:
    write(tmp_path, "tests/a.py", "a = 1\n" * 700)
    write(tmp_path, tidy.RATCHET, '"tests/a.py" = 700\n')
    assert tidy.faults(tmp_path) == []

    write(tmp_path, "tests/a.py", "a = 1\n" * 701)
    assert tidy.faults(tmp_path) == ["tests/a.py: grew from 700 to 701 lines; it may only shrink"]


def test_lowered_ratchet_follows_what_shrank_and_never_grows(tmp_path: Path) -> None:
    write(tmp_path, "tests/a.py", "a = 1\n" * 650)
    write(tmp_path, "tests/b.py", "a = 1\n" * 800)
    write(tmp_path, tidy.RATCHET, '# why\n"tests/a.py" = 700\n"tests/b.py" = 700\n"gone" = 999\n')
    assert len(tidy.faults(tmp_path)) == 3

    tidy.lower_ratchet(tmp_path)
    text = (tmp_path / tidy.RATCHET).read_text()
    assert text.startswith("# why\n")
    assert tomllib.loads(text) == {"tests/a.py": 650, "tests/b.py": 700}


def write(root: Path, path: str, text: str) -> None:
    target = root / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text)
