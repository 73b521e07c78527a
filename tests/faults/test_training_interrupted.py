"""Real processes, real signals: however a training is ended, the same command brings it to the same bits."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from hmar.train.directory import read_record
from tests.support.training import computed, cycle_snapshot, log_has, train_settings, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

EPOCHS = 12


class Training:
    """One training directory and the command that trains in it."""

    def __init__(self, snapshot: Path, out: Path) -> None:
        self.out = out
        settings = train_settings(
            snapshot, out, max_epochs=EPOCHS, patience=EPOCHS, batch_size=8, log_seconds=1e-6, checkpoint_seconds=0.05,
            config={"d": 16, "blocks": 2, "dropout": 0.3, "positions": 10},
        )  # fmt: skip
        self.file = out.parent / f"{out.name}.json"
        self.file.write_text(settings.model_dump_json(), encoding="utf-8")
        self.uri = settings.tracking.uri

    def start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "hmar.train", "--settings", str(self.file)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )

    def run(self) -> tuple[int, str, str]:
        process = self.start()
        out, err = process.communicate(timeout=200)
        return process.returncode, out, err

    def end_at(self, pattern: str, number: signal.Signals) -> tuple[int, str, float]:
        """Start, send the signal when the log says ``pattern`` anew; exit code, stderr, seconds from signal to end."""
        log = self.out / "train.log"
        before = len(log.read_text(encoding="utf-8")) if log.exists() else 0
        process = self.start()

        def there() -> bool:
            text = log.read_text(encoding="utf-8")[before:] if log.exists() else ""
            return re.search(pattern, text) is not None or process.poll() is not None

        wait_until(there, f"{pattern!r} in {log}", every=0.001)
        sent = time.monotonic()
        process.send_signal(number)
        _, err = process.communicate(timeout=100)
        return process.returncode, err, time.monotonic() - sent

    @property
    def weights(self) -> dict[str, torch.Tensor]:
        tensors: dict[str, torch.Tensor] = load_file(self.out / "model" / "weights.safetensors")
        return tensors

    @property
    def history(self) -> list[dict[str, Any]]:
        return computed(json.loads((self.out / "history.json").read_text(encoding="utf-8")))


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cycle_snapshot(tmp_path_factory.mktemp("snapshot") / "cycle", users=300).path


@pytest.fixture(scope="module")
def straight(snapshot: Path, tmp_path_factory: pytest.TempPathFactory) -> Training:
    """The training that nobody disturbed."""
    training = Training(snapshot, tmp_path_factory.mktemp("straight") / "out")
    code, _, err = training.run()
    assert (code, err) == (0, "")
    return training


def assert_same(training: Training, straight: Training) -> None:
    from mlflow import MlflowClient

    record = read_record(training.out)
    assert record.status == "finished"
    assert training.history == straight.history
    one, other = training.weights, straight.weights
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    client = MlflowClient(tracking_uri=training.uri)
    experiment = client.get_experiment_by_name("hmar")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    assert (run.info.run_id, run.info.status) == (record.mlflow_run, "FINISHED")
    steps = sorted(point.step for point in client.get_metric_history(run.info.run_id, "train/loss"))
    assert steps == list(range(1, EPOCHS + 1))
    assert len(client.search_logged_models([experiment.experiment_id])) == 1


def test_killed_again_and_again_it_ends_in_the_same_bits(snapshot: Path, straight: Training, tmp_path: Path) -> None:
    training = Training(snapshot, tmp_path / "out")
    instants = [
        r"step 1/",  # before the first checkpoint, perhaps
        rf"epoch 3/{EPOCHS} step (1\d|2\d)/",  # inside an epoch
        rf"epoch 6/{EPOCHS} loss",  # between epochs, next to the evaluation and MLflow
        r"exported to",  # while the results are logged
    ]
    for instant in instants:
        code, _, _ = training.end_at(instant, signal.SIGKILL)
        assert code in (-signal.SIGKILL, 0)
    code, _, err = training.run()
    assert (code, err) == (0, "")
    assert_same(training, straight)


def test_asked_to_stop_it_writes_a_checkpoint_and_goes_on(snapshot: Path, straight: Training, tmp_path: Path) -> None:
    training = Training(snapshot, tmp_path / "out")
    for number, instant in [
        (signal.SIGTERM, rf"epoch 2/{EPOCHS} step \d+/"),
        (signal.SIGINT, rf"epoch 7/{EPOCHS} loss"),
    ]:
        code, err, seconds = training.end_at(instant, number)
        assert code == 75
        assert re.fullmatch(
            rf"error: stopped by {number.name}( after .*, checkpoint written)?; the same command continues .*\n", err
        )
        assert seconds < 30  # a second or two; the bound is for a machine that is busy with other tests
        assert read_record(training.out).status == "interrupted"
        assert list((training.out / "checkpoints").glob("*.pt"))
    code, out, err = training.run()
    assert (code, err) == (0, "")
    assert "continuing after epoch 7" in out or "continuing after epoch 8" in out
    assert_same(training, straight)


def test_a_damaged_newest_checkpoint_costs_time_and_nothing_else(
    snapshot: Path, straight: Training, tmp_path: Path
) -> None:
    training = Training(snapshot, tmp_path / "out")
    code, _, _ = training.end_at(rf"epoch 5/{EPOCHS} step \d+/", signal.SIGTERM)
    assert code == 75
    newest = max((training.out / "checkpoints").glob("*.pt"))
    newest.write_bytes(newest.read_bytes()[:-100])
    code, out, err = training.run()
    assert (code, err) == (0, "")
    assert "damaged checkpoint passed over" in out
    assert_same(training, straight)


def test_a_signal_before_anything_happened_is_an_interruption_too(snapshot: Path, tmp_path: Path) -> None:
    training = Training(snapshot, tmp_path / "out")
    process = training.start()
    wait_until(lambda: (training.out / "train.log").exists(), "the log")
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 75
    assert err.startswith("error: stopped by SIGTERM")
    assert not log_has(training.out / "train.log", r"epoch 2/")


def test_a_second_process_in_the_same_directory_is_turned_away(snapshot: Path, tmp_path: Path) -> None:
    training = Training(snapshot, tmp_path / "out")
    first = training.start()
    wait_until(lambda: (training.out / "settings.json").exists(), "the first one's settings")
    code, _, err = training.run()
    first.kill()
    first.communicate()
    assert code == 75
    assert "another process is training here" in err


def test_nothing_but_the_error_line_on_stderr_and_the_traceback_in_the_log(snapshot: Path, tmp_path: Path) -> None:
    settings = train_settings(snapshot, tmp_path / "out", lr=1e30, max_epochs=50)
    (tmp_path / "s.json").write_text(settings.model_dump_json(), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "hmar.train", "--settings", str(tmp_path / "s.json")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 70
    assert re.fullmatch(r"error: loss is (nan|inf) at epoch .*\n", done.stderr)
    assert "Traceback" in (tmp_path / "out" / "train.log").read_text(encoding="utf-8")
    assert read_record(tmp_path / "out").status == "failed"
