"""Rankers go through the same loop: stopped and continued, short of memory, shared by processes, logged."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from hmar.data.snapshot import Snapshot
from hmar.errors import DataError, Interrupted, ModelError
from hmar.losses import loss_function
from hmar.train.loop import Trainer
from hmar.train.session import train
from hmar.train.settings import TrainSettings
from hmar.train.signals import StopSignal
from tests.hmar.train.test_loop import StopAfter, same, weights
from tests.support.arrays import write_impressions
from tests.support.training import computed, cycle_snapshot, make_trainer, train_settings


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    """Every event is a moment at which the next item of the circle is right and two others are not."""
    snapshot = cycle_snapshot(tmp_path_factory.mktemp("snapshot") / "cycle", users=60, items=12)
    return write_impressions(snapshot, ("view", "cart", "buy"), (), sampled=2)


def settings(shown: Snapshot, out: Path, **values: Any) -> TrainSettings:
    din = {"model": "din", "loss": "", "negatives_from": "unseen", "config": {"d": 12, "dropout": 0.2}, "negatives": 2}
    return train_settings(shown, out, **{**din, "batch_size": 40, **values})


@pytest.mark.slow
def test_learns_what_is_certain(shown: Snapshot, tmp_path: Path) -> None:
    trainer = make_trainer(settings(shown, tmp_path / "out", max_epochs=25, lr=1e-2))
    trainer.fit()
    assert trainer.stopping.best is not None
    assert trainer.stopping.best > 0.95
    assert set(trainer.history[0]["validation"]) == {"auc", "gauc"}


@pytest.mark.parametrize("looks", [1, 5, 11, 19, 26])
def test_stopped_anywhere_and_continued_it_ends_in_the_same_bits(shown: Snapshot, tmp_path: Path, looks: int) -> None:
    values: dict[str, Any] = {"in_batch": 1, "max_epochs": 2}
    straight = make_trainer(settings(shown, tmp_path / "straight", **values))
    straight.fit()
    stopped = settings(shown, tmp_path / "stopped", **values)
    with pytest.raises(Interrupted, match="checkpoint written"):
        make_trainer(stopped, stop=StopAfter(looks)).fit()
    torch.manual_seed(12345)
    continued = make_trainer(stopped)
    assert continued.restore()
    continued.fit()
    assert computed(continued.history) == computed(straight.history)
    assert same(weights(continued), weights(straight))
    assert same(*(load_file(tmp_path / name / "best.safetensors") for name in ("straight", "stopped")))


class Short:
    """Memory for so many moments and no more."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.moments: list[int] = []

    def __call__(self, logits: Tensor, batch: Any) -> Tensor:
        self.moments.append(len(batch.user))
        if len(batch.user) > self.room:
            raise torch.OutOfMemoryError("out of memory")
        loss: Tensor = loss_function("log_loss")(logits, batch)
        return loss


def test_short_of_memory_it_goes_on_to_the_same_result(shown: Snapshot, tmp_path: Path) -> None:
    still = {"config": {"d": 12, "dropout": 0.0}, "max_epochs": 1}
    straight = make_trainer(settings(shown, tmp_path / "straight", **still))
    straight.fit()
    short = Short(room=12)
    trainer = make_trainer(settings(shown, tmp_path / "short", **still), loss=short)
    trainer.fit()
    assert short.moments[:6] == [40, 20, 10, 10, 10, 10]
    assert trainer.history[0]["loss"] == pytest.approx(straight.history[0]["loss"], rel=1e-5)
    for name, tensor in weights(trainer).items():
        torch.testing.assert_close(tensor, weights(straight)[name], rtol=1e-3, atol=1e-4)


def test_a_bad_loss_names_the_users_of_its_moments(shown: Snapshot, tmp_path: Path) -> None:
    def broken(logits: Tensor, batch: Any) -> Tensor:
        return logits.sum() * torch.nan

    trainer: Trainer = make_trainer(settings(shown, tmp_path / "out"), loss=broken)
    with pytest.raises(ModelError, match=r"loss is nan at epoch 1, step 1; its users are in .*bad_batch.json"):
        trainer.fit()


def test_a_session_ends_in_an_exported_model(shown: Snapshot, tmp_path: Path) -> None:
    from mlflow import MlflowClient

    from hmar.export import load

    given = settings(shown, tmp_path / "out", max_epochs=2)
    record = train(given, StopSignal())
    assert (record.metric, record.status) == ("auc", "finished")
    loaded = load(tmp_path / "out" / "model")
    assert loaded.meta.model == "din"
    assert loaded.model.vocabulary.feedback == (1, 1, 1)
    metrics = MlflowClient(tracking_uri=given.tracking.uri).get_run(str(record.mlflow_run)).data.metrics
    assert metrics["train/best_validation_auc"] == pytest.approx(record.best_metric)
    assert metrics["train/validation/auc"] > 0


def test_without_impressions_it_says_what_to_do(tmp_path: Path) -> None:
    snapshot = cycle_snapshot(tmp_path / "cycle", users=10)
    with pytest.raises(DataError, match=r"no labelled impressions of split leave_one_out; set snapshot\.impressions"):
        make_trainer(settings(snapshot, tmp_path / "out"))


def test_an_encoder_may_be_chosen_by_impressions(shown: Snapshot, tmp_path: Path) -> None:
    trainer = make_trainer(train_settings(shown, tmp_path / "out", max_epochs=1, select_metric="gauc"))
    trainer.fit()
    assert trainer.stopping.best == trainer.history[0]["validation"]["gauc"]
