"""Which model of a run becomes a version, and that it becomes one version only."""

from pathlib import Path

import pytest

from hmar.errors import DataError, ModelError
from pipeline.registry import TAG, own_tags
from pipeline.results import Evaluated
from pipeline.stages.register import nominee, register
from tests.support.registry import Shop


def _judged(model: str, validation: float | None, test: float = 0.0) -> Evaluated:
    metrics = {"validation": {} if validation is None else {"ndcg@10": validation}, "test": {"ndcg@10": test}}
    return Evaluated(model=model, directory=Path(model), mlflow_run=model, metrics=metrics)


def test_nominee_is_best_on_validation_whatever_the_test_says() -> None:
    judged = [_judged("hmar", 0.2, test=0.9), _judged("sasrec", 0.3, test=0.1), _judged("popularity", 0.1, test=1.0)]
    assert nominee(judged, "ndcg@10").model == "sasrec"


def test_a_rule_can_be_nominated() -> None:
    assert nominee([_judged("hmar", 0.2), _judged("recent", 0.4)], "ndcg@10").model == "recent"


def test_among_equals_the_earlier_in_the_settings_wins() -> None:
    judged = [_judged("recent", 0.2), _judged("hmar", 0.2), _judged("sasrec", 0.2)]
    assert nominee(judged, "ndcg@10", ("sasrec", "hmar", "recent")).model == "sasrec"
    assert nominee(judged, "ndcg@10", ("recent", "hmar", "sasrec")).model == "recent"


def test_without_validation_targets_nothing_can_be_chosen() -> None:
    with pytest.raises(DataError, match="no validation targets"):
        nominee([_judged("hmar", None)], "ndcg@10")


@pytest.mark.slow
def test_version_holds_the_run_and_says_what_it_is(shop: Shop) -> None:
    worse = shop.judged("night", "recent", shop.ranks(1), validation=0.1)
    best = shop.judged("night", "popularity", shop.ranks(9), validation=0.2)
    found = register(shop.s, shop.built, [worse, best])
    assert (found.name, found.version, found.model, found.mlflow_run) == (
        "hmar-tiny", "1", "popularity", best.mlflow_run,
    )  # fmt: skip
    version = shop.registry.version("1")
    assert version.run_id == best.mlflow_run
    tags = own_tags(version)
    assert tags["model"] == "popularity"
    assert (tags["run"], tags["snapshot"], tags["split"]) == ("night", shop.built.id, "leave_one_out")
    assert tags["validation.ndcg_at_10"] == "0.200000"
    assert (shop.registry.download("1", shop.s.paths.root / "copy") / "weights.safetensors").is_file()


@pytest.mark.slow
def test_registering_again_makes_no_second_version(shop: Shop) -> None:
    judged = [shop.judged("night", "popularity", shop.ranks(1), validation=0.2)]
    assert register(shop.s, shop.built, judged) == register(shop.s, shop.built, judged)
    assert [version.version for version in shop.registry.versions()] == [1]


@pytest.mark.slow
def test_version_of_a_killed_call_is_taken_and_its_tags_completed(shop: Shop) -> None:
    judged = shop.judged("night", "popularity", shop.ranks(1), validation=0.2)
    registry = shop.registry
    registry.ensure()
    registry.create(judged.directory.as_uri(), judged.mlflow_run, {TAG + "model": "popularity"}, None)
    assert register(shop.s, shop.built, [judged]).version == "1"
    assert own_tags(registry.version("1"))["snapshot"] == shop.built.id


@pytest.mark.slow
def test_run_without_a_logged_model_is_refused(shop: Shop) -> None:
    judged = shop.judged("night", "popularity", shop.ranks(1), validation=0.2, logged=False)
    with pytest.raises(ModelError, match="has no logged model; train it again"):
        register(shop.s, shop.built, [judged])
    assert shop.registry.versions() == []
