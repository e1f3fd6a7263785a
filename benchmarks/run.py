"""Measure headrace on this machine: `python benchmarks/run.py [--quick] [--only NAME …]`.

Each run of a scenario has a process, a server and a data directory of its own. The table
goes to stdout, everything else to a JSON file below benchmarks/results/.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime
import os
import platform
import subprocess
import sys
from typing import Any

import msgspec
import uvloop
from harness.bench import Bench, Sizes
from harness.report import Outcome, print_outcome, print_table
from scenarios import ALL

HERE = os.path.dirname(os.path.abspath(__file__))
RESULTS = os.path.join(HERE, "results")
QUICK = Sizes(warmup_s=1.0, measure_s=4.0, scale=0.1)


def main() -> int:
    options = _options()
    sizes = _sizes(options)
    if options.run_one:
        print(msgspec.json.encode(_run_here(options.run_one, sizes, options)).decode())
        return 0
    names = options.only or [name for name, scenario in ALL.items() if not scenario.is_long]
    if options.quick:
        print("--quick: 1 s of warm-up, 4 s measured, a tenth of all counts, one run.\n")
    outcomes = []
    for name in names:
        runs = [_run_apart(name, options) for _ in range(1 if options.quick else options.runs)]
        outcomes.append(Outcome(ALL[name], runs))
        print_outcome(outcomes[-1])
    print_table(outcomes)
    print(f"\n{_write(outcomes, sizes, options)}")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=list(ALL))
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="seconds instead of minutes")
    parser.add_argument("--warmup", type=float, metavar="S", help="seconds dropped (5)")
    parser.add_argument("--seconds", type=float, metavar="S", help="seconds measured (20)")
    parser.add_argument("--scale", type=float, help="factor on counts of jobs and connections")
    parser.add_argument("--dir", default=RESULTS, help="where the data goes; on a real disk")
    parser.add_argument("--out", default=RESULTS, help="directory for the JSON file")
    parser.add_argument("--profile", default="", metavar="PREFIX", help="cProfile both processes")
    parser.add_argument("--run-one", help=argparse.SUPPRESS)
    return parser.parse_args()


def _sizes(options: argparse.Namespace) -> Sizes:
    usual = QUICK if options.quick else Sizes()
    return Sizes(
        usual.warmup_s if options.warmup is None else options.warmup,
        usual.measure_s if options.seconds is None else options.seconds,
        usual.scale if options.scale is None else options.scale,
    )


def _run_apart(name: str, options: argparse.Namespace) -> dict[str, float]:
    """One run in a process of its own, so that none warms another up."""
    command = [sys.executable, __file__, *sys.argv[1:], "--run-one", name]
    found = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    figures: dict[str, float] = msgspec.json.decode(found.stdout.splitlines()[-1])
    return figures


def _run_here(name: str, sizes: Sizes, options: argparse.Namespace) -> dict[str, float]:
    if not options.profile:
        return uvloop.run(_measure(name, sizes, options))
    import cProfile

    profiler = cProfile.Profile()
    try:
        return profiler.runcall(uvloop.run, _measure(name, sizes, options))
    finally:
        profiler.dump_stats(f"{options.profile}.client")


async def _measure(name: str, sizes: Sizes, options: argparse.Namespace) -> dict[str, float]:
    bench = Bench(sizes, options.dir, f"{options.profile}.server" if options.profile else "")
    try:
        return await ALL[name].measure(bench)
    finally:
        bench.close()
        await asyncio.sleep(0)


def _write(outcomes: list[Outcome], sizes: Sizes, options: argparse.Namespace) -> str:
    os.makedirs(options.out, exist_ok=True)
    now = datetime.datetime.now(datetime.UTC)
    path = os.path.join(options.out, f"{now:%Y%m%dT%H%M%SZ}.json")
    report = {
        "taken_at": now.isoformat(timespec="seconds"),
        "machine": machine(),
        "sizes": sizes,
        "quick": options.quick,
        "scenarios": [outcome.as_json() for outcome in outcomes],
    }
    with open(path, "wb") as file:
        file.write(msgspec.json.format(msgspec.json.encode(report)))
    return path


def machine() -> dict[str, Any]:
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        models = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    return {
        "cores": os.cpu_count(),
        "processor": models[0] if models else platform.processor(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load": os.getloadavg(),
    }


if __name__ == "__main__":
    sys.exit(main())
