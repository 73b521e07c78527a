import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import train_step
from benchmarks.steps import input_lengths, write_training_snapshot
from benchmarks.train_step import TrainStepBenchmark, main
from hmar.data.batches import TrainingData
from hmar.errors import HmarError


def test_lengths_have_the_mean_and_the_limit_they_promise() -> None:
    assert input_lengths("half", 500, 200).mean() == pytest.approx(100, rel=0.01)
    assert input_lengths("third", 500, 150).mean() == pytest.approx(50, rel=0.02)
    films = input_lengths("films", 500, 120)
    assert films.min() >= 19
    assert films.max() == 120


def test_the_made_up_snapshot_counts_as_the_real_one_does(tmp_path: Path) -> None:
    lengths = np.array([7, 1, 30])
    snapshot = write_training_snapshot(tmp_path, lengths, items=6, behaviors=("view", "buy"))
    for user in range(3):
        counts = np.zeros((6, 2), int)
        for row in range(snapshot.offsets[user], snapshot.offsets[user + 1]):
            counts[snapshot.item[row], snapshot.behavior[row]] += 1
            np.testing.assert_array_equal(snapshot.hbi[row], counts[snapshot.item[row]])
    data = TrainingData(snapshot, "leave_one_out", max_length=30, batch_size=3)
    assert sorted(np.diff(next(data.batches(0)).histories.offsets.numpy()).tolist()) == [1, 7, 30]
    assert set(snapshot.item.tolist()) == set(range(6))


@pytest.mark.slow
def test_every_part_is_measured_and_written(tmp_path: Path) -> None:
    out = tmp_path / "table"
    arguments = ["--work", str(tmp_path / "work"), "--users", "130", "--threads", "[1]", "--repeats", "1"]
    parts = ["films", "engine_hmar"]
    assert main([*arguments, "--parts", json.dumps(parts), "--out", str(out)]) == 0
    assert main([*arguments, "--parts", '["sasrec"]', "--no-peers", "--out", str(out)]) == 0
    results = json.loads(out.with_suffix(".json").read_text())
    assert set(results) == {"films 1", "engine_hmar 1", "sasrec 1"}
    for result in results.values():
        assert result["users"] == 130
        for found in result["contenders"].values():
            assert len(found["seconds"]) == 1
            assert found["seconds"][0] > 0
            assert found["peak"] > found["idle"] > 0
    assert results["films 1"]["contenders"]["plain"]["steps"] == results["films 1"]["contenders"]["hmar"]["steps"] == 2
    text = out.with_suffix(".md").read_text()
    assert "times** as fast as plain padded form" in text
    assert "The engine costs **" in text


def test_a_plain_form_that_computes_something_else_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    s = TrainStepBenchmark.resolve({"work": str(tmp_path), "users": 6}, use_environment=False)
    task, _, _ = train_step.make_task(s, "films", 1)
    train_step.check_plain(task)
    monkeypatch.setattr("benchmarks.plain_hmar.softplus", torch.relu)
    with pytest.raises(HmarError, match="the plain form's loss differs from ours"):
        train_step.check_plain(task)


def test_a_contender_that_fails_says_why(tmp_path: Path) -> None:
    task = tmp_path / "task.json"
    task.write_text('{"threads": 1}')
    with (
        pytest.raises(HmarError, match=r"plain ended with 1: (?s:.*)KeyError"),
        train_step.Contender("plain", sys.executable, task, 1),
    ):
        pass
