"""What was trained or judged with a leak is registered, so that it can be looked at, and gets no alias."""

from typing import Any

import numpy as np
import pytest

from hmar.errors import SettingsError
from hmar.leaks import TAG
from pipeline import preflight
from pipeline.registry import own_tags
from pipeline.results import Evaluated, Registered
from pipeline.settings import RetrainSettings
from pipeline.stages.promote import promote
from pipeline.stages.register import nominee, register
from pipeline.training import training_settings, training_values
from tests.support.registry import Shop


def leaky(shop: Shop, run: str, ranks: np.ndarray) -> Registered:
    judged = shop.judged(run, "popularity", ranks, 0.9).model_copy(update={"leaks": ("hbi=final", "select_on=test")})
    return register(shop.s, shop.built, [judged])


@pytest.mark.slow
def test_a_leaky_model_is_not_the_first_champion(shop: Shop) -> None:
    registered = leaky(shop, "one", shop.ranks(1))
    for _ in range(2):
        done = promote(shop.s, shop.built, registered)
        assert (done.champion, done.promoted) == ("", False)
        assert done.reason == "trained or judged with leaks: hbi=final, select_on=test"
    assert shop.aliases() == {}
    version = shop.registry.version(registered.version)
    assert version.tags[TAG] == "hbi=final, select_on=test"
    assert own_tags(version)["decision"] == "refused"
    assert own_tags(version)["reason"] == done.reason


@pytest.mark.slow
def test_a_leaky_model_does_not_replace_a_champion_that_it_beats(shop: Shop) -> None:
    promote(shop.s, shop.built, shop.registered("one", shop.ranks(20)))
    done = promote(shop.s, shop.built, leaky(shop, "two", shop.ranks(1)))
    assert (done.champion, done.promoted, done.gain) == ("1", False, None)
    assert shop.aliases() == {"champion": "1"}


@pytest.mark.slow
def test_what_is_judged_on_the_published_split_is_refused_whatever_its_tags(shop: Shop) -> None:
    registered = shop.registered("one", shop.ranks(1))
    done = promote(shop.with_settings(split="published").s, shop.built, registered)
    assert (done.promoted, done.reason) == (False, "trained or judged with leaks: split=published")


def test_an_honest_model_is_nominated_before_a_better_one_with_leaks(tmp_path: Any) -> None:
    def judged(model: str, value: float, *leaks: str) -> Evaluated:
        metrics = {"validation": {"ndcg@10": value}}
        return Evaluated(model=model, directory=tmp_path, mlflow_run=model, leaks=leaks, metrics=metrics)

    assert nominee([judged("hmar", 0.9, "hbi=final"), judged("recent", 0.1)], "ndcg@10").model == "recent"
    assert nominee([judged("hmar", 0.9, "hbi=final"), judged("recent", 0.1, "hbi=final")], "ndcg@10").model == "hmar"


# -- settings of a run ---------------------------------------------------------------------------------------------


def run(**values: Any) -> RetrainSettings:
    return RetrainSettings.resolve({"dataset": "movielens", "raw": "x", **values}, use_environment=False)


def test_the_protocol_brings_its_split(tmp_path: Any) -> None:
    assert (run().protocol, run().split) == ("honest", "leave_one_out")
    published = run(protocol="published")
    assert published.split == "published"
    assert "published" in published.snapshot.splits
    assert run(protocol="published", split="temporal").split == "temporal"
    trained = training_settings(published, "hmar", tmp_path, "a-run")
    assert (trained.protocol, trained.split, trained.select_on) == ("published", "published", "test")
    assert trained.config["hbi"] == "final"
    assert training_settings(run(), "hmar", tmp_path, "a-run").config["hbi"] == "running"
    with pytest.raises(SettingsError, match=r"train\.protocol: the pipeline decides this one"):
        training_values(run(train={"protocol": "published"}), "hmar", tmp_path, "a-run")


@pytest.mark.parametrize("values", [{"protocol": "published"}, {"split": "published"}])
def test_a_whole_run_refuses_it(values: dict[str, str]) -> None:
    (key,) = values if len(values) == 1 else ("protocol",)
    with pytest.raises(SettingsError, match=f"{key}: published is for comparison with printed tables"):
        preflight.check(run(**values))
