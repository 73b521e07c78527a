"""See golden_losses.py for what the numbers are and how to renew them."""

import json
from pathlib import Path

import pytest

from hmar.losses import LOSSES, RANKER_LOSSES
from hmar.models import MODELS, model_class
from tests.hmar.models.golden_losses import GOLDEN, RUNS, STEPS, losses


@pytest.mark.parametrize("run", RUNS)
def test_losses_are_what_they_were(run: str, tmp_path: Path) -> None:
    expected = json.loads((GOLDEN / f"{run}.json").read_text(encoding="utf-8"))
    assert len(expected) == STEPS
    assert losses(run, tmp_path) == pytest.approx(expected, rel=1e-5)


def test_every_trained_model_has_golden_losses_with_every_loss() -> None:
    losses = {"encoder": LOSSES, "ranker": RANKER_LOSSES, "rule": {}}
    assert set(RUNS.values()) == {(name, loss) for name in MODELS for loss in losses[model_class(name).family]}
    assert {path.stem for path in GOLDEN.iterdir()} == set(RUNS)
