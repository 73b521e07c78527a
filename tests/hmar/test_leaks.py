"""What knows too much says so: trainings, exports, evaluations and whoever would serve them."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from hmar import export, leaks
from hmar.data.snapshot import Snapshot
from hmar.errors import ModelError, SettingsError
from hmar.evaluate.adapt import adapt
from hmar.evaluate.run import evaluate
from hmar.evaluate.settings import EvaluateSettings
from hmar.models.base import Recommender
from hmar.recommend import top_items
from hmar.serving.service import Service
from hmar.train.session import train
from hmar.train.settings import TrainSettings
from hmar.train.signals import StopSignal
from tests.support.models import build
from tests.support.tiny_snapshot import make_snapshot, random_events
from tests.support.training import blank_store

ALL = (
    "hbi=final",
    "candidate_hbi=published",
    "mirrored_context",
    "select_on=test",
    "split=published",
    "negatives=unseen",
)
SMALL = {"d": 8, "positions": 10}
TAOBAO = ("pv", "fav", "cart", "buy")


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    events = random_events(40, 30, 900, seed=1, behaviors=TAOBAO)
    home = tmp_path_factory.mktemp("leaks")
    return make_snapshot(home, events, TAOBAO, splits=["leave_one_out", "published"])


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, ()),
        ({"behavior_encoder": False, "last_norm": True, "positions_from": "newest"}, ()),
        ({"hbi": "none"}, ()),
        ({"hbi": "final"}, ("hbi=final",)),
        ({"candidate_hbi": "published"}, ("candidate_hbi=published",)),
        ({"mirrored_context": True}, ("mirrored_context",)),
    ],
)
def test_leaks_of_a_model(config: dict[str, Any], expected: tuple[str, ...], snapshot: Snapshot) -> None:
    model = build("hmar", {**SMALL, **config}, snapshot)
    assert leaks.of_training(model, snapshot, "leave_one_out", "validation", "full") == expected


def test_leaks_of_a_choice_and_of_a_split(snapshot: Snapshot, tmp_path: Path) -> None:
    model = build("popularity", {}, snapshot)
    assert leaks.of_training(model, snapshot, "leave_one_out", "test", "sampled") == ("select_on=test",)
    assert leaks.of_training(model, snapshot, "published", "validation", "full") == ("split=published",)
    assert leaks.of_split(snapshot, "leave_one_out") == ()
    assert leaks.of_split(snapshot, "published") == ("split=published", "negatives=unseen")
    events = random_events(20, 30, 400, seed=2)
    uniform = make_snapshot(tmp_path, events, splits=["published"], published={"unseen": False})
    assert leaks.of_split(uniform, "published") == ("split=published",)
    for repeats, expected in ((True, ("negatives=unseen",)), (False, ())):
        unseen = make_snapshot(tmp_path, events, repeats=repeats, unseen=True)
        assert leaks.of_split(unseen, "leave_one_out") == expected
        assert leaks.of_split(unseen, "leave_one_out", sampled=False) == ()


def test_the_published_protocol_turns_all_of_them_on_and_each_can_be_taken_back() -> None:
    def resolved(**values: Any) -> TrainSettings:
        words = {"model": "hmar", "snapshot": "x", "out": "y", "preset": "movielens", **values}
        return TrainSettings.resolve(words, use_environment=False)

    honest, published = resolved(), resolved(protocol="published")
    config = published.config
    assert (config["hbi"], config["candidate_hbi"], config["mirrored_context"]) == ("final", "published", True)
    assert (published.split, published.select_on, published.select_among) == ("published", "test", "sampled")
    assert (published.batching, published.batch_size, published.negatives_from) == ("replacement", 128, "unseen")
    assert (published.betas, published.negatives, published.negatives_per) == ((0.9, 0.98), 1, "position")
    config = honest.config
    assert (config["hbi"], config["candidate_hbi"], config["mirrored_context"]) == ("running", "running", False)
    assert (honest.split, honest.select_on, honest.select_among) == ("leave_one_out", "validation", "full")
    assert (honest.batching, config["first_weights"], config["positions_from"]) == ("shuffled", "house", "oldest")

    for key, value in {"hbi": "running", "candidate_hbi": "running", "mirrored_context": False}.items():
        assert resolved(protocol="published", config={key: value}).config == published.config | {key: value}
    assert resolved(protocol="published", split="temporal").config == published.config
    assert resolved(protocol="published", model="recent").select_on == "test"
    assert resolved(protocol="published", preset="").config["hbi"] == "final", "also for a log without a preset"


@pytest.mark.parametrize("config", [{"candidate_hbi": "published"}, {"mirrored_context": True}])
@pytest.mark.parametrize("values", [{"loss": "cross_entropy"}, {"negatives_from": "uniform", "negatives_per": "batch"}])
def test_a_loss_that_does_not_know_the_published_counts_is_refused(
    config: dict[str, Any], values: dict[str, Any]
) -> None:
    words = {"model": "hmar", "snapshot": "x", "out": "y", "config": config, **values}
    with pytest.raises(SettingsError, match="negatives_per: candidate_hbi published and mirrored_context"):
        TrainSettings.resolve(words, use_environment=False)


def test_counts_cannot_be_published_and_absent() -> None:
    words = {"model": "hmar", "snapshot": "x", "out": "y", "config": {"hbi": "none", "candidate_hbi": "published"}}
    with pytest.raises(SettingsError, match="there are no counts under hbi none"):
        TrainSettings.resolve(words, use_environment=False)


# -- from training to serving --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(snapshot: Snapshot, tmp_path_factory: pytest.TempPathFactory) -> TrainSettings:
    """A training by the published protocol, judged. Do not change it."""
    out = tmp_path_factory.mktemp("trained") / "out"
    words = {
        "model": "hmar", "snapshot": str(snapshot.path), "out": str(out), "protocol": "published",
        "config": SMALL, "max_length": 10, "max_epochs": 2, "eval_every": 1,
        "threads": 1, "device": "cpu", "tracking": {"uri": blank_store(out.parent / "mlflow.db")},
    }  # fmt: skip
    settings = TrainSettings.resolve(words, use_environment=False)
    train(settings, StopSignal())
    evaluate(EvaluateSettings.resolve(_judging(out, snapshot), use_environment=False))
    return settings


def _judging(out: Path, snapshot: Snapshot) -> dict[str, Any]:
    return {"training": str(out), "snapshot": str(snapshot.path), "resamples": 100, "threads": 1, "device": "cpu"}


@pytest.mark.slow
def test_the_run_says_it(trained: TrainSettings) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=trained.tracking.uri)
    (run,) = client.search_runs([client.get_experiment_by_name("hmar").experiment_id])
    assert run.data.tags[leaks.TAG] == ", ".join(ALL)
    measured = {name for name in run.data.metrics if "ndcg" in name or "hr_at" in name or "mrr" in name}
    assert {"leaky/train/test_sampled/ndcg_at_10", "leaky/test/sampled/all/hr_at_10"} <= measured
    assert all(name.startswith("leaky/") for name in measured)
    assert "train/loss" in run.data.metrics


@pytest.mark.slow
def test_the_files_say_it(trained: TrainSettings) -> None:
    assert tuple(json.loads((trained.out / "run.json").read_text())["leaks"]) == ALL
    assert export.load(trained.out / "model").meta.leaks == ALL
    (report,) = trained.out.glob("evaluation/*/published/metrics.json")
    assert tuple(json.loads(report.read_text())["leaks"]) == ALL
    rows = pq.read_schema(report.parent / "per_target_test.parquet")
    assert rows.metadata[b"leaks"].decode() == ", ".join(ALL)
    assert "validation ndcg@10" not in (trained.out / "train.log").read_text()


@pytest.mark.slow
def test_what_was_judged_while_training_is_judged_again_the_same(trained: TrainSettings) -> None:
    """The exported model has the published counts at evaluation, as the best epoch had them."""
    history = json.loads((trained.out / "history.json").read_text())
    best = max(row["validation"]["ndcg@10"] for row in history)
    (report,) = trained.out.glob("evaluation/*/published/metrics.json")
    assert json.loads(report.read_text())["metrics"]["test/sampled/all/ndcg@10"] == pytest.approx(best, abs=1e-6)


@pytest.mark.slow
def test_nobody_is_served(trained: TrainSettings, snapshot: Snapshot) -> None:
    loaded = export.load(trained.out / "model")
    with pytest.raises(ModelError, match="trained with leaks"):
        Service(loaded)
    model: Recommender = adapt(loaded, snapshot)
    with pytest.raises(ModelError, match="trained with leaks"):
        top_items(model, snapshot, snapshot.targets("published", "test").user[:3], 5, max_length=10)
    from mlflow.pyfunc import load_model

    record = json.loads((trained.out / "run.json").read_text())
    import mlflow

    mlflow.set_tracking_uri(trained.tracking.uri)
    with pytest.raises(ModelError, match="trained with leaks"):
        load_model(f"models:/{record['mlflow_model']}")


@pytest.mark.slow
def test_an_honest_model_judged_on_the_published_split_is_a_leaky_judgement(
    trained: TrainSettings, snapshot: Snapshot, tmp_path: Path
) -> None:
    model = build("popularity", {}, snapshot)
    exported = export.save(tmp_path / "model", model, snapshot, "leave_one_out", 10)
    words = {"model_dir": str(exported), "out": str(tmp_path / "out"), "snapshot": str(snapshot.path), "resamples": 100}
    honest = evaluate(EvaluateSettings.resolve(words, use_environment=False))
    leaky = evaluate(EvaluateSettings.resolve({**words, "split": "published"}, use_environment=False))
    assert (honest.leaks, leaky.leaks) == ((), ("split=published", "negatives=unseen"))
