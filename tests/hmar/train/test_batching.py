"""Trainings whose batches are windows, of similar length, bounded by positions."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from hmar.data.snapshot import Snapshot
from hmar.errors import Interrupted, ModelError, SettingsError
from tests.hmar.train.test_loop import StopAfter, same, weights
from tests.support.training import computed, make_trainer, train_settings

WINDOWS: dict[str, Any] = {"max_length": 3, "long_histories": "windows"}
WAYS = [
    pytest.param({"batching": "by_length"}, id="by_length"),
    pytest.param({**WINDOWS, "batch_tokens": 40}, id="windows-tokens"),
    pytest.param({**WINDOWS, "batching": "by_length", "batch_tokens": 40, "model": "hmar"}, id="all"),
]


@pytest.mark.parametrize("given", WAYS)
@pytest.mark.parametrize("looks", [3, 8])
def test_stopped_and_continued_it_ends_in_the_same_bits(
    cycle: Snapshot, tmp_path: Path, given: dict[str, Any], looks: int
) -> None:
    config = {"d": 8, "dropout": 0.2, "positions": 10}
    straight = make_trainer(train_settings(cycle, tmp_path / "straight", config=config, max_epochs=2, **given))
    straight.fit()
    settings = train_settings(cycle, tmp_path / "stopped", config=config, max_epochs=2, **given)
    with pytest.raises(Interrupted, match="checkpoint written"):
        make_trainer(settings, stop=StopAfter(looks)).fit()
    torch.manual_seed(12345)
    continued = make_trainer(settings)
    assert continued.restore()
    continued.fit()
    assert computed(continued.history) == computed(straight.history)
    assert same(weights(continued), weights(straight))


def test_a_bad_batch_of_windows_names_each_user_once(cycle: Snapshot, tmp_path: Path) -> None:
    met: list[int] = []

    class Bad:
        uses_negatives = False

        def __call__(self, encoder: Any, states: torch.Tensor, batch: Any) -> torch.Tensor:
            met[:] = batch.user.tolist()
            return states.sum() * torch.nan

    given = {**WINDOWS, "batch_size": 300, "max_length": 1}
    trainer = make_trainer(train_settings(cycle, tmp_path / "out", **given), loss=Bad(), validate=None)
    with pytest.raises(ModelError, match=r"loss is nan at epoch 1, step"):
        trainer.fit()
    written = json.loads((tmp_path / "out" / "bad_batch.json").read_text(encoding="utf-8"))
    users = trainer.data.users(0, written["step"] - 1).tolist()
    assert written["users"] == users
    assert written["user_ids"] == [1000 + user for user in users]
    assert len(set(users)) == len(users) < 300
    assert set(users) <= set(cycle.users.column("user").to_pylist())


def test_windows_learn_from_the_whole_history(cycle: Snapshot, tmp_path: Path) -> None:
    """Every training event but the first of each user, however short the windows."""
    tokens = {}
    for way in ("last", "windows"):
        trainer = make_trainer(train_settings(cycle, tmp_path / way, max_length=2, long_histories=way, max_epochs=1))
        trainer.fit()
        tokens[way] = trainer.history[0]["tokens"]
    events = cycle.train_end("leave_one_out") - cycle.offsets[:-1]
    assert tokens == {"last": (events - 1).clip(max=2).sum(), "windows": (events - 1).sum()}


def test_batch_tokens_too_small_for_a_history_is_an_error(cycle: Snapshot, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="batch_tokens: less than twice max_length, which is 10; raise it"):
        train_settings(cycle, tmp_path / "out", batch_tokens=19)


@pytest.mark.parametrize("key", ["batch_tokens", "batching", "long_histories"])
def test_another_way_of_batching_is_another_training(cycle: Snapshot, tmp_path: Path, key: str) -> None:
    """None of them may change when a training is continued."""
    from hmar.train.directory import computing

    one = train_settings(cycle, tmp_path / "out")
    other = train_settings(
        cycle,
        tmp_path / "out",
        **{key: {"batch_tokens": 99, "batching": "by_length", "long_histories": "windows"}[key]},
    )
    assert computing(one.model_dump(mode="json"))[key] != computing(other.model_dump(mode="json"))[key]
