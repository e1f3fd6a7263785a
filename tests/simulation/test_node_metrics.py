"""`docs/reference/metrics.md` names what a node shows, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from headrace.model import commands as c
from headrace.model.errors import UnknownJob
from headrace.testing.sim_loop import SimNodeEnv, run_simulated
from tests.simulation.harness import World

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "metrics.md"


def _documented(section: str) -> set[str]:
    text = PAGE.read_text(encoding="utf-8").split(f"## {section}\n")[1].split("\n## ")[0]
    rows = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    return {name for row in rows for name in re.findall(r"`(headrace_\w+)", row)}


@pytest.mark.parametrize("section", ["Counters", "Gauges", "Histograms"])
def test_every_metric_has_its_row(section: str) -> None:
    async def story(env: SimNodeEnv) -> None:
        world = await World(env).start()
        await world.ask(world.enqueue())
        with pytest.raises(UnknownJob):
            await world.ask(c.GetJob(world.job_id()))
        stats = await world.ask(c.GetStats())
        shown = getattr(stats, section.lower())
        assert {name.partition("{")[0] for name in shown} == _documented(section)

    run_simulated(story)
