"""Every shipped preset builds its models for its dataset's behaviors, and HMAR's shape is the published one."""

import pytest

from hmar.models import MODELS, model_class
from hmar.models.base import Vocabulary
from hmar.settings import read_yaml
from hmar.train.settings import TrainSettings, preset, preset_names
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


# Dataset: d, L, lr, dropout, weights by behavior, theta, whether the script has the behavior encoder.
AS_PUBLISHED = {
    "taobao": (80, 150, 6e-4, 0.45, {"buy": 0.7, "cart": 0.1, "fav": 0.1, "pv": 0.1}, 0.1, True),
    "tmall": (80, 150, 6e-4, 0.45, {"buy": 0.7, "cart": 0.1, "fav": 0.1, "click": 0.1}, 0.1, True),
    "tianchi": (40, 100, 5e-4, 0.6, {"buy": 0.7, "cart": 0.1, "fav": 0.1, "click": 0.1}, 0.15, True),
    "yelp": (50, 170, 7e-4, 0.4, {"like": 0.3, "tip": 0.3, "neutral": 0.2, "dislike": 0.2}, 0.1, False),
    "movielens": (50, 120, 6e-4, 0.4, {"like": 0.8, "neutral": 0.1, "dislike": 0.1, "tag": 0.1}, 0.1, False),
}


@pytest.mark.parametrize("name", AS_PUBLISHED)
def test_the_published_protocol_has_the_published_hyper_parameters(name: str) -> None:
    words = {"model": "hmar", "snapshot": "x", "out": "y", "preset": name, "protocol": "published"}
    settings = TrainSettings.resolve(words, use_environment=False)
    config = settings.config
    found = (
        config["d"], settings.max_length, settings.lr, config["dropout"], config["alpha"], config["theta"],
        config["behavior_encoder"],
    )  # fmt: skip
    assert found == AS_PUBLISHED[name]
    assert (config["heads"], config["blocks"], settings.batch_size, settings.betas) == (1, 1, 128, (0.9, 0.98))
    assert (settings.loss, settings.negatives, settings.negatives_from) == ("bce", 1, "unseen")
    assert config["attention_dropout"] == config["dropout"]
    assert config["positions"] == settings.max_length
    assert config["last_norm"] == (name == "movielens")


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
