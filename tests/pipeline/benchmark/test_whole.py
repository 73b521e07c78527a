"""A whole benchmark on a small made-up log: its numbers, its files, what it survives. Real trainings, really killed."""

import csv
import json
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow.parquet as pq
import pytest
import yaml
from mlflow import MlflowClient
from numpy.typing import NDArray

from hmar.errors import DataError
from hmar.train.directory import read_record
from hmar.tune.study import Study, best
from pipeline import cli
from pipeline.benchmark import cells, outcome
from pipeline.benchmark.conclude import conclude
from pipeline.benchmark.settings import BenchmarkSettings
from pipeline.results import Built
from pipeline.stages import benchmark as stages
from tests.support.training import blank_store, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

SETTINGS: dict[str, Any] = {
    "name": "tiny",
    "seeds": [0, 1],
    "splits": ["leave_one_out"],
    "train": {"max_epochs": 12, "patience": 12, "device": "cpu"},
    "baselines": {"best rule": ["Popularity"], "best SASRec": ["SASRec*"]},
    "datasets": {"shop": {"generated": {"source": "taobao", "users": 150, "items": 80, "seed": 4}}},
    "rows": {
        "Popularity": {"model": "popularity"},
        "SASRec": {"model": "sasrec", "train": {"loss": "bce"}, "config": {"d": 32, "blocks": 1, "heads": 1}},
    },
}


def settings(folder: Path, **values: Any) -> tuple[BenchmarkSettings, list[str]]:
    """As the command line has them, and its words."""
    blank_store(folder / "home" / "mlflow.db")
    file = folder / "tiny.yaml"
    file.write_text(yaml.safe_dump({**SETTINGS, **values}), encoding="utf-8")
    words = ["--settings", str(file), "--home", str(folder / "home"), "--out", str(folder / "tables" / "tiny")]
    s = BenchmarkSettings.resolve(
        {"home": folder / "home", "out": folder / "tables" / "tiny"}, yaml_file=file, use_environment=False
    )
    return s, words


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A benchmark that nobody disturbs, two runs at a time."""
    folder = tmp_path_factory.mktemp("benchmark")
    _, words = settings(folder)
    assert cli.main(["benchmark", *words, "--jobs", "2"]) == 0
    return folder


@pytest.fixture(scope="module")
def result(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "tables" / "tiny.json").read_text(encoding="utf-8"))
    return found


def built(b: BenchmarkSettings) -> Built:
    return stages.ready(b, "shop").built


def runs(b: BenchmarkSettings) -> list[outcome.Run]:
    found = [stages.measured(b, one, built(b)) for one in cells.plan(b)]
    assert None not in found
    return outcome.runs(b, [one for one in found if one is not None])


def ndcg(b: BenchmarkSettings, row: str) -> tuple[NDArray[Any], Any]:
    """By hand: mean over seeds of each target's NDCG@10, and the targets' table."""
    of_row = [one for one in runs(b) if one.cell.row == row]
    files = [next(one.directory.rglob("per_target_test.parquet")) for one in of_row]
    tables = [pq.read_table(file).to_pandas() for file in files]
    ranks = [table["rank_full"].to_numpy(dtype=float, na_value=np.inf) for table in tables]
    return np.mean([np.where(r <= 10, 1 / np.log2(r + 1), 0) for r in ranks], axis=0), tables[0]


def test_means_and_gains_are_those_of_the_outcomes_per_target(folder: Path, result: dict[str, Any]) -> None:
    b, _ = settings(folder)
    ours, targets = ndcg(b, "SASRec")
    rule, _ = ndcg(b, "Popularity")
    row = result["tables"][0]["rows"]["SASRec"]
    length = targets["history_length"]
    strata = {
        "all": np.ones(len(ours), bool),
        "repeat": targets["repeat"].to_numpy(),
        "length_21-50": ((length > 20) & (length <= 50)).to_numpy(),
    }
    for stratum, chosen in strata.items():
        assert chosen.any()
        assert result["tables"][0]["targets"][stratum] == chosen.sum()
        assert row["mean"][f"test/full/{stratum}/ndcg@10"] == pytest.approx(ours[chosen].mean())
        assert row["interval"][f"ndcg@10 {stratum}"]["mean"] == pytest.approx(ours[chosen].mean())
        assert row["gain"]["best rule"][stratum]["mean"] == pytest.approx((ours - rule)[chosen].mean())
    per_seed = [one.content["metrics"]["test/full/all/ndcg@10"] for one in runs(b) if one.cell.row == "SASRec"]
    assert len(set(per_seed)) == 2, "two seeds, two models"
    assert row["sd"]["test/full/all/ndcg@10"] == pytest.approx(np.std(per_seed, ddof=1))
    assert row["mean"]["test/full/all/coverage@10"] == pytest.approx(
        np.mean([one.content["metrics"]["test/full/all/coverage@10"] for one in runs(b) if one.cell.row == "SASRec"])
    )
    assert row["seeds"] == [0, 1]
    assert result["tables"][0]["rows"]["Popularity"]["seeds"] == [0], "a rule is run once"


def test_intervals_are_those_of_a_bootstrap_over_users(folder: Path, result: dict[str, Any]) -> None:
    b, _ = settings(folder)
    ours, targets = ndcg(b, "SASRec")
    rule, _ = ndcg(b, "Popularity")
    rng = np.random.default_rng(7)
    users = targets["user"].to_numpy()
    places = [np.flatnonzero(users == user) for user in np.unique(users)]
    drawn = [np.concatenate([places[i] for i in rng.integers(len(places), size=len(places))]) for _ in range(2000)]
    row = result["tables"][0]["rows"]["SASRec"]
    for told, values in ((row["interval"]["ndcg@10 all"], ours), (row["gain"]["best rule"]["all"], ours - rule)):
        low, high = np.quantile([values[chosen].mean() for chosen in drawn], [0.025, 0.975])
        assert told["low"] == pytest.approx(low, abs=0.1 * (high - low))
        assert told["high"] == pytest.approx(high, abs=0.1 * (high - low))


def test_markdown_and_csv_say_what_the_json_says(folder: Path, result: dict[str, Any]) -> None:
    table = result["tables"][0]
    text = (folder / "tables" / "tiny.md").read_text(encoding="utf-8")
    about = table["about"]
    for said in (
        "hmar benchmark --settings tiny.yaml", about["snapshot"], about["code"][0], "0, 1", "95% bootstrap", "cpu",
        "Best rule, chosen on validation: Popularity", "100 candidates",
    ):  # fmt: skip
        assert said in text, said
    assert str(folder) not in text, "nothing of this machine's paths"
    for label, row in table["rows"].items():
        (line,) = [one for one in text.splitlines() if one.startswith(f"| {label} |") and "[" in one and "/" not in one
                   and f"{row['mean']['test/full/all/mrr']:.4f}" in one]  # fmt: skip
        assert f"{row['mean']['test/full/all/ndcg@10']:.4f}" in line
    with (folder / "tables" / "tiny.csv").open(encoding="utf-8") as stream:
        lines = {line["row"]: line for line in csv.DictReader(stream)}
    assert set(lines) == set(table["rows"])
    line, row = lines["SASRec"], table["rows"]["SASRec"]
    assert float(line["test/full/all/ndcg@10"]) == row["mean"]["test/full/all/ndcg@10"]
    assert float(line["gain over best rule repeat low"]) == row["gain"]["best rule"]["repeat"]["low"]
    for picture in about["figures"].values():
        assert (folder / "tables" / picture).read_bytes().startswith(b"\x89PNG")


def test_cost_stands_beside_quality(folder: Path, result: dict[str, Any]) -> None:
    b, _ = settings(folder)
    rows = result["tables"][0]["rows"]
    assert rows["Popularity"]["cost"]["parameters"] == 0
    assert rows["SASRec"]["cost"]["parameters"] > 80 * 32
    for row in rows.values():
        assert row["cost"]["peak_mb"] > 50
        assert row["cost"]["milliseconds_per_1000"] > 0
    one = next(one for one in runs(b) if one.cell.row == "SASRec")
    history = json.loads((one.directory / "history.json").read_text(encoding="utf-8"))
    assert one.content["cost"]["train_seconds"] == pytest.approx(sum(row["seconds"] for row in history))
    assert one.content["epochs"] == len(history)
    assert not (one.directory / "checkpoints").exists(), "what a finished run no longer needs"


def test_labelled_impressions_have_their_table(folder: Path, result: dict[str, Any]) -> None:
    b, _ = settings(folder)
    row = result["tables"][0]["rows"]["SASRec"]
    of_row = [one for one in runs(b) if one.cell.row == "SASRec"]
    for metric in ("gauc", "mrr", "ndcg"):
        means = [one.content["metrics"][f"test/impressions/all/{metric}"] for one in of_row]
        assert row["impressions"]["interval"][metric]["mean"] == pytest.approx(np.mean(means))
    ours, rule = (shown(b, label) for label in ("SASRec", "Popularity"))
    told = row["impressions"]["gain"]["best rule"]["gauc"]
    weight = ours["impressions"]
    assert told["mean"] == pytest.approx(float(((ours["auc"] - rule["auc"]) * weight).sum() / weight.sum()))
    assert told["low"] < told["mean"] < told["high"]


def shown(b: BenchmarkSettings, row: str) -> Any:
    """Users with impressions of both labels, their AUC a mean over seeds."""
    files = [next(one.directory.rglob("impressions_test.parquet")) for one in runs(b) if one.cell.row == row]
    tables = [pq.read_table(file).to_pandas().dropna(subset="auc") for file in files]
    return tables[0].assign(auc=np.mean([table["auc"] for table in tables], axis=0))


def test_a_limit_of_epochs_and_a_varied_row_are_told(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "copy")
    rows = {**SETTINGS["rows"], "Popularity": {"model": "popularity", "varies": "SASRec"}}
    b, words = settings(tmp_path / "copy", rows=rows, baselines={})
    assert cli.main(["benchmark", *words, "--tables-only"]) == 0
    table = json.loads(b.table.with_name("tiny.json").read_text(encoding="utf-8"))["tables"][0]
    ours, _ = ndcg(b, "SASRec")
    rule, _ = ndcg(b, "Popularity")
    gain = table["rows"]["Popularity"]["gain"][outcome.VARIED]
    assert gain["all"]["mean"] == pytest.approx((rule - ours).mean())
    assert outcome.VARIED not in table["rows"]["SASRec"]["gain"]
    text = b.table.with_name("tiny.md").read_text(encoding="utf-8")
    assert f"{gain['all']['low']:+.4f}, {gain['all']['high']:+.4f}] (SASRec) |" in text
    assert "Over the presets: all rows (device cpu, max_epochs 12, patience 12); SASRec (loss bce, config." in text
    assert table["rows"]["SASRec"]["at_limit"] == 2
    assert "of 12* |" in text


def test_one_experiment_holds_the_runs_and_the_tables(folder: Path) -> None:
    b, _ = settings(folder)
    client = MlflowClient(b.mlflow_uri)
    (experiment,) = [one for one in client.search_experiments() if one.name == "benchmark-tiny"]
    found = client.search_runs([experiment.experiment_id])
    table = [one for one in found if one.data.tags.get("hmar.kind") == "table"]
    assert len(table) == 1
    assert len(found) - 1 == len(cells.plan(b))
    assert {"tiny.md", "tiny.csv", "tiny.json", "tiny"} <= {
        one.path for one in client.list_artifacts(table[0].info.run_id)
    }
    assert {one.data.tags["hmar.row"] for one in found if one not in table} == set(b.rows)


def test_a_baseline_is_chosen_on_validation(folder: Path) -> None:
    """Of two rows the one that is better there, though the other is better on the test targets."""
    b, _ = settings(folder, baselines={"best": ["Popularity", "SASRec"]})
    made = runs(b)
    name = "validation/full/all/ndcg@10"
    for label in ("Popularity", "SASRec"):
        bent = [
            replace(
                one, content={**one.content, "metrics": {**one.content["metrics"], name: float(one.cell.row == label)}}
            )
            for one in made
        ]
        assert outcome.table(b, built(b), "leave_one_out", bent)["baselines"] == {"best": label}


def test_a_changed_row_is_run_again_alone(folder: Path) -> None:
    changed = {**SETTINGS["rows"], "SASRec": {"model": "sasrec", "config": {"d": 16}}}
    b, _ = settings(folder, rows=changed)
    state = {(one.row, one.seed): stages.measured(b, one, built(b)) is not None for one in cells.plan(b)}
    assert state == {("Popularity", 0): True, ("SASRec", 0): False, ("SASRec", 1): False}
    with pytest.raises(DataError, match="2 of 3 runs are missing, first shop, leave_one_out, SASRec, seed 0"):
        conclude(b)


def test_partial_tables_say_what_is_missing(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "copy")
    b, words = settings(tmp_path / "copy")
    for file in b.directory.glob("cells/shop/leave_one_out/SASRec-1-*.json"):
        file.unlink()
    assert cli.main(["benchmark", *words, "--tables-only"]) == DataError.exit_code
    assert cli.main(["benchmark", *words, "--tables-only", "--partial"]) == 0
    text = b.table.with_name("tiny.md").read_text(encoding="utf-8")
    assert "**Incomplete**: 1 runs are missing: shop, leave_one_out: SASRec (seed 1)." in text
    assert "| SASRec (only seed 0) |" in text
    b, words = settings(tmp_path / "copy", splits=["leave_one_out", "temporal"])
    assert cli.main(["benchmark", *words, "--tables-only", "--partial"]) == 0
    text = b.table.with_name("tiny.md").read_text(encoding="utf-8")
    assert "4 runs are missing: shop, leave_one_out: SASRec (seed 1); shop, temporal: all." in text


def test_killed_it_goes_on_and_ends_as_if_never_interrupted(folder: Path, tmp_path: Path, checkout: Path) -> None:
    b, words = settings(tmp_path / "killed")
    command = [sys.executable, "-m", "pipeline.cli", "benchmark", *words]
    process = subprocess.Popen(command, cwd=checkout, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def trained() -> list[Path]:
        found = b.paths.root.glob("trainings/benchmark-tiny-shop-leave_one_out-SASRec-0-*/sasrec/history.json")
        return [path.parent for path in found if len(json.loads(path.read_text(encoding="utf-8"))) >= 2]

    try:
        wait_until(lambda: bool(trained()) or process.poll() is not None, "SASRec trains", seconds=1200)
        (out,) = trained()
        training = psutil.Process(json.loads((out / "process.json").read_text(encoding="utf-8"))["pid"])
    finally:
        process.send_signal(signal.SIGKILL)
    assert process.wait(120) == -signal.SIGKILL
    wait_until(lambda: not training.is_running() or training.status() == psutil.STATUS_ZOMBIE, "its training ends")
    assert read_record(out).status == "interrupted", "too fast to be interrupted; raise max_epochs"
    (finished,) = b.directory.glob("cells/shop/leave_one_out/*.json")
    assert finished.name.startswith("Popularity-0-")
    before = finished.stat().st_mtime_ns

    assert cli.main(["benchmark", *words]) == 0
    assert finished.stat().st_mtime_ns == before
    assert "continuing after epoch" in (out / "train.log").read_text(encoding="utf-8")
    undisturbed, _ = settings(folder)
    for one, other in zip(runs(b), runs(undisturbed), strict=True):
        assert one.content["metrics"] == other.content["metrics"]
        assert one.content["made_of"] == other.content["made_of"]
    experiment = MlflowClient(b.mlflow_uri).get_experiment_by_name("benchmark-tiny")
    assert experiment is not None
    states = [one.info.status for one in MlflowClient(b.mlflow_uri).search_runs([experiment.experiment_id])]
    assert states == ["FINISHED"] * 4, "three runs and the tables, none of them twice"


def test_what_fails_is_named_and_the_rest_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = {"broken": {"model": "sasrec", "train": {"lr": 1e30}}, "Popularity": {"model": "popularity"}}
    b, words = settings(tmp_path, rows=rows, baselines={}, seeds=[0])
    assert cli.main(["benchmark", *words]) == DataError.exit_code
    assert "Popularity" in next(b.directory.glob("cells/shop/leave_one_out/*.json")).name
    said = capsys.readouterr()
    assert "✗ shop, leave_one_out, broken, seed 0: " in said.out
    assert "1 of 2 runs are missing" in said.err


def test_a_row_is_searched_once_and_all_its_seeds_take_what_was_found(tmp_path: Path) -> None:
    rates = {"lr": {"type": "choice", "values": [1e-4, 5e-3]}, "batch_size": None, "negatives": None, "loss": None}
    widths = {f"config.{name}": None for name in ("d", "heads", "blocks", "dropout")}
    tuned = {**SETTINGS["rows"]["SASRec"], "search": {**rates, **widths}}
    tuned["train"] = {**tuned["train"], "batch_size": 32}
    ablation = {"model": "sasrec", "config": {"behaviors": "target"}, "tuned_as": "SASRec"}
    b, words = settings(
        tmp_path, rows={"SASRec": tuned, "target only": ablation}, trials=3, baselines={},
        tune={"max_epochs": 2, "pruning": {"kind": "none"}}, train={"max_epochs": 3, "device": "cpu"},
    )  # fmt: skip
    assert cli.main(["benchmark", *words, "--jobs", "2"]) == 0
    (study,) = b.paths.root.glob("studies/*/sasrec/study.db")
    found = best(Study.load(study).trials())
    assert found is not None
    for one in runs(b):
        assert one.content["made_of"]["training"]["lr"] == found.values["lr"] in (1e-4, 5e-3), one.cell
        assert one.content["made_of"]["training"]["max_epochs"] == 3, "the search's own length is not the training's"
    table = json.loads(b.table.with_name("tiny.json").read_text(encoding="utf-8"))["tables"][0]
    assert table["rows"]["SASRec"]["search"]["trials"] == 3
    assert table["rows"]["target only"]["search"] | {"settings": {}} == {
        "as": "SASRec", "trials": 0, "epochs": 0, "seconds": 0.0, "settings": {}
    }  # fmt: skip
