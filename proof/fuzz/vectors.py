"""The golden vectors, and what else is on file of the formats, as inputs to begin with."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from headrace.protocol.framing import HEADER_BYTES
from proof.result import ROOT

VECTORS = ROOT / "spec/vectors"
DATA_V1 = VECTORS / "data-v1/data"


@cache
def wire() -> dict[str, bytes]:
    """Name of the vector → its frame."""
    found = {}
    for path in sorted((VECTORS / "wire").glob("*.json")):
        content = _json(path)
        if "frame" in content:
            found[path.stem] = bytes.fromhex(content["frame"])
    return found


def wire_bodies() -> dict[str, tuple[int, bytes]]:
    """Name of the vector → (type number, body)."""
    return {
        name: (int.from_bytes(frame[4:6], "big"), frame[HEADER_BYTES:])
        for name, frame in wire().items()
    }


@cache
def records() -> dict[str, bytes]:
    """Name of the record → it as the body of a commit holds it."""
    vectors: dict[str, str] = _json(VECTORS / "records/records.json")
    return {name: bytes.fromhex(text) for name, text in vectors.items()}


@cache
def rows() -> list[bytes]:
    """Blocks of one row each."""
    vectors: list[str] = _json(VECTORS / "records/rows.json")
    return [bytes.fromhex(text) for text in vectors]


@cache
def directory() -> dict[str, bytes]:
    """Path inside a data directory → content, of the directory that format 1 left."""
    return {
        str(path.relative_to(DATA_V1)): path.read_bytes()
        for path in sorted(DATA_V1.rglob("*"))
        if path.is_file()
    }


def of_directory(part: str) -> list[bytes]:
    """Contents of the files under one folder of it."""
    return [content for path, content in directory().items() if path.startswith(part)]


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
