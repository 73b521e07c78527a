"""A snapshot that does not fit into memory is trained on."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the limit is Linux's")
def test_a_snapshot_larger_than_memory_trains(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.larger_than_memory", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},  # so that no thread takes an arena of its own later
    )
    assert done.returncode == 0, done.stderr
    told, times = done.stdout.splitlines()[-2:]
    assert told.startswith("80000 positions, ")
    assert float(times.split()[0]) > 9
