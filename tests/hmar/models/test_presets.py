"""Every shipped preset builds its models for its dataset's behaviors, and HMAR's shape is the published one."""

import pytest

from hmar.models import MODELS, model_class
from hmar.models.base import Vocabulary
from hmar.settings import read_yaml
from hmar.train.settings import preset, preset_names
from pipeline.settings import PRESETS
from pipeline.settings import preset_names as dataset_names

# Dataset: d, L, dropout, weight of the target behavior, theta (arXiv 2405.09638).
PUBLISHED = {
    "taobao": (80, 150, 0.45, 0.7, 0.1),
    "tmall": (80, 150, 0.45, 0.7, 0.1),
    "tianchi": (40, 100, 0.6, 0.7, 0.15),
    "yelp": (50, 170, 0.4, 0.3, 0.1),
    "movielens": (50, 120, 0.4, 0.8, 0.1),
}


@pytest.mark.parametrize("name", preset_names())
@pytest.mark.parametrize("model_name", list(MODELS))
def test_a_preset_builds(name: str, model_name: str) -> None:
    # A table of one's own says itself what its behaviors are.
    own = {"behaviors": ["view", "order"], "target": "order", "repeats": True}
    snapshot = read_yaml(PRESETS / f"{name}.yaml").get("snapshot", own)
    behaviors = tuple(snapshot["behaviors"])
    vocabulary = Vocabulary(
        items=10,
        behaviors=behaviors,
        target=behaviors.index(snapshot["target"]),
        repeats=snapshot["repeats"],
        consuming=(False,) * len(behaviors),
    )
    values = preset(name, model_name)
    kind = model_class(model_name)
    kind(kind.Config.parse(values.get("config", {})), vocabulary)
    assert set(values.get("config", {}).get("alpha", behaviors)) == set(behaviors)


def test_every_dataset_has_training_presets() -> None:
    assert set(dataset_names()) == set(preset_names())


@pytest.mark.parametrize("name", PUBLISHED)
def test_hmar_has_the_published_shape(name: str) -> None:
    values, target = preset(name, "hmar"), read_yaml(PRESETS / f"{name}.yaml")["snapshot"]["target"]
    config = values["config"]
    found = (
        config["d"],
        values["max_length"],
        config["dropout"],
        config["alpha"][target],
        config["theta"],
    )
    assert found == PUBLISHED[name]
    assert (values["betas"][1], values["negatives"]) == (0.98, 1)
    assert (config["heads"], config["blocks"]) == (1, 1)
