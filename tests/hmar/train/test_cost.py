"""cost.json: what the processes of a training took."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from hmar.train import cost


def test_an_entry_per_process_however_it_ends(tmp_path: Path) -> None:
    with cost.counted(tmp_path):
        pass
    with pytest.raises(KeyboardInterrupt), cost.counted(tmp_path):
        raise KeyboardInterrupt
    first, second = cost.read(tmp_path)
    assert first["peak_mb"] > 50
    assert second["cpu_seconds"] >= first["cpu_seconds"] > 0
    assert first["seconds"] >= 0


def test_a_process_that_finds_the_training_finished_takes_nothing(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(json.dumps({"status": "finished"}), encoding="utf-8")
    with cost.counted(tmp_path):
        pass
    assert cost.read(tmp_path) == []


def test_the_peak_is_of_this_program_not_of_the_one_that_started_it(tmp_path: Path, checkout: Path) -> None:
    """A child's ru_maxrss on Linux begins with the memory of its parent, here of one with torch and 300 MB more."""
    ballast = bytearray(300 * 2**20)
    code = (
        "from hmar.train.cost import peak_memory; a = peak_memory(); b = bytearray(80 * 2**20); print(a, peak_memory())"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=checkout, capture_output=True, text=True, check=True)
    before, after = map(int, done.stdout.split())
    assert before < 200 * 2**20 < len(ballast)
    assert after - before >= 75 * 2**20
