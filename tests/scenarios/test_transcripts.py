"""Every transcript in this folder is still true."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.scenarios.transcript import FOLDER, told

TRANSCRIPTS = sorted(FOLDER.glob("*.txt"))


@pytest.mark.parametrize("path", TRANSCRIPTS, ids=lambda path: path.stem)
def test_transcript_tells_what_the_engine_does(path: Path) -> None:
    """When a change is meant: `python -m tests.scenarios.transcript --rewrite`, then review."""
    text = path.read_text(encoding="utf-8")

    assert told(text) == text


def test_there_are_transcripts() -> None:
    assert len(TRANSCRIPTS) >= 10
