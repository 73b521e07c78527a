"""The loop without MLflow: what it learns, keeps, repeats and refuses."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from hmar.data.snapshot import Snapshot
from hmar.errors import DataError, Interrupted, ModelError
from hmar.losses import loss_function
from hmar.train.loop import Trainer
from hmar.train.signals import StopSignal
from tests.support.training import computed, make_trainer, train_settings


def weights(trainer: Trainer) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


class StopAfter(StopSignal):
    """A signal that comes after so many looks at it."""

    def __init__(self, looks: int) -> None:
        super().__init__()
        self.looks = looks

    @property
    def requested(self) -> bool:
        self.looks -= 1
        if self.looks < 0:
            self.name = "SIGTERM"
        return self.looks < 0


@pytest.mark.slow
@pytest.mark.parametrize("model", ["sasrec", "hmar"])
def test_learns_what_is_certain(cycle: Snapshot, tmp_path: Path, model: str) -> None:
    config: dict[str, Any] = {"d": 32, "dropout": 0.1, "positions": 10}
    settings = train_settings(cycle, tmp_path / "out", model=model, max_epochs=40, lr=1e-2, config=config)
    trainer = make_trainer(settings)
    trainer.fit()
    assert trainer.stopping.best is not None
    assert trainer.stopping.best > 0.9
    assert trainer.history[-1]["loss"] < 0.5 * trainer.history[0]["loss"]


@pytest.mark.parametrize("looks", [1, 2, 5, 8, 9, 10, 17, 24, 27])
def test_stopped_anywhere_and_continued_it_ends_in_the_same_bits(cycle: Snapshot, tmp_path: Path, looks: int) -> None:
    straight = make_trainer(train_settings(cycle, tmp_path / "straight"))
    straight.fit()
    settings = train_settings(cycle, tmp_path / "stopped")
    with pytest.raises(Interrupted, match="checkpoint written"):
        make_trainer(settings, stop=StopAfter(looks)).fit()
    torch.manual_seed(12345)
    continued = make_trainer(settings)
    assert continued.restore()
    continued.fit()
    assert computed(continued.history) == computed(straight.history)
    assert same(weights(continued), weights(straight))
    best = [load_file(tmp_path / name / "best.safetensors") for name in ("straight", "stopped")]
    assert same(*best)


def test_a_crash_costs_no_more_than_the_way_from_the_last_checkpoint(cycle: Snapshot, tmp_path: Path) -> None:
    """Nothing is written at the crash: the training restarts from the checkpoint of the epoch before."""
    straight = make_trainer(train_settings(cycle, tmp_path / "straight"))
    straight.fit()
    settings = train_settings(cycle, tmp_path / "crashed")

    class Crash:
        uses_negatives = True
        calls = 0

        def __call__(self, encoder: Any, states: torch.Tensor, batch: Any) -> torch.Tensor:
            self.calls += 1
            if self.calls == 12:
                raise KeyboardInterrupt
            return loss_function("bce")(encoder, states, batch)

    with pytest.raises(KeyboardInterrupt):
        make_trainer(settings, loss=Crash()).fit()
    continued = make_trainer(settings)
    assert continued.restore()
    assert (continued.cursor.epoch, continued.cursor.step) == (1, 0)
    continued.fit()
    assert same(weights(continued), weights(straight))


def test_checkpoints_come_by_the_clock_inside_an_epoch(cycle: Snapshot, tmp_path: Path) -> None:
    settings = train_settings(cycle, tmp_path / "out", max_epochs=1, checkpoint_seconds=1e-9, keep_checkpoints=100)
    trainer = make_trainer(settings)
    trainer.fit()
    names = sorted(path.name[:9] for path in (tmp_path / "out" / "checkpoints").iterdir())
    assert set(names) == {f"{step:09d}" for step in range(1, trainer.data.steps + 1)}


def test_the_best_weights_are_kept_and_patience_ends_it(cycle: Snapshot, tmp_path: Path) -> None:
    values = iter([0.1, 0.5, 0.4, 0.3, 0.2, 0.9])
    kept: list[dict[str, torch.Tensor]] = []

    def validate() -> dict[str, float]:
        kept.append(weights(trainer))
        return {"ndcg@10": next(values)}

    settings = train_settings(cycle, tmp_path / "out", max_epochs=50, patience=3)
    trainer = make_trainer(settings, validate=validate)
    trainer.fit()
    assert trainer.cursor.epoch == 5
    assert (trainer.stopping.best, trainer.stopping.best_epoch) == (0.5, 2)
    assert same(load_file(tmp_path / "out" / "best.safetensors"), kept[1])


def test_evaluates_every_so_many_epochs_and_after_the_last(cycle: Snapshot, tmp_path: Path) -> None:
    settings = train_settings(cycle, tmp_path / "out", max_epochs=5, eval_every=2)
    trainer = make_trainer(settings)
    trainer.fit()
    assert [row["epoch"] for row in trainer.history if row["validation"]] == [2, 4, 5]


def test_without_validation_all_epochs_are_trained(cycle: Snapshot, tmp_path: Path) -> None:
    trainer = make_trainer(train_settings(cycle, tmp_path / "out", max_epochs=4, patience=1), validate=None)
    trainer.fit()
    assert trainer.cursor.epoch == 4
    assert trainer.finished
    assert [row["validation"] for row in trainer.history] == [None] * 4


def test_the_loss_of_an_epoch_is_the_mean_over_its_positions(cycle: Snapshot, tmp_path: Path) -> None:
    seen: list[tuple[float, int]] = []

    class Spy:
        uses_negatives = False

        def __call__(self, encoder: Any, states: torch.Tensor, batch: Any) -> torch.Tensor:
            value = float(len(batch.next_item) % 7)
            seen.append((value, len(batch.next_item)))
            return states.sum() * 0 + value

    trainer = make_trainer(train_settings(cycle, tmp_path / "out", max_epochs=1), loss=Spy(), validate=None)
    trainer.fit()
    expected = sum(value * tokens for value, tokens in seen) / sum(tokens for _, tokens in seen)
    assert trainer.history[0]["loss"] == pytest.approx(expected, rel=1e-12)
    assert trainer.history[0]["tokens"] == trainer.data.tokens


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_stops_it_and_names_the_users(cycle: Snapshot, tmp_path: Path, bad: float) -> None:
    calls = 0

    class Bad:
        uses_negatives = False

        def __call__(self, encoder: Any, states: torch.Tensor, batch: Any) -> torch.Tensor:
            nonlocal calls
            calls += 1
            if calls == 11:
                users.extend(batch.user.tolist())
                return states.sum() * bad
            return states.sum()

    users: list[int] = []
    settings = train_settings(cycle, tmp_path / "out", max_epochs=5)
    trainer = make_trainer(settings, loss=Bad(), validate=None)
    with pytest.raises(ModelError, match=rf"epoch 2, step {11 - trainer.data.steps}.*bad_batch.json.*lower lr"):
        trainer.fit()
    content = json.loads((tmp_path / "out" / "bad_batch.json").read_text(encoding="utf-8"))
    assert content["users"] == users
    assert content["user_ids"] == [1000 + user for user in users]
    restored = make_trainer(settings, validate=None)
    assert restored.restore()
    assert (restored.cursor.epoch, restored.cursor.step) == (1, 0)
    assert all(torch.isfinite(tensor).all() for tensor in restored.model.state_dict().values())


def test_a_gradient_that_is_not_finite_is_never_checkpointed(cycle: Snapshot, tmp_path: Path) -> None:
    """The loss of its step is finite, and the next one's would come after the checkpoint."""
    calls = 0

    class Bad:
        uses_negatives = False

        def __call__(self, encoder: Any, states: torch.Tensor, batch: Any) -> torch.Tensor:
            nonlocal calls
            calls += 1
            if calls == 5:
                users.extend(batch.user.tolist())
                return (0 * states).abs().sqrt().sum()
            return states.sum()

    users: list[int] = []
    settings = train_settings(cycle, tmp_path / "out", checkpoint_seconds=1e-9)
    trainer = make_trainer(settings, loss=Bad(), validate=None)
    with pytest.raises(ModelError, match=r"is not finite after epoch 1, step 5; its users are in .*bad_batch.json"):
        trainer.fit()
    content = json.loads((tmp_path / "out" / "bad_batch.json").read_text(encoding="utf-8"))
    assert (content["epoch"], content["step"], content["users"]) == (1, 5, users)
    restored = make_trainer(settings, validate=None)
    assert restored.restore()
    assert restored.cursor.total == 4


def test_a_checkpoint_of_another_format_is_refused(cycle: Snapshot, tmp_path: Path) -> None:
    settings = train_settings(cycle, tmp_path / "out", max_epochs=1)
    trainer = make_trainer(settings)
    trainer.checkpoints.save(1, {"format": 1})
    with pytest.raises(DataError, match=r"format 1, this code reads \d; finish the training with the version that"):
        trainer.restore()


def test_warmup_and_clipping_reach_the_weights(cycle: Snapshot, tmp_path: Path) -> None:
    plain = make_trainer(train_settings(cycle, tmp_path / "a", max_epochs=1, optimizer="adamw"))
    start = weights(plain)
    warm = make_trainer(train_settings(cycle, tmp_path / "b", max_epochs=1, optimizer="adamw", warmup=10_000))
    clipped = make_trainer(train_settings(cycle, tmp_path / "c", max_epochs=1, clip=1e-12))
    for trainer in (plain, warm, clipped):
        trainer.fit()

    def moved(trainer: Trainer) -> float:
        return sum(float((tensor - start[name]).abs().sum()) for name, tensor in weights(trainer).items())

    assert moved(warm) < 0.01 * moved(plain)
    assert moved(clipped) < 0.1 * moved(plain)


def test_same_seed_same_weights_other_seed_others(cycle: Snapshot, tmp_path: Path) -> None:
    trainers = [
        make_trainer(train_settings(cycle, tmp_path / f"{place}", max_epochs=1, seed=seed))
        for place, seed in enumerate((1, 1, 2))
    ]
    for trainer in trainers:
        torch.manual_seed(trainer.settings.seed)
        trainer.fit()
    first, again, other = (weights(trainer) for trainer in trainers)
    assert same(first, again)
    assert not same(first, other)


def test_half_precision_leaves_the_counts_alone(cycle: Snapshot, tmp_path: Path) -> None:
    """bfloat16 cannot hold 257; the batch must reach the model as it was made."""
    seen: list[torch.dtype] = []

    class Spy:
        uses_negatives = False

        def __call__(self, encoder: Any, states: torch.Tensor, batch: Any) -> torch.Tensor:
            seen.append(batch.next_hbi.dtype)
            return states.float().square().mean()

    settings = train_settings(cycle, tmp_path / "out", max_epochs=1, precision="bf16-mixed")
    make_trainer(settings, loss=Spy(), validate=None).fit()
    assert set(seen) == {torch.float32}
