"""One model of several tasks: its batches, and what it learns of each."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch

from hmar.data.impressions import ImpressionBatch, ImpressionData
from hmar.data.snapshot import Snapshot
from hmar.data.task_turns import TaskTurns
from hmar.errors import DataError, Interrupted
from hmar.evaluate.impressions import judge_impressions
from hmar.evaluate.run import evaluate
from hmar.evaluate.settings import EvaluateSettings
from hmar.train.session import train
from hmar.train.settings import TrainSettings
from hmar.train.signals import StopSignal
from tests.hmar.train.test_loop import StopAfter, same, weights
from tests.support.planted import opposite_tasks
from tests.support.training import computed, make_trainer, train_settings

SPLIT = "leave_one_out"
VIEW, BUY = 0, 2


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    return opposite_tasks(tmp_path_factory.mktemp("tasks") / "snapshot")


def settings(shown: Snapshot, out: Path, **values: Any) -> TrainSettings:
    config = {"d": 16, "spaces": 2, "dropout": 0.1, "tasks": ["buy", "view"]}
    small = {"model": "atrank", "loss": "", "negatives_from": "unseen", "config": config, "negatives": 2}
    return train_settings(shown, out, **{**small, "batch_size": 60, "max_length": 20, **values})


def equal(one: ImpressionBatch, other: ImpressionBatch) -> bool:
    names = [field.name for field in fields(one) if field.name != "histories"]
    pairs = [(getattr(one, name), getattr(other, name)) for name in names]
    pairs += [(getattr(one.histories, name), getattr(other.histories, name)) for name in ("item", "now", "asked")]
    return all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("sizes", [(60, 60), (100, 25), (600, 7)])
def test_every_task_has_its_own_batches_spread_over_the_epoch(shown: Snapshot, sizes: tuple[int, int]) -> None:
    own = [
        ImpressionData(shown, SPLIT, max_length=20, batch_size=size, seed=3, task=task)
        for size, task in zip(sizes, ("", "view"), strict=True)
    ]
    turns = TaskTurns(own)
    assert turns.steps == own[0].steps + own[1].steps
    assert turns.tokens == own[0].tokens + own[1].tokens
    for epoch in (0, 1):
        found = list(turns.batches(epoch))
        asked = [set(batch.histories.asked.tolist()) for batch in found]
        for task, code in zip(own, (BUY, VIEW), strict=True):
            of_task = [batch for batch, codes in zip(found, asked, strict=True) if codes == {code}]
            assert len(of_task) == task.steps
            assert all(equal(a, b) for a, b in zip(of_task, task.batches(epoch), strict=True))
        # At no time is a task ahead of another by more than a batch.
        done = torch.tensor([[task == 0, task == 1] for task in turns.turns]).cumsum(0)
        shares = done / torch.tensor([task.steps for task in own])
        assert (shares[:, 0] - shares[:, 1]).abs().max() <= max(1 / task.steps for task in own)
        for start in (1, turns.steps - 1):
            rest = turns.batches(epoch, start)
            assert all(equal(a, b) for a, b in zip(found[start:], rest, strict=True))
        for step in (0, 1, turns.steps - 1):
            assert turns.users(epoch, step).tolist() == sorted(set(found[step].user.tolist()))
        shares_of_two = [list(turns.shares(epoch, 0, rank, 2)) for rank in (0, 1)]
        for whole, *parts in zip(found, *shares_of_two, strict=True):
            assert sum(len(part.user) for part, _ in parts) == len(whole.user)
            assert {count for _, count in parts} == {int(whole.real.sum())}


@pytest.mark.slow
def test_one_model_learns_opposite_tasks(shown: Snapshot, tmp_path: Path) -> None:
    """And knows which of them it is asked: the one's answers are wrong for the other."""
    trainer = make_trainer(settings(shown, tmp_path / "out", max_epochs=12, lr=1e-2))
    trainer.fit()
    model = trainer.model.eval()
    auc = {task: judge_impressions(model, shown, SPLIT, "validation", max_length=20, task=task).mean("auc")
           for task in ("buy", "view")}  # fmt: skip
    assert min(auc.values()) > 0.7  # a third of the sampled negatives are right items: 0.8 is about all there is
    assert trainer.stopping.best == pytest.approx(max(row["validation"]["auc"] for row in trainer.history))
    assert trainer.history[-1]["validation"]["auc"] == pytest.approx(sum(auc.values()) / 2)
    with torch.no_grad():  # the other task's own weights
        model.task.weight.copy_(model.task.weight.flip(0))
        model.head.bias.weight.copy_(model.head.bias.weight.view(-1, 3).flip(1).reshape(-1, 1))
    for task in ("buy", "view"):
        assert judge_impressions(model, shown, SPLIT, "validation", max_length=20, task=task).mean("auc") < 0.5


def test_stopped_and_continued_it_ends_in_the_same_bits(shown: Snapshot, tmp_path: Path) -> None:
    straight = make_trainer(settings(shown, tmp_path / "straight", max_epochs=2))
    straight.fit()
    stopped = settings(shown, tmp_path / "stopped", max_epochs=2)
    with pytest.raises(Interrupted, match="checkpoint written"):
        make_trainer(stopped, stop=StopAfter(7)).fit()
    continued = make_trainer(stopped)
    assert continued.restore()
    continued.fit()
    assert computed(continued.history) == computed(straight.history)
    assert same(weights(continued), weights(straight))


@pytest.mark.slow
def test_every_task_is_judged(shown: Snapshot, tmp_path: Path) -> None:
    given = settings(shown, tmp_path / "out", max_epochs=1)
    train(given, StopSignal())
    words = {
        "training": str(tmp_path / "out"),
        "snapshot": str(shown.path),
        "out": str(tmp_path / "judged"),
        "threads": 1,
    }
    found = evaluate(EvaluateSettings.resolve(words, use_environment=False))
    for task, name in (("buy", "impressions"), ("view", "impressions_view")):
        held = shown.impressions(SPLIT, "validation", task)
        assert found.metrics[f"validation/{name}/all/positives"] == held.label.sum() > 0
        assert (found.directory / f"{name}_validation.parquet").is_file()
    assert (found.directory / "plots/auc_by_length_view_validation.png").stat().st_size > 0


def test_a_task_without_impressions_is_refused(shown: Snapshot, tmp_path: Path) -> None:
    given = settings(shown, tmp_path / "out", config={"d": 8, "tasks": ["cart"]})
    with pytest.raises(DataError, match=r"about 'cart', only about buy, view; name it in snapshot\.impressions\.tasks"):
        make_trainer(given)
