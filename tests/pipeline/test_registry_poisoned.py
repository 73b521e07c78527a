"""A version of the registry whose artifacts are pickles: nothing of the pipeline executes them."""

from pathlib import Path

import pytest

from hmar.errors import DataError
from pipeline.results import Promoted
from pipeline.stages.recommend import recommend
from tests.support.poison import POISONS
from tests.support.registry import Shop


def champion_of(shop: Shop) -> Promoted:
    """A registered champion whose own training directory is gone, so that its artifacts are what is left."""
    registered = shop.registered("one", shop.ranks(1))
    shop.registry.point("champion", registered.version)
    shop.forget_training(registered)
    return Promoted(name=registered.name, champion=registered.version, promoted=True, reason="")


def stored(shop: Shop) -> Path:
    """The artifact that holds the weights."""
    (weights,) = shop.s.paths.mlflow_artifacts.rglob("weights.safetensors")
    return weights


@pytest.mark.parametrize("kind", POISONS)
def test_poisoned_weights_are_refused(shop: Shop, tmp_path: Path, kind: str) -> None:
    champion = champion_of(shop)
    stored(shop).write_bytes(POISONS[kind](tmp_path / "executed"))
    with pytest.raises(DataError, match=r"weights\.safetensors: does not fit config\.json .*export the model again"):
        recommend(shop.s, shop.built, champion)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("kind", POISONS)
def test_a_pickled_model_is_no_exported_model(shop: Shop, tmp_path: Path, kind: str) -> None:
    """What MLflow itself would load: python_model.pkl instead of our files."""
    champion = champion_of(shop)
    weights = stored(shop)
    weights.unlink()
    weights.with_name("python_model.pkl").write_bytes(POISONS[kind](tmp_path / "executed"))
    with pytest.raises(DataError, match="version 1: holds no exported model; register a version by 'hmar retrain'"):
        recommend(shop.s, shop.built, champion)
    assert not (tmp_path / "executed").exists()
