"""Epochs reach MLflow once each, whatever the store does meanwhile."""

from pathlib import Path
from typing import Any

import pytest

from hmar.errors import ServiceError
from hmar.tracking.run import TrackedRun
from hmar.train import record as record_module
from hmar.train.record import EpochLog
from tests.support.training import blank_store


def row(epoch: int) -> dict[str, Any]:
    return {
        "epoch": epoch, "loss": 1.0 / epoch, "tokens": 100, "seconds": 2.0, "memory_mb": 5.0, "at": 1000.0 + epoch,
        "validation": {"ndcg@10": 0.1 * epoch}, "validation_seconds": 0.5,
    }  # fmt: skip


@pytest.fixture
def run(tmp_path: Path) -> TrackedRun:
    return TrackedRun.open(blank_store(tmp_path / "mlflow.db"), experiment="e", identity="i", name="n")


def logged(run: TrackedRun) -> list[int]:
    return sorted(point.step for point in run.client.get_metric_history(run.run_id, "train/loss"))


def unexpected(text: str) -> None:
    raise AssertionError(text)


def test_every_epoch_once(run: TrackedRun) -> None:
    epochs = EpochLog(run, unexpected)
    history = [row(1)]
    epochs.follow(history)
    epochs.follow(history)
    history += [row(2), row(3)]
    epochs.follow(history)
    epochs.flush(history)
    assert logged(run) == [1, 2, 3]
    metrics = run.client.get_run(run.run_id).data.metrics
    assert metrics["train/tokens_per_second"] == 50.0
    assert metrics["train/validation/ndcg_at_10"] == pytest.approx(0.3)


def test_a_continued_training_does_not_repeat_what_is_logged(run: TrackedRun) -> None:
    EpochLog(run, unexpected).follow([row(1), row(2)])
    EpochLog(run, unexpected).follow([row(1), row(2), row(3)])
    assert logged(run) == [1, 2, 3]


def test_a_store_that_goes_away_is_warned_of_once_and_caught_up_with(
    run: TrackedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record_module, "RETRY_SECONDS", 0)
    warnings: list[str] = []
    epochs = EpochLog(run, warnings.append)
    history = [row(1)]
    epochs.follow(history)
    database, away = tmp_path / "mlflow.db", tmp_path / "away.db"
    run.client._tracking_client.store.engine.dispose()
    database.rename(away)
    database.mkdir()
    for epoch in (2, 3):
        history.append(row(epoch))
        epochs.follow(history)
    assert len(warnings) == 1
    assert "training goes on" in warnings[0]
    with pytest.raises(ServiceError):
        epochs.flush(history)
    database.rmdir()
    away.rename(database)
    epochs.flush(history)
    assert logged(run) == [1, 2, 3]


def test_a_store_that_is_away_is_left_alone_for_a_while(run: TrackedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    tries = 0

    def refuse() -> None:
        nonlocal tries
        tries += 1
        raise ServiceError("away")

    monkeypatch.setattr(run, "check", refuse)
    epochs = EpochLog(run, lambda text: None)
    for epoch in range(1, 10):
        epochs.follow([row(epoch)])
    assert tries == 1


def test_values_that_arrived_though_the_answer_got_lost_are_not_sent_again(
    run: TrackedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record_module, "RETRY_SECONDS", 0)
    send = run.log_metrics

    def lose_the_answer(points: Any) -> None:
        send(points)
        raise ServiceError("connection reset")

    monkeypatch.setattr(run, "log_metrics", lose_the_answer)
    epochs = EpochLog(run, lambda text: None)
    epochs.follow([row(1)])
    monkeypatch.setattr(run, "log_metrics", send)
    epochs.flush([row(1), row(2)])
    assert logged(run) == [1, 2]
