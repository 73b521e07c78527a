"""What a benchmark says a command cost."""

import subprocess
import sys

import pytest

from benchmarks.measure import MIB, Cost, best, run
from hmar.errors import HmarError

EATER = "import time; block = bytes(b'x') * (150 * 2**20); time.sleep(0.3)"


def test_memory_of_children_counts() -> None:
    """Measured from a small process: a child's peak is never below what its parent held when it was started."""
    program = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {EATER!r}]); print('done')"
    measuring = (
        f"import sys; from benchmarks.measure import run; cost, output = run([sys.executable, '-c', {program!r}]); "
        "print(output.strip(), cost.peak_rss, cost.seconds, cost.cpu_seconds)"
    )
    said = subprocess.run([sys.executable, "-c", measuring], capture_output=True, text=True, check=True).stdout.split()
    assert said[0] == "done"
    peak, seconds, cpu_seconds = map(float, said[1:])
    assert 150 * MIB < peak < 300 * MIB
    assert seconds > 0.3
    assert cpu_seconds < seconds


def test_failure_is_told_with_its_last_words() -> None:
    with pytest.raises(HmarError, match=r"ended with 3: no good"):
        run([sys.executable, "-c", "import sys; print('no good', file=sys.stderr); sys.exit(3)"])


def test_best_is_the_least_time_and_the_most_memory() -> None:
    assert best([Cost(2, 5, 10), Cost(3, 4, 30), Cost(2.5, 6, 20)]) == Cost(2, 4, 30)
