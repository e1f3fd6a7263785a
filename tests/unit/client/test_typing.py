"""What a type checker sees of jobs: enqueueing takes the function's own arguments."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from mypy import api

TOP = """
from typing import Annotated
from headrace import INJECTED, App, Depends, JobContext

app = App("./data")

class Database: ...
def connect() -> Database: return Database()

@app.job(queue="mail", timeout="30s")
async def send(user_id: int, template: str = "default") -> str: return template

@app.job()
def count(ctx: JobContext, number: int) -> list[int]: return [number]

@app.job()
async def store(number: int, db: Annotated[Database, Depends(connect)] = INJECTED) -> None: ...

async def main() -> None:
"""
LINES = {
    "reveal_type(await (await send.enqueue(42)).result())": 'Revealed type is "str"',
    "reveal_type(count.enqueue_sync(3).result_sync())": r'Revealed type is "list\[int\]"',
    "reveal_type(await app.enqueue_many(send.job(u) for u in range(3)))": r"list\[.*Job\[str\]\]",
    "await store.enqueue(1)": "",
    "await send.options(delay='10m', priority=200, key='k').enqueue(42, template='x')": "",
    "await send.enqueue('42')": 'Argument 1 to "enqueue".*"str"; expected "int"',
    "await send.options(delay='1m').enqueue(1, 2)": 'Argument 2 to "enqueue"',
    "send.options(dealy='1m')": 'Unexpected keyword argument "dealy"',
    "count.enqueue_sync()": 'Missing positional argument "number"',
    "send.job(1, nope=2)": 'Unexpected keyword argument "nope"',
}


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[int, str]:
    """Line number → what mypy says of it."""
    path = tmp_path_factory.mktemp("typing") / "jobs.py"
    path.write_text(TOP + "".join(f"    {line}\n" for line in LINES), encoding="utf-8")
    root = Path(__file__).parents[3]
    out, err, _ = api.run(
        ["--strict", "--no-pretty", f"--config-file={root / 'pyproject.toml'}", str(path)]
    )
    found: dict[int, str] = {}
    for number, what in re.findall(r"jobs\.py:(\d+): (?:error|note): (.*)", out):
        found.setdefault(int(number), what)
    assert found, out + err
    return found


@pytest.mark.parametrize("line", LINES)
def test_checker_knows_what_a_job_takes_and_gives(line: str, said: dict[int, str]) -> None:
    number = TOP.count("\n") + list(LINES).index(line) + 1

    assert re.search(LINES[line], said.get(number, "")), said.get(number)
    assert bool(LINES[line]) == (number in said), said.get(number)
