"""The price list: what its rows take back, what a price is, and the whole of it on a log small enough for a test."""

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from benchmarks import hmar_leaks, leak_table
from benchmarks.leak_prices import Outcomes, prices
from benchmarks.leak_rules import RULES, outcome
from benchmarks.leak_variants import MODEL, Variant, chosen
from hmar.data.snapshot import Snapshot
from hmar.evaluate import metrics, per_target
from hmar.tracking.run import flatten
from pipeline.judged import read_report
from pipeline.settings import RetrainSettings
from pipeline.simulate import simulate
from pipeline.stages.evaluate import evaluate
from pipeline.stages.ingest import land
from pipeline.stages.snapshot import build
from pipeline.stages.train import train
from pipeline.stages.validate import validate
from pipeline.training import training_settings
from tests.support.tiny_snapshot import make_snapshot, random_events

SHOP_ROWS = [
    "published", "last_epoch", "hbi", "candidate_hbi", "mirrored_context", "negatives", "select_on", "all",
    "leave_one_out",
]  # fmt: skip


def settings(dataset: str, **values: Any) -> RetrainSettings:
    words = {"dataset": dataset, "raw": "x", "protocol": "published", **values}
    return RetrainSettings.resolve(words, use_environment=False)


def resolved(s: RetrainSettings, variant: Variant) -> dict[str, Any]:
    """Everything that a row's trainings and its snapshot follow from."""
    own = variant.settings(s, seed=3)
    training = training_settings(own, MODEL, Path("snapshot"), "run").model_dump(mode="json", exclude={"out"})
    return flatten({"train": training, "snapshot": own.snapshot.model_dump(mode="json")})


def changed(s: RetrainSettings, variant: Variant) -> dict[str, Any]:
    """What the row has otherwise than the published one."""
    before, after = resolved(s, chosen(s)[0]), resolved(s, variant)
    assert before.keys() == after.keys()
    return {key: value for key, value in after.items() if value != before[key]}


# -- rows --------------------------------------------------------------------------------------------------------


def test_each_row_takes_one_thing_back() -> None:
    s = settings("taobao", overrides={"hmar": {"lr": 0.01, "config": {"d": 8}}})
    rows = {row.name: row for row in chosen(s)}
    assert list(rows) == SHOP_ROWS
    published = resolved(s, rows["published"])
    assert published["train.lr"] == 0.01
    assert published["train.config.d"] == 8
    assert (published["train.config.hbi"], published["train.config.candidate_hbi"]) == ("final", "published")
    assert (published["train.select_on"], published["train.config.mirrored_context"]) == ("test", True)
    assert published["snapshot.published.unseen"]
    assert changed(s, rows["last_epoch"]) == {"train.eval_every": published["train.max_epochs"]}
    alone = {
        "hbi": {"train.config.hbi": "running"},
        "candidate_hbi": {"train.config.candidate_hbi": "running"},
        "mirrored_context": {"train.config.mirrored_context": False},
        "negatives": {"snapshot.published.unseen": False},
        "select_on": {"train.select_on": "validation", "snapshot.published.own_validation": True},
    }
    together = {key: value for one in alone.values() for key, value in one.items()}
    for name, expected in {**alone, "published": {}, "all": together}.items():
        assert changed(s, rows[name]) == expected, name
    honest = {
        **together,
        "train.split": "leave_one_out",
        "train.select_among": "full",
        "train.negatives_from": "uniform",
        "snapshot.splits": ["leave_one_out"],
    }
    # Another split has negatives of its own settings.
    assert changed(s, rows["leave_one_out"]) == {
        key: value for key, value in honest.items() if not key.startswith("snapshot.published")
    }


def test_films_are_used_up_and_their_script_has_no_behavior_encoder() -> None:
    s = settings("movielens")
    rows = {row.name: row for row in chosen(s)}
    assert "negatives" not in rows
    assert changed(s, rows["behavior_encoder"]) == {"train.config.behavior_encoder": True}
    assert changed(s, rows["all"])["train.config.behavior_encoder"]


# -- prices ------------------------------------------------------------------------------------------------------


def table(users: list[int], ranks: list[int], sampled: list[int], repeat: list[bool]) -> pa.Table:
    return pa.table(
        {
            "user": pa.array(users, pa.int32()),
            "user_id": pa.array([f"u{user}" for user in users]),
            "item_id": pa.array([7] * len(users)),
            "rank_full": pa.array(ranks, pa.int32()),
            "rank_sampled": pa.array(sampled, pa.int32()),
            "repeat": pa.array(repeat),
        }
    )


def test_a_price_is_over_the_targets_that_both_rows_have() -> None:
    repeat = [True, True, False, False]
    published = Outcomes([table([1, 2, 3, 4], [1, 1, 50, 3], [1, 1, 1, 1], repeat),
                          table([1, 2, 3, 4], [1, 50, 50, 3], [1, 1, 50, 1], repeat)])  # fmt: skip
    row = Outcomes([table([4, 3, 1], [50, 50, 1], [1, 50, 50], [False, False, True]),
                    table([4, 3, 1], [50, 2, 1], [1, 50, 1], [False, False, True])])  # fmt: skip
    found = prices(row, published, 0.95, 200)
    full = found["full/all/hr@10"]
    # HR@10 by seed: row (1, 3 and 4) 1/3, 2/3; published on the same targets 2/3, 2/3.
    assert (full["targets"], full["shared"]) == (3, 3)
    assert full["mean"] == pytest.approx(1 / 2)
    assert full["sd"] == pytest.approx(np.std([1 / 3, 2 / 3], ddof=1))
    assert full["price"] == pytest.approx(2 / 3 - 1 / 2)
    assert full["price_sd"] == pytest.approx(np.std([1 / 3, 0], ddof=1))
    assert full["price_low"] <= full["price"] <= full["price_high"]
    assert found["sampled/new/hr@10"]["price"] == pytest.approx(3 / 4 - 1 / 2)
    assert found["sampled/repeat/hr@10"]["price"] == pytest.approx(1 / 2)
    assert found["sampled/repeat/hr@10"]["price_low"] is None, "one user has no interval"
    itself = prices(published, published, 0.95, 200)
    assert {value["price"] for value in itself.values()} == {0.0}
    assert {value["price_high"] for value in itself.values()} == {0.0}


def test_a_stratum_without_targets_has_counts_only() -> None:
    new = Outcomes([table([1, 2], [1, 2], [1, 2], [False, False])])
    found = prices(new, new, 0.95, 200)["full/repeat/hr@10"]
    assert (found["targets"], found["shared"]) == (0, 0)
    assert {found[name] for name in ("mean", "sd", "low", "high", "price", "price_low")} == {None}


def test_other_targets_of_a_user_are_not_compared() -> None:
    published = Outcomes([table([1, 2], [1, 1], [1, 1], [False, False])])
    other = table([1, 2], [50, 50], [1, 1], [False, False])
    other = other.set_column(other.schema.get_field_index("item_id"), "item_id", pa.array([7, 8]))
    found = prices(Outcomes([other]), published, 0.95, 200)["full/all/hr@10"]
    assert (found["targets"], found["shared"], found["mean"], found["price"]) == (2, 1, 0.0, 1.0)


# -- rules -------------------------------------------------------------------------------------------------------


def test_seen_first_is_what_unseen_negatives_give_away(tmp_path: Path) -> None:
    """Every target of the history is hit among unseen negatives; under full ranking, items of the history by
    popularity stand before the rest by popularity."""
    snapshot = make_snapshot(tmp_path, random_events(30, 60, 1200, seed=1), splits=["published"], candidates=20)
    kept = tmp_path / "rules" / "seen.parquet"
    rows = outcome("seen_first", snapshot, "published", 3, kept)
    targets = snapshot.targets("published", "test")
    assert 5 < targets.repeat.sum() < len(targets)
    sampled = per_target.ranks(rows, "sampled")
    assert (sampled[targets.repeat] == 1).all()
    popular = np.zeros(snapshot.n_items)
    for user, end in enumerate(snapshot.train_end("published")):
        own = slice(snapshot.offsets[user], end)
        np.add.at(popular, snapshot.item[own][snapshot.behavior[own] == snapshot.target_behavior], 1)
    for n, rank in enumerate(per_target.ranks(rows, "full")):
        history = np.isin(
            np.arange(snapshot.n_items), snapshot.item[snapshot.offsets[targets.user[n]] : targets.history_end[n]]
        )
        score = popular + history * (popular.max() + 1)
        assert rank == (score >= score[targets.item[n]]).sum()
    assert outcome("seen_first", snapshot, "published", 3, kept).equals(rows)


# -- the whole of it ---------------------------------------------------------------------------------------------


def recomputed(directories: list[Path], split: str, kind: str, metric: str) -> dict[tuple[int, int], float]:
    """(user, item) -> mean over seeds, from the outcomes per target that the evaluations kept."""
    values: dict[tuple[int, int], list[float]] = {}
    for directory in directories:
        (path,) = directory.glob(f"evaluation/*/{split}/per_target_test.parquet")
        rows = per_target.read(path)
        found = metrics.of_ranks(per_target.ranks(rows, kind), metric)
        for user, item, value in zip(rows["user"].to_pylist(), rows["item"].to_pylist(), found, strict=True):
            values.setdefault((user, item), []).append(float(value))
    return {key: float(np.mean(found)) for key, found in values.items()}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A price list of one seed, and the words that make it."""
    home = tmp_path_factory.mktemp("leaks")
    simulate("taobao", home / "raw", users=40, items=130, seed=5)
    small = json.dumps({"hmar": {"device": "cpu", "batch_size": 16, "lr": 0.01, "config": {"d": 8}}})
    words = ["--dataset", "taobao", "--raw", str(home / "raw"), "--home", str(home / "home"), "--epochs", "5"]
    words += ["--seeds", "3", "--jobs", "2", "--resamples", "200", "--overrides", small]
    assert hmar_leaks.main([*words, "--out", str(home / "table")]) == 0
    return home, words


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_all_rows_and_their_prices(made: tuple[Path, list[str]]) -> None:
    home, _ = made
    result: Mapping[str, Any] = json.loads((home / "table.json").read_text())
    rows = result["rows"]
    assert list(rows) == SHOP_ROWS
    assert rows["leave_one_out"]["leaks"] == []
    assert rows["all"]["leaks"] == ["split=published"]
    assert len(rows["published"]["leaks"]) == 6
    for name in ("last_epoch", "hbi", "candidate_hbi", "mirrored_context", "negatives", "select_on"):
        assert len(rows[name]["leaks"]) == 5, name

    directories = {name: sorted((home / "home" / "trainings").glob(f"leaks-{name}-3-*/hmar")) for name in rows}
    if rows["published"]["best_epochs"] == rows["published"]["epochs"]:
        assert not directories["last_epoch"], "it would be the published training once more"
        directories["last_epoch"] = directories["published"]
    for name, row in rows.items():
        assert len(directories[name]) == 1
        for key in ("sampled/all/hr@10", "full/all/ndcg@10"):
            kind, _, metric = key.split("/")
            own = recomputed(directories[name], row["split"], kind, metric)
            published = recomputed(directories["published"], "published", kind, metric)
            shared = own.keys() & published.keys()
            value = row["values"][key]
            assert value["shared"] == len(shared) > 10
            assert value["mean"] == pytest.approx(np.mean(list(own.values())))
            assert value["price"] == pytest.approx(np.mean([published[pair] - own[pair] for pair in shared]))

    with (home / "table.csv").open(encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == len(rows) * 12
    text = (home / "table.md").read_text()
    assert all(row["label"] in text for row in rows.values())
    assert leak_table.markdown(result) == text, "kept numbers give the kept table"
    assert (home / "table.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_rules_are_those_of_hmar(made: tuple[Path, list[str]]) -> None:
    """What the pipeline gets for Popularity and Recent, trained and judged as any model is, on the same snapshot."""
    home, words = made
    rows = json.loads((home / "table.json").read_text())["rows"]
    s = hmar_leaks.LeaksSettings.resolve(arguments=["--protocol", "published", *words], program="test")
    (variant,) = (row for row in chosen(s) if row.name == "negatives")
    own = variant.settings(s, 0)
    built = build(own, validate(own, land(own)))
    assert built.id == rows["negatives"]["snapshot"]
    for name in ("popularity", "recent"):
        evaluate(own, built, train(own, built, name, "rules"))
        report = read_report(s.paths.training("rules", name), built.id, "published")["metrics"]
        for key, value in rows["negatives"]["rules"][name].items():
            assert value == pytest.approx(report[f"test/{key}"]), (name, key)
    snapshot = Snapshot(built.snapshot)
    assert {path.stem for path in (home / "home" / "rules" / snapshot.manifest.id).rglob("*.parquet")} == set(RULES)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_how_often_a_training_is_judged_changes_nothing_in_it(made: tuple[Path, list[str]]) -> None:
    """Which is why a published training whose last epoch was its best stands for the row without a choice."""
    home, words = made
    (usual,) = (home / "home" / "trainings").glob("leaks-published-3-*/hmar")
    s = hmar_leaks.LeaksSettings.resolve(arguments=["--protocol", "published", *words], program="test")
    s = s.model_copy(update={"train": {"max_epochs": 5, "threads": 1, "log_seconds": 300, "eval_every": 1}})
    own = chosen(s)[0].settings(s, 3)
    built = build(own, validate(own, land(own)))
    often = train(own, built, MODEL, "often").directory
    losses = [[row["loss"] for row in json.loads((directory / "history.json").read_text())]
              for directory in (usual, often)]  # fmt: skip
    assert losses[0] == losses[1]


@pytest.mark.slow
def test_in_file_order_only_the_published_split_reads_the_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulate("movielens", tmp_path / "raw", users=40, items=60, seed=5)
    monkeypatch.setattr(hmar_leaks, "_train", lambda task: asked.append(task))
    monkeypatch.setattr(hmar_leaks, "_last", lambda task, published: task)
    monkeypatch.setattr(hmar_leaks, "_rows", lambda *parts: {})
    asked: list[hmar_leaks.Task] = []
    words = ["--dataset", "movielens", "--protocol", "published", "--ties", "file", "--seeds", "0"]
    words += ["--raw", str(tmp_path / "raw"), "--home", str(tmp_path / "home")]
    assert hmar_leaks.measure(hmar_leaks.LeaksSettings.resolve(arguments=words, program="test"))
    names = {task.variant.name: task.settings.name for task in asked}
    assert names.pop("leave_one_out") == "movielens"
    assert set(names.values()) == {"movielens-lines"}
    times = Snapshot(asked[0].built.snapshot).time
    assert len(np.unique(times)) == len(times)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_what_is_there_is_not_repeated(made: tuple[Path, list[str]]) -> None:
    import mlflow

    home, words = made
    before = {path: path.stat().st_mtime_ns for path in (home / "home" / "trainings").rglob("*.safetensors")}
    assert before
    assert hmar_leaks.main([*words, "--out", str(home / "again")]) == 0
    assert {path: path.stat().st_mtime_ns for path in (home / "home" / "trainings").rglob("*.safetensors")} == before
    assert (home / "again.csv").read_text() == (home / "table.csv").read_text()
    s = hmar_leaks.LeaksSettings.resolve(arguments=words, program="test")
    client = mlflow.MlflowClient(s.mlflow_uri)
    experiment = client.get_experiment_by_name("hmar-taobao-leaks")
    (tracked,) = client.search_runs([experiment.experiment_id])
    assert "leaky/price/hbi/test/sampled/all/hr_at_10" in tracked.data.metrics
    assert "leave_one_out/test/full/all/ndcg_at_10" in tracked.data.metrics
    assert tracked.data.tags["hmar.leaks"].startswith("hbi=final")
