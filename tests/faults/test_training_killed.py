"""SIGKILL at twenty random instants of one training: in its steps, its checkpoints, its evaluations. It ends in the
very bits of a training that nobody disturbed."""

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from hmar.train.directory import read_record
from tests.support.training import computed, cycle_snapshot, train_settings

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

EPOCHS = 16
PLACES = ("step", "checkpoint", "evaluation")
KILLS = 6
"""In each place, at a random one of its calls."""
SIGHTS = 4
"""From outside, while a checkpoint is on its way to the disk."""


class Mortals:
    """Starts trainings in processes that may be killed."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process

    def train(self, **order: Any) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(json.dumps(order), file=self.process.stdin, flush=True)
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        return answer


@contextmanager
def mortals() -> Iterator[Mortals]:
    with subprocess.Popen(
        [sys.executable, "-m", "tests.support.mortal"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield Mortals(process)
        assert process.stdin is not None
        process.stdin.close()


def prepare(snapshot: Path, out: Path) -> str:
    """Everything that has a state is in use; a checkpoint after every step, all of them kept for the comparison."""
    settings = train_settings(
        snapshot, out, model="hmar", max_epochs=EPOCHS, patience=4, optimizer="adamw", weight_decay=0.01, warmup=30,
        clip=0.5, lr=1e-2, batch_size=10, checkpoint_seconds=1e-9, keep_checkpoints=10_000, negatives_from="unseen",
        config={"d": 8, "dropout": 0.3, "positions": 10},
    )  # fmt: skip
    file = out.parent / f"{out.name}.json"
    file.write_text(settings.model_dump_json(), encoding="utf-8")
    return str(file)


def losses(out: Path) -> dict[int, torch.Tensor]:
    """Of every step, by how many were done: the losses of its epoch up to it."""
    found = {}
    for path in (out / "checkpoints").glob("*.pt"):
        state = torch.load(path, weights_only=True)
        if state["cursor"]["step"]:
            found[state["cursor"]["total"]] = state["losses"]
    return found


def test_killed_at_twenty_random_instants_it_ends_in_the_same_bits(tmp_path: Path) -> None:
    from mlflow import MlflowClient

    snapshot = cycle_snapshot(tmp_path / "snapshot", users=100).path
    straight, out = tmp_path / "straight" / "out", tmp_path / "killed" / "out"
    rng = random.Random(20)
    with mortals() as started:
        whole = started.train(settings=prepare(snapshot, straight))
        assert whole["code"] == 0
        file = prepare(snapshot, out)
        orders: list[dict[str, Any]] = [{"folder": str(out / "checkpoints"), "sights": n} for n in range(1, SIGHTS + 1)]
        for place in PLACES:
            # All kills together leave some of the training for the end.
            furthest = whole["calls"][place] // 14
            assert furthest > 10
            orders += [{"place": place, "calls": rng.randint(1, furthest)} for _ in range(KILLS)]
        rng.shuffle(orders)
        assert len(orders) >= 20
        for order in orders:
            assert started.train(settings=file, **order)["code"] == -signal.SIGKILL, order
        assert started.train(settings=file)["code"] == 0

    assert read_record(straight).status == read_record(out).status == "finished"
    histories = [json.loads((at / "history.json").read_text(encoding="utf-8")) for at in (straight, out)]
    assert computed(histories[0]) == computed(histories[1])
    steps, again = losses(straight), losses(out)
    assert again.keys() == steps.keys()
    assert all(torch.equal(again[step], steps[step]) for step in steps)
    for name in ("best.safetensors", "model/weights.safetensors"):
        one, other = load_file(straight / name), load_file(out / name)
        assert one.keys() == other.keys()
        assert all(torch.equal(tensor, other[key]) for key, tensor in one.items())

    record = read_record(out)
    client = MlflowClient(tracking_uri=f"sqlite:///{out.parent / 'mlflow.db'}")
    (run,) = client.search_runs([client.get_experiment_by_name("hmar").experiment_id])
    assert (run.info.run_id, run.info.status) == (record.mlflow_run, "FINISHED")
    logged = sorted(point.step for point in client.get_metric_history(run.info.run_id, "train/loss"))
    assert logged == list(range(1, record.epochs + 1))
