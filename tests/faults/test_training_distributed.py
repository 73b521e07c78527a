"""Two real processes under the real torchrun: one training, the same one."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from safetensors.torch import load_file

from hmar.train.directory import read_record
from tests.support.arrays import write_impressions
from tests.support.training import computed, cycle_snapshot, log_has, train_settings, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

STILL = {"d": 16, "dropout": 0.0, "positions": 10}
"""Without dropout, of which every process has noise of its own."""


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """130 users: the last batch of an epoch has two, so that with three processes one of them has nothing to do."""
    return cycle_snapshot(tmp_path_factory.mktemp("snapshot") / "cycle", users=130).path


class Training:
    """One training directory, which may be trained in by another number of processes at every start."""

    def __init__(self, snapshot: Path, out: Path, **values: Any) -> None:
        self.out = out
        settings = train_settings(snapshot, out, batch_size=16, log_seconds=1e-6, **values)
        self.file = out.parent / f"{out.name}.json"
        self.file.write_text(settings.model_dump_json(), encoding="utf-8")
        self.uri = settings.tracking.uri

    def start(self, processes: int, torchrun: bool = True) -> "subprocess.Popen[str]":
        command = ["-m", "hmar.train", "--settings", str(self.file)]
        if processes > 1 and torchrun:
            command = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", *command]
        elif processes > 1:
            command.append(f"--processes={processes}")
        return subprocess.Popen(
            [sys.executable, *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )

    def run(self, processes: int) -> str:
        process = self.start(processes)
        shown, err = process.communicate(timeout=180)
        assert process.returncode == 0, err
        return shown

    def until(self, process: "subprocess.Popen[str]", pattern: str) -> None:
        log = self.out / "train.log"
        wait_until(lambda: log_has(log, pattern) or process.poll() is not None, pattern, every=0.002)

    @property
    def history(self) -> list[dict[str, Any]]:
        return computed(json.loads((self.out / "history.json").read_text(encoding="utf-8")))

    @property
    def weights(self) -> dict[str, torch.Tensor]:
        tensors: dict[str, torch.Tensor] = load_file(self.out / "model" / "weights.safetensors")
        return tensors

    def runs(self) -> list[Any]:
        from mlflow import MlflowClient

        client = MlflowClient(tracking_uri=self.uri)
        return list(client.search_runs([client.get_experiment_by_name("hmar").experiment_id]))


def assert_equal_but_for_rounding(one: Training, other: Training) -> None:
    assert len(one.history) == len(other.history)
    for got, expected in zip(one.history, other.history, strict=True):
        assert got["tokens"] == expected["tokens"]
        assert got["loss"] == pytest.approx(expected["loss"], rel=1e-5)
    weights = other.weights
    for name, tensor in one.weights.items():
        if not name.endswith("qkv.bias"):  # its keys' part has no gradient but rounding, which Adam scales up
            torch.testing.assert_close(tensor, weights[name], rtol=1e-3, atol=1e-4)


def ended(process: psutil.Process) -> bool:
    """A zombie has: in a container often nobody collects orphans."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.fixture(scope="module")
def alone(snapshot: Path, tmp_path_factory: pytest.TempPathFactory) -> Training:
    """What one process makes of it."""
    training = Training(snapshot, tmp_path_factory.mktemp("alone") / "out", model="hmar", config=STILL, clip=1.0)
    training.run(1)
    return training


def test_three_processes_train_what_one_trains(snapshot: Path, alone: Training, tmp_path: Path) -> None:
    training = Training(snapshot, tmp_path / "out", model="hmar", config=STILL, clip=1.0)
    shown = training.run(3)
    assert shown.count("epoch 3/3 loss") == 1
    assert "3 processes" in shown
    assert_equal_but_for_rounding(training, alone)
    assert read_record(training.out).status == "finished"
    (run,) = training.runs()
    assert run.data.tags["hmar.processes"] == "3"


def test_asked_to_stop_all_stop_at_one_step_and_another_number_goes_on(
    snapshot: Path, alone: Training, tmp_path: Path
) -> None:
    training = Training(snapshot, tmp_path / "out", model="hmar", config=STILL, clip=1.0)
    for processes, torchrun, pattern in ((2, True, r"epoch 2/3 step \d"), (2, False, r"epoch 3/3 step [2-8]")):
        process = training.start(processes, torchrun)
        training.until(process, pattern)
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=100)
        assert process.returncode == (1 if torchrun else 75)
        assert re.search(r"^error: stopped by SIGTERM after .*, checkpoint written", err, re.MULTILINE)
        assert read_record(training.out).status == "interrupted"
    assert "continuing after epoch 2" in training.run(1)
    assert_equal_but_for_rounding(training, alone)
    assert len(training.runs()) == 1


@pytest.fixture(scope="module")
def noisy(snapshot: Path, tmp_path_factory: pytest.TempPathFactory) -> Training:
    """Two processes that nobody disturbed, with dropout."""
    training = Training(snapshot, tmp_path_factory.mktemp("noisy") / "out")
    training.run(2)
    return training


@pytest.mark.parametrize("victim", ["0", "1"])
def test_a_process_that_dies_ends_the_others_and_nothing_is_lost(
    snapshot: Path, noisy: Training, tmp_path: Path, victim: str
) -> None:
    """The same bits in the end: the noise of a process is a function of the step and of which process it is."""
    training = Training(snapshot, tmp_path / "out", checkpoint_seconds=0.01)
    process = training.start(2)
    training.until(process, r"epoch 2/3 step \d")
    workers = {child.environ()["RANK"]: child for child in psutil.Process(process.pid).children()}
    workers[victim].kill()
    killed = time.monotonic()
    _, err = process.communicate(timeout=100)
    assert process.returncode == 1  # torchrun's, whatever its processes ended with: that stands in its report
    assert time.monotonic() - killed < 60
    assert re.search(rf"Root Cause.*rank\s+: {victim} .*exitcode  : -9", err, re.DOTALL)
    assert all(ended(worker) for worker in workers.values())
    assert "continuing after epoch" in training.run(2)
    assert training.history == noisy.history
    assert all(torch.equal(tensor, training.weights[name]) for name, tensor in noisy.weights.items())


def test_without_torchrun_the_death_of_another_process_has_its_exit_code(
    snapshot: Path, noisy: Training, tmp_path: Path
) -> None:
    training = Training(snapshot, tmp_path / "out", checkpoint_seconds=0.01)
    process = training.start(2, torchrun=False)
    training.until(process, r"epoch 2/3 step \d")
    (other,) = psutil.Process(process.pid).children()
    other.kill()
    _, err = process.communicate(timeout=100)
    assert process.returncode == 75
    assert err == "error: process 1 of this training ended with exit code -9\n"
    assert read_record(training.out).status == "interrupted"


def test_without_torchrun_the_others_do_not_outlive_the_first(snapshot: Path, tmp_path: Path) -> None:
    training = Training(snapshot, tmp_path / "out", max_epochs=500, patience=500)
    process = training.start(2, torchrun=False)
    training.until(process, r"epoch 2/500 step \d")
    (other,) = psutil.Process(process.pid).children()
    process.kill()
    process.communicate()
    wait_until(lambda: ended(other), "the end of the other process")


def test_a_rule_needs_one_process_and_the_others_know_it(snapshot: Path, tmp_path: Path) -> None:
    training = Training(snapshot, tmp_path / "out", model="popularity", config={})
    training.run(2)
    assert "finished before; nothing to do" in training.run(2)


def test_a_bad_loss_ends_all_and_names_the_users_of_the_whole_batch(snapshot: Path, tmp_path: Path) -> None:
    training = Training(snapshot, tmp_path / "out", lr=1e30, max_epochs=50)
    process = training.start(2)
    _, err = process.communicate(timeout=100)
    assert process.returncode != 0
    assert re.search(r"error: .*loss is (nan|inf) at epoch \d+, step \d+; its users are in", err)
    bad = json.loads((training.out / "bad_batch.json").read_text(encoding="utf-8"))
    assert len(bad["users"]) in (2, 16)
    assert read_record(training.out).status in ("failed", "interrupted")


def test_half_an_environment_is_refused(snapshot: Path, tmp_path: Path) -> None:
    training = Training(snapshot, tmp_path / "out")
    done = subprocess.run(
        [sys.executable, "-m", "hmar.train", "--settings", str(training.file)],
        capture_output=True,
        text=True,
        env={**os.environ, "WORLD_SIZE": "2"},
        check=False,
    )
    assert done.returncode == 78
    assert "WORLD_SIZE is 2 and RANK is not set; start several processes with torchrun" in done.stderr


def test_a_ranker_is_shared_by_moments(tmp_path: Path) -> None:
    cycle = cycle_snapshot(tmp_path / "cycle", users=40, items=12)
    shown = write_impressions(cycle, ("view", "cart", "buy"), (), sampled=2)
    given: dict[str, Any] = {"model": "din", "loss": "", "negatives_from": "unseen", "in_batch": 1, "max_epochs": 2}
    given["config"] = {"d": 12, "dropout": 0.0}
    one, other = Training(shown.path, tmp_path / "one", **given), Training(shown.path, tmp_path / "other", **given)
    one.run(1)
    other.run(3)
    assert [row["tokens"] for row in other.history] == [row["tokens"] for row in one.history]
    for got, expected in zip(other.history, one.history, strict=True):
        assert got["loss"] == pytest.approx(expected["loss"], rel=1e-5)
    for name, tensor in other.weights.items():
        torch.testing.assert_close(tensor, one.weights[name], rtol=1e-2, atol=2e-3)
