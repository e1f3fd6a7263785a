"""Makes `spec/vectors/data-v1/`, the data directory that every later release must open.

    python -m tools.make_data_v1

Run once, by the release that first wrote format 1; then never again: a change of what it
would write is a change of the format, and gets a directory of its own.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from headrace.log.file.log import FileLog
from headrace.model.limits import SEGMENT_BYTES_FLOOR
from headrace.testing.sim_disk import SimDisk
from headrace.testing.sim_env import SimEnv
from tools.data_story import DataStory, told

TARGET = Path(__file__).resolve().parent.parent / "spec/vectors/data-v1"
ROOT = "/data"
TORN_BYTES = 24
"""Of the last commit: they never reached the disk."""


def main() -> None:
    env = SimEnv(seed=1)
    story = DataStory(env, lambda: FileLog(env, ROOT, segment_bytes=SEGMENT_BYTES_FLOOR))
    story.live("first")
    story.restart()
    snapshot_index = story.snapshot()
    story.live("second")
    expected = {"snapshot_index": snapshot_index, "digest": story.engine.digest()}
    expected |= told(story.engine)
    whole = contents(env.disk)
    story.last_words()
    save(whole | torn(whole, contents(env.disk)), expected)
    # The story ends without a close, as a killed server does.


def torn(before: dict[str, bytes], after: dict[str, bytes]) -> dict[str, bytes]:
    """The segments as a crash would leave them in the middle of the last commit."""
    [path] = [path for path in after if path.startswith("wal/") and after[path] != before[path]]
    content = bytearray(after[path])
    end = len(content.rstrip(b"\0"))
    content[end - TORN_BYTES : end] = bytes(TORN_BYTES)
    return {path: bytes(content)}


def contents(disk: SimDisk, path: str = ROOT) -> dict[str, bytes]:
    """Every file below `path` but LOCK, by its path in the directory."""
    found: dict[str, bytes] = {}
    for name in disk.listdir(path):
        below = f"{path}/{name}"
        stat = disk.stat(below)
        assert stat is not None
        if stat.is_dir:
            found |= contents(disk, below)
        elif name != "LOCK":
            found[below.removeprefix(f"{ROOT}/")] = disk.peek(below)
    return found


def save(files: dict[str, bytes], expected: dict[str, object]) -> None:
    shutil.rmtree(TARGET / "data", ignore_errors=True)
    for path, content in files.items():
        target = TARGET / "data" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    text = json.dumps(expected, indent=1, ensure_ascii=False, sort_keys=True)
    (TARGET / "expected.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
