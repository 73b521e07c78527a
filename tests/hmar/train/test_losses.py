"""Every loss through the loop, for every encoder: batches carry what it needs, and it can be resumed."""

from pathlib import Path
from typing import Any

import pytest
import torch

from hmar.losses import LOSSES
from hmar.models import MODELS, model_class
from tests.support.training import cycle_snapshot, make_trainer, train_settings

CHOICES: dict[str, dict[str, Any]] = {
    "bce": {"loss": "bce", "negatives": 3},
    "bce-shared": {"loss": "bce", "negatives": 8, "negatives_per": "batch"},
    "bpr": {"loss": "bpr", "negatives_from": "unseen", "negatives": 2},
    "cross_entropy": {"loss": "cross_entropy", "chunk_mb": 0.01},
    "gbce": {"loss": "gbce", "negatives": 8, "gbce_t": 0.9},
    "gbce-shared": {"loss": "gbce", "negatives": 8, "negatives_per": "batch"},
    "sampled_softmax": {"loss": "sampled_softmax", "negatives": 8, "negatives_from": "popularity"},
    "sampled_softmax-shared": {"loss": "sampled_softmax", "negatives": 8, "negatives_per": "batch"},
}
CONFIGS: dict[str, dict[str, Any]] = {
    "hmar": {"d": 16, "dropout": 0.2, "positions": 10},
    "hmar_plus": {"d": 16, "blocks": 1, "dropout": 0.2, "positions": 10},
    "sasrec": {"d": 16, "blocks": 1, "dropout": 0.2, "positions": 10},
    "gru4rec": {"d": 16, "dropout": 0.2},
    "caser": {"d": 16, "window": 4, "horizontal": 3, "vertical": 2, "dropout": 0.2},
    "bpr_mf": {"d": 16},
}

FAST = ("hmar", "sasrec")
"""Encoders that the fast lane trains, too."""


def test_every_encoder_and_every_loss_is_here() -> None:
    assert set(CONFIGS) == {name for name in MODELS if model_class(name).family == "encoder"}
    assert {choice["loss"] for choice in CHOICES.values()} == set(LOSSES)


@pytest.mark.parametrize(
    "model", [pytest.param(name, marks=[] if name in FAST else [pytest.mark.slow]) for name in CONFIGS]
)
@pytest.mark.parametrize("choice", CHOICES)
def test_a_training_learns_and_resumes_to_the_same_bits(model: str, choice: str, tmp_path: Path) -> None:
    snapshot = cycle_snapshot(tmp_path / "snapshot", users=60, items=15)
    settings = train_settings(
        snapshot, tmp_path / "whole", model=model, config=CONFIGS[model], max_epochs=4, **CHOICES[choice]
    )
    whole = make_trainer(settings, validate=None)
    whole.fit()
    course = [row["loss"] for row in whole.history]
    assert course[-1] < course[0]

    def cut(epochs: int) -> Any:
        values = {**settings.model_dump(mode="json"), "out": str(tmp_path / "cut"), "max_epochs": epochs}
        trainer = make_trainer(type(settings).resolve(values, use_environment=False), validate=None)
        trainer.restore()
        trainer.fit()
        return trainer

    cut(2)
    resumed = cut(4)
    assert [row["loss"] for row in resumed.history] == course
    for name, weight in whole.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], weight), name
