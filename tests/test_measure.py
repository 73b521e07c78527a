"""What a benchmark says a command cost."""

import sys

import pytest

from benchmarks.measure import MIB, Cost, best, run
from hmar.errors import HmarError

EATER = "import time; block = bytes(b'x') * (150 * 2**20); time.sleep(0.3)"


def test_memory_of_children_counts() -> None:
    program = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {EATER!r}]); print('done')"
    cost, output = run([sys.executable, "-c", program])
    assert output == "done\n"
    assert 150 * MIB < cost.peak_rss < 300 * MIB
    assert cost.seconds > 0.3
    assert cost.cpu_seconds < cost.seconds


def test_failure_is_told_with_its_last_words() -> None:
    with pytest.raises(HmarError, match=r"ended with 3: no good"):
        run([sys.executable, "-c", "import sys; print('no good', file=sys.stderr); sys.exit(3)"])


def test_best_is_the_least_time_and_the_most_memory() -> None:
    assert best([Cost(2, 5, 10), Cost(3, 4, 30), Cost(2.5, 6, 20)]) == Cost(2, 4, 30)
