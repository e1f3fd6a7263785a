"""The jobs of the demo: what a worker runs, and what `run.py` enqueues."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from pathlib import Path

from headrace import App, JobContext, Retry

app = App(queue="demo")


@dataclass
class FileFacts:
    name: str
    """Below the directory."""
    sha256: str
    size_bytes: int
    word_count: int
    line_count: int
    longest_line: str
    """Its first 80 characters."""
    longest_line_characters: int


@dataclass
class Report:
    files: int
    size_bytes: int
    word_count: int
    line_count: int
    longest_line_in: str
    longest_line_characters: int
    duplicates: int
    """Files whose content another one has as well."""


@app.job(retry=Retry(attempts=5, base="200ms", cap="1s"), timeout="30s")
def measure_file(
    context: JobContext, directory: str, name: str, fails_once: bool = False, pause_ms: int = 0
) -> FileFacts:
    """SHA-256, word count and longest line of one file."""
    if fails_once and context.attempt == 1:
        raise RuntimeError("this attempt fails on purpose, to show a retry")
    time.sleep(pause_ms / 1_000)
    content = Path(directory, name).read_bytes()
    lines = content.decode("utf-8", "replace").splitlines()
    longest = max(lines, key=len, default="")
    return FileFacts(
        name=name,
        sha256=hashlib.sha256(content).hexdigest(),
        size_bytes=len(content),
        word_count=sum(len(line.split()) for line in lines),
        line_count=len(lines),
        longest_line=longest[:80],
        longest_line_characters=len(longest),
    )


@app.job()
def report(files: list[FileFacts]) -> Report:
    """All results together; enqueued when the last of them is in."""
    longest = max(files, key=lambda facts: facts.longest_line_characters)
    return Report(
        files=len(files),
        size_bytes=sum(facts.size_bytes for facts in files),
        word_count=sum(facts.word_count for facts in files),
        line_count=sum(facts.line_count for facts in files),
        longest_line_in=longest.name,
        longest_line_characters=longest.longest_line_characters,
        duplicates=len(files) - len({facts.sha256 for facts in files}),
    )
