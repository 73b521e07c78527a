"""A benchmark put together: what is run, with which settings, and what is refused before anything is."""

from pathlib import Path
from typing import Any

import pytest

from hmar.errors import DataError, SettingsError
from hmar.models import MODELS, model_class
from pipeline import cli
from pipeline.benchmark import cells
from pipeline.benchmark.settings import BenchmarkSettings
from pipeline.stages import benchmark as stages
from pipeline.training import training_settings

LOG = {"shop": {"generated": {"source": "taobao", "users": 50, "items": 40}}}


def benchmark(tmp_path: Path, **values: Any) -> BenchmarkSettings:
    given = {"datasets": LOG, "home": str(tmp_path / "home"), **values}
    return BenchmarkSettings.resolve(given, use_environment=False)


def test_without_rows_every_registered_model_is_one(tmp_path: Path) -> None:
    b = benchmark(tmp_path, seeds=[3, 4], splits=["temporal"])
    assert set(b.rows) == set(MODELS)
    planned = cells.plan(b)
    for name in MODELS:
        seeds = [one.seed for one in planned if one.row == name]
        assert seeds == ([3, 4] if model_class(name).trainable else [3]), "a rule does not depend on the seed"


def test_a_cell_has_the_layers_in_their_order(tmp_path: Path) -> None:
    """Preset < benchmark < dataset < dataset's model < row < what the search has found."""
    datasets = {
        "shop": {
            "generated": {"source": "taobao"},
            "train": {"max_epochs": 7, "patience": 4},
            "retrain": {"overrides": {"sasrec": {"batch_size": 64, "lr": 0.5}}, "snapshot": {"candidates": 50}},
        }
    }
    rows = {"mine": {"model": "sasrec", "train": {"lr": 0.25, "loss": "bce"}, "config": {"blocks": 1}}}
    b = benchmark(tmp_path, datasets=datasets, rows=rows, train={"max_epochs": 9, "warmup": 3})
    found = {"lr": 0.125, "config": {"d": 30}}
    s = cells.retrain_settings(b, "shop", "temporal", "mine", 5, found)
    t = training_settings(s, "sasrec", tmp_path, "run")
    assert (t.warmup, t.max_epochs, t.patience, t.batch_size, t.lr) == (3, 7, 4, 64, 0.125)
    assert (t.loss, t.config["blocks"], t.config["d"]) == ("bce", 1, 30)
    assert (t.seed, t.split, t.threads) == (5, "temporal", 1)
    assert (s.name, s.snapshot.candidates) == ("shop", 50)


def test_an_ablation_takes_the_settings_of_its_row_and_keeps_its_own(tmp_path: Path) -> None:
    rows = {
        "full": {"model": "sasrec"},
        "thin": {"model": "sasrec", "config": {"d": 20}, "tuned_as": "full"},
    }
    b = benchmark(tmp_path, rows=rows, trials=4)
    s = cells.retrain_settings(b, "shop", "temporal", "thin", 0, {"lr": 0.125, "config": {"d": 30, "blocks": 3}})
    t = training_settings(s, "sasrec", tmp_path, "run")
    assert (t.lr, t.config["d"], t.config["blocks"]) == (0.125, 20, 3)
    assert [one.row for one in cells.searches(b)] == ["full", "full"], "once per split, none for the ablation"


def test_what_a_row_sets_is_not_searched(tmp_path: Path) -> None:
    from pipeline import tuning

    rows = {"ce": {"model": "sasrec", "train": {"loss": "cross_entropy"}, "config": {"heads": 1}},
            "any": {"model": "sasrec"}}  # fmt: skip
    b = benchmark(tmp_path, rows=rows, trials=4, tune={"max_epochs": 3, "pruning": {"kind": "none"}, "seed": 8})
    s = cells.tune_settings(b, "shop", "temporal", "ce")
    searched = set(tuning.space(s).keys())
    everything = set(tuning.space(cells.tune_settings(b, "shop", "temporal", "any")).keys())
    assert everything - searched == {"loss", "negatives_from", "config.heads"}
    assert (s.trials, s.max_epochs, s.pruning.kind, s.seed, s.split) == (4, 3, "none", 8, "temporal")
    assert tuning.common(s).loss == "cross_entropy"
    assert {row: cells.trials(b, b.rows[row]) for row in b.rows} == {"ce": 4, "any": 4}, "equal budgets"


def test_rules_have_no_search(tmp_path: Path) -> None:
    b = benchmark(tmp_path, rows={"Popularity": {"model": "popularity"}}, trials=4)
    assert cells.searches(b) == []


def test_filters_choose_cells(tmp_path: Path) -> None:
    rows = {"SASRec, a": {"model": "sasrec"}, "SASRec, b": {"model": "sasrec"}, "Recent": {"model": "recent"}}
    b = benchmark(tmp_path, rows=rows, seeds=[0, 1], only_rows=["SASRec*"], only_splits=["temporal"])
    chosen = cells.chosen(b, cells.plan(b))
    assert {one.row for one in chosen} == {"SASRec, a", "SASRec, b"}
    assert {one.split for one in chosen} == {"temporal"}
    assert len(chosen) == 4


def test_other_settings_are_another_cell_and_how_it_is_run_is_not(tmp_path: Path) -> None:
    from pipeline.results import Built

    built = Built(snapshot=tmp_path, id="one")

    def made_of(row: dict[str, Any], **values: Any) -> Any:
        b = benchmark(tmp_path, rows={"row": {"model": "sasrec", **row}}, **values)
        return cells.made_of(cells.retrain_settings(b, "shop", "temporal", "row", 0), built)

    same = made_of({})
    assert made_of({"train": {"threads": 2, "log_seconds": 5}}, jobs=3) == same
    assert made_of({"train": {"lr": 0.5}}) != same
    assert made_of({"config": {"d": 20}}) != same


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"rows": {"x": {"model": "sasrek"}}}, "unknown model 'sasrek'; did you mean 'sasrec'"),
        ({"rows": {"x": {"model": "sasrec", "tuned_as": "y"}}}, "tuned_as: 'y' is no row of model sasrec"),
        ({"rows": {"x": {"model": "sasrec", "varies": "x"}}}, "varies: 'x' is no other row"),
        ({"rows": {"x": {"model": "sasrec"}}, "baselines": {"best": ["SAS*"]}}, r"baselines.best: nothing is called"),
        ({"rows": {"x": {"model": "sasrec"}}, "only_rows": ["y"]}, "only_rows: nothing is called 'y'"),
        ({"datasets": {"a/b": {"dataset": "taobao", "raw": "x"}}}, "'a/b': a name is letters"),
        ({"datasets": {"a": {}}}, "give dataset"),
        ({"datasets": {"a": {"generated": {}, "raw": "x"}}}, "generated: leave raw and settings out"),
        ({"seeds": [1, 1]}, "each once"),
    ],
)
def test_refused_at_once(tmp_path: Path, values: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        benchmark(tmp_path, **values)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"rows": {"x": {"model": "sasrec", "train": {"lrr": 1}}}}, "dataset shop, row x: .*lrr: unknown setting"),
        ({"rows": {"x": {"model": "sasrec", "config": {"dd": 1}}}}, "dataset shop, row x: .*dd: unknown setting"),
        ({"rows": {"x": {"model": "sasrec", "search": {"lrr": {"type": "choice", "values": [1]}}}}, "trials": 2},
         "dataset shop, row x: search.lrr: unknown setting of sasrec"),
        ({"datasets": {"shop": {"dataset": "movielens"}}}, "datasets.shop.raw: is required"),
        ({"datasets": {"shop": {"dataset": "movielens", "raw": "x", "retrain": {"protocol": "published"}}}},
         "a benchmark is honest"),
        ({"datasets": {}}, "datasets: name at least one"),
    ],
)  # fmt: skip
def test_refused_before_anything_is_run(tmp_path: Path, values: dict[str, Any], said: str) -> None:
    b = benchmark(tmp_path, **{"rows": {"x": {"model": "sasrec"}}, **values})
    with pytest.raises(SettingsError, match=said):
        cells.check(b)


@pytest.mark.slow
def test_events_that_others_published_are_not_replaced(tmp_path: Path) -> None:
    """A nightly dataset of the same name keeps its events; one's own may be made anew, and equal ones are reused."""
    b = benchmark(tmp_path, rows={"x": {"model": "recent"}})
    first = stages.prepare(b, "shop")
    again = {"shop": {**LOG["shop"], "retrain": {"ingest": {"partition": "month"}}}}
    assert stages.prepare(benchmark(tmp_path, datasets=again), "shop").accounts == first.accounts
    events = tmp_path / "home" / "events" / "dataset=shop"
    before = {path: path.read_bytes() for path in events.rglob("*") if path.is_file()}
    other = benchmark(tmp_path, name="other", datasets={"shop": {"generated": {"users": 60, "items": 40}}})
    with pytest.raises(
        SettingsError, match=r"datasets.shop: .* benchmark other has not published \(UserBehavior.csv\)"
    ):
        stages.prepare(other, "shop")
    assert {path: path.read_bytes() for path in events.rglob("*") if path.is_file()} == before
    stages.prepare(benchmark(tmp_path, name="equal", datasets=again), "shop")


def test_a_raw_log_that_is_not_there_is_named_before_anything_is_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "nowhere.yaml"
    file.write_text("datasets:\n  films: {dataset: movielens, raw: nowhere}\nrows:\n  Recent: {model: recent}\n")
    words = ["--settings", str(file), "--data", str(tmp_path), "--home", str(tmp_path / "home")]
    assert cli.main(["benchmark", *words, "--dry-run"]) == DataError.exit_code
    assert f"dataset films: raw: {tmp_path}/nowhere does not exist" in capsys.readouterr().err.replace("\n", " ")
    assert not (tmp_path / "home").exists()


def test_a_relative_raw_log_lies_in_the_benchmarks_data_directory(tmp_path: Path) -> None:
    datasets = {"films": {"dataset": "movielens", "raw": "ml-100k"}}
    b = benchmark(tmp_path, datasets=datasets, data=str(tmp_path / "logs"))
    assert cells.data_settings(b, "films").raw == tmp_path / "logs" / "ml-100k"


def test_a_dry_run_counts_runs_and_trials(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "few.yaml"
    file.write_text(
        "trials: 3\nseeds: [0, 1]\ndatasets:\n  shop: {generated: {source: taobao}}\n"
        "rows:\n  Recent: {model: recent}\n  SASRec: {model: sasrec}\n"
    )
    assert cli.main(["benchmark", "--settings", str(file), "--home", str(tmp_path / "home"), "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert "seeds 0, 1: 6 runs" in shown, "one of Recent and two of SASRec on each of two splits"
    assert "2 searches, 6 trials in all" in shown
    assert not (tmp_path / "home").exists()
