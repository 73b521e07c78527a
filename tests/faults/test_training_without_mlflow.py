"""The MLflow server goes away in the middle of a training and comes back after it."""

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from hmar.train.directory import read_record
from tests.support.training import blank_store, cycle_snapshot, log_has, train_settings, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.integration, pytest.mark.timeout(400)]

EPOCHS = 60


class Server:
    """An MLflow server over an SQLite file, which can be stopped and started again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = blank_store(folder / "server.db")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])
        self.uri = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [
            sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port), "--workers", "1",
            "--backend-store-uri", self.store, "--artifacts-destination", str(self.folder / "artifacts"),
        ]  # fmt: skip
        environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)
        wait_until(self.answers, "the MLflow server answers", seconds=120, every=0.2)

    def answers(self) -> bool:
        try:
            return httpx.get(f"{self.uri}/health", timeout=2).status_code == 200
        except httpx.HTTPError:
            return False

    def stop(self) -> None:
        if self.process is not None:
            os.killpg(self.process.pid, 9)
            self.process.wait()
            self.process = None


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    one = Server(tmp_path)
    one.start()
    yield one
    one.stop()


def test_training_goes_on_and_its_metrics_arrive_later(server: Server, tmp_path: Path) -> None:
    from mlflow import MlflowClient

    snapshot = cycle_snapshot(tmp_path / "snapshot", users=300)
    out = tmp_path / "out"
    settings = train_settings(
        snapshot, out, max_epochs=EPOCHS, patience=EPOCHS, batch_size=8, tracking={"uri": server.uri}
    )
    (tmp_path / "s.json").write_text(settings.model_dump_json(), encoding="utf-8")
    command = [sys.executable, "-m", "hmar.train", "--settings", str(tmp_path / "s.json")]
    training = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_until(lambda: log_has(out / "train.log", rf"epoch 3/{EPOCHS} loss"), "the third epoch")
    server.stop()
    shown, err = training.communicate(timeout=200)
    assert training.returncode == 69
    assert re.fullmatch(rf"error: MLflow at {server.uri}: .*\n", err)
    assert shown.count("training goes on, its metrics are kept") == 1
    assert f"epoch {EPOCHS}/{EPOCHS} loss" in shown
    record = read_record(out)
    assert (record.status, record.epochs) == ("interrupted", EPOCHS)

    server.start()
    again = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert (again.returncode, again.stderr) == (0, "")
    assert "step 1/" not in again.stdout
    client = MlflowClient(tracking_uri=server.store)
    run = read_record(out).mlflow_run
    assert run == record.mlflow_run is not None
    steps = sorted(point.step for point in client.get_metric_history(run, "train/loss"))
    assert steps == list(range(1, EPOCHS + 1))
    assert client.get_run(run).info.status == "FINISHED"
