"""`make run`: a server on ./data, a worker, and a job for every text file below DIR.

Goes on serving until Ctrl-C. With ONCE=1 it ends by itself, after it has killed the worker
half way, and the server later on, with SIGKILL; the exit code is 0 only if every job
reached its final state all the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from processes import CouldNotStart, Process
from texts import text_files

if TYPE_CHECKING:
    from feeding import Outcome

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parent.parent
ONCE_PAUSE_MS = 10
"""Each job of ONCE=1 takes this much longer, so that the kills meet a busy worker."""
ONCE_CONCURRENCY = 8
ONCE_LEASE = "2s"
"""How long the jobs of the killed worker are nobody's."""


class Demo:
    def __init__(self, directory: Path, *, once: bool) -> None:
        self.directory = directory
        self.once = once
        self.events: list[str] = []
        """What was done to the processes, for the summary."""
        self.logs = Path(tempfile.mkdtemp(prefix="headrace-demo-"))
        self.server = Process(
            ["serve", str(Path("data").resolve())],
            self.logs / "server.log",
            directory=Path.cwd(),
        )
        careful = ["--concurrency", str(ONCE_CONCURRENCY), "--lease", ONCE_LEASE]
        self.worker = Process(
            ["worker", "jobs:app", *(careful if once else [])],
            self.logs / "worker.log",
            directory=HERE,
        )

    def run(self) -> int:
        """The exit code. Raises: `CouldNotStart`."""
        files = text_files(self.directory)
        if not files:
            raise CouldNotStart(f"There is no text file below {self.directory}.", 2)
        self.server.start()
        # Read by the worker, and by our own application when it is imported.
        os.environ["HEADRACE_URL"] = self.server.urls[0]
        self.worker.start()
        from showing import say, show, show_losses

        say(f"Server at {' and '.join(self.server.urls)}; logs in {self.logs}.")
        say(f"{len(files):,} text files below {self.directory}, a job for each.")
        outcome = asyncio.run(self._feed(files))
        show(outcome, self.events)
        is_complete = show_losses(outcome)
        if not self.once:
            say("\nThe server goes on; Ctrl-C ends it. In another terminal, try:")
            say("  .venv/bin/headrace top\n  .venv/bin/headrace job list --queue demo")
            wait_for_signal()
        return 0 if is_complete else 1

    async def _feed(self, files: list[Path]) -> Outcome:
        from feeding import feed
        from showing import bar

        trouble = self._trouble(len(files)) if self.once else {}
        began_s = time.perf_counter()
        with bar(len(files)) as progress:

            async def on_result(count: int, _: object) -> None:
                rate = f"{count / (time.perf_counter() - began_s):,.0f}/s"
                progress.update(progress.task_ids[0], completed=count, rate=rate)
                if count in trouble:
                    await asyncio.to_thread(trouble[count], count)

            pause_ms = ONCE_PAUSE_MS if self.once else 0
            return await feed(self.directory, files, pause_ms=pause_ms, on_result=on_result)

    def _trouble(self, total: int) -> dict[int, Callable[[int], None]]:
        """Number of results → what is done then."""
        return {max(1, total // 2): self._kill_worker, max(2, total * 3 // 4): self._kill_server}

    def _kill_worker(self, count: int) -> None:
        self.worker.kill()
        self.worker.start()
        self.events.append(f"After {count:,} results the worker was killed (SIGKILL).")

    def _kill_server(self, count: int) -> None:
        self.server.kill()
        began_s = time.perf_counter()
        self.server.start()
        seconds = time.perf_counter() - began_s
        self.events.append(
            f"After {count:,} results the server was killed (SIGKILL);"
            f" it was back after {seconds:.2f} s."
        )

    def stop(self) -> None:
        self.worker.stop()
        self.server.stop()


def wait_for_signal() -> None:
    with contextlib.suppress(KeyboardInterrupt):
        threading.Event().wait()


def main() -> int:
    directory = Path(os.environ.get("DIR") or PROJECT).expanduser().resolve()
    if not directory.is_dir():
        print(f"DIR={directory} is no directory.", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    demo = Demo(directory, once=bool(os.environ.get("ONCE")))
    try:
        return demo.run()
    except CouldNotStart as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    finally:
        demo.stop()


if __name__ == "__main__":
    sys.exit(main())
