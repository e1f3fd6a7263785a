"""A child of the proof leaves nothing behind."""

from __future__ import annotations

import os
import select
import subprocess
from pathlib import Path

import pytest

from proof.children import python

PARENT = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(child.pid, flush=True)
sys.stdin.read()
"""
WAITING = PARENT + "child.wait()"


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="no pidfd here")
@pytest.mark.parametrize("script", [PARENT, WAITING], ids=["ended", "running"])
def test_what_a_child_has_started_is_gone_with_it(script: str, tmp_path: Path) -> None:
    pipe = subprocess.PIPE
    with python(["-c", script], cwd=tmp_path, environ=os.environ, output=pipe) as child:
        assert child.stdout is not None
        grandchild = os.pidfd_open(int(child.stdout.readline()))
        if script is PARENT:
            assert child.wait(60) == 0

    ended, _, _ = select.select([grandchild], [], [], 60)
    os.close(grandchild)
    assert ended
    assert child.returncode is not None
