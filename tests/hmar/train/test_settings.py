import json
import subprocess
import sys
from pathlib import Path

import pytest

from hmar.errors import SettingsError
from hmar.train.__main__ import parse
from hmar.train.settings import TrainSettings, preset, preset_names

NEEDED = {"model": "sasrec", "snapshot": "nowhere/snapshot", "out": "nowhere/out"}


def resolve(**values: object) -> TrainSettings:
    return TrainSettings.resolve({**NEEDED, **values}, use_environment=False)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"model": "sasrek"}, ["model", "did you mean 'sasrec'"]),
        ({"lrr": 0.1}, ["lrr", "unknown setting", "did you mean 'lr'"]),
        ({"lr": "fast"}, ["lr", "valid number"]),
        ({"lr": 0}, ["lr", "greater than 0"]),
        ({"config": {"dropuot": 0.1}}, ["config", "dropuot", "did you mean 'dropout'"]),
        ({"config": {"dropout": 1.5}}, ["config", "dropout", "less than 1"]),
        ({"loss": "cross-entropy"}, ["loss", "did you mean 'cross_entropy'"]),
        ({"loss": "gbce", "negatives_from": "popularity"}, ["negatives_from", "gbce", "set uniform"]),
        ({"loss": "gbce"}, ["negatives_from", "set uniform", "given: 'unseen'"]),
        ({"loss": "sampled_softmax"}, ["negatives_from", "set uniform or popularity", "given: 'unseen'"]),
        ({"negatives_per": "batch"}, ["negatives_per", "unseen differs by user"]),
        ({"loss": "cross_entropy", "negatives_per": "batch"}, ["negatives_per", "draws no negatives", "set position"]),
        ({"loss": "bce", "gbce_t": 0.5}, ["gbce_t", "only loss gbce has it, and this is bce"]),
        ({"loss": "gbce", "negatives_from": "uniform", "gbce_t": 1.5}, ["gbce_t", "less than or equal to 1"]),
        ({"loss": "bpr", "chunk_mb": 8}, ["chunk_mb", "only loss cross_entropy has it, and this is bpr"]),
        ({"loss": "cross_entropy", "chunk_mb": 0}, ["chunk_mb", "greater than 0"]),
        ({"negatives_from": "popular"}, ["negatives_from", "'popularity'"]),
        ({"loss": "log_loss"}, ["loss", "log_loss is for rankers, and sasrec is no ranker; set bce"]),
        ({"model": "din", "loss": "bce"}, ["loss", "bce is for encoders, and din is a ranker; set log_loss"]),
        ({"model": "din", "loss": "log-loss"}, ["loss", "did you mean 'log_loss'"]),
        ({"model": "din", "negatives_from": "uniform"}, ["negatives_from", "rankers take the impressions"]),
        ({"model": "din", "negatives_per": "batch"}, ["negatives_per", "rankers take the impressions"]),
        ({"model": "din", "gbce_t": 0.5}, ["gbce_t", "only loss gbce has it, and this is log_loss"]),
        ({"in_batch": 3}, ["in_batch", "for rankers"]),
        ({"select_metric": "ndcg"}, ["select_metric", "'ndcg@10'"]),
        ({"split": "random"}, ["split", "leave_one_out"]),
        ({"preset": "movielense"}, ["preset", "did you mean 'movielens'"]),
        ({"max_length": 201}, ["max_length", "200 positions", "config.positions"]),
        ({"betas": [0.9, 1.0]}, ["betas", "[0, 1)"]),
        ({"tracking": {"url": "x"}}, ["tracking.url", "did you mean 'uri'"]),
    ],
)
def test_a_bad_setting_is_named(values: dict[str, object], words: list[str]) -> None:
    with pytest.raises(SettingsError) as caught:
        resolve(**values)
    for word in words:
        assert word in str(caught.value)


def test_loss_and_metric_follow_the_family_of_the_model() -> None:
    for model, loss, metric in (("sasrec", "bce", "ndcg@10"), ("recent", "bce", "ndcg@10"), ("din", "log_loss", "auc")):
        settings = resolve(model=model)
        assert (settings.loss, settings.select_metric) == (loss, metric)
    assert resolve(model="din", select_metric="gauc").select_metric == "gauc"
    assert resolve(model="sasrec", select_metric="auc").select_metric == "auc"


def test_a_loss_gets_the_options_that_were_given() -> None:
    assert resolve(loss="cross_entropy").loss_options == {}
    assert resolve(loss="cross_entropy", chunk_mb=8).loss_options == {"chunk_mb": 8}
    assert resolve(loss="gbce", negatives_from="uniform", gbce_t=0).loss_options == {"t": 0}


def test_the_model_configuration_is_completed_with_its_defaults() -> None:
    settings = resolve(config={"d": 32})
    assert settings.config["d"] == 32
    assert set(settings.config) >= {"heads", "blocks", "dropout"}


def test_the_preset_is_the_weakest_layer_and_merges_into_the_configuration() -> None:
    name = preset_names()[0]
    values = preset(name, "sasrec")
    settings = resolve(preset=name, config={"d": 24})
    assert settings.max_length == values["max_length"]
    assert settings.config["d"] == 24
    assert settings.config["dropout"] == values["config"]["dropout"]
    assert resolve(preset=name, max_length=7).max_length == 7


@pytest.mark.parametrize("name", preset_names())
@pytest.mark.parametrize("model", ["hmar", "hmar_plus", "sasrec", "popularity", "recent"])
def test_every_preset_resolves_for_every_model(name: str, model: str) -> None:
    assert resolve(model=model, preset=name).preset == name


def test_the_snapshots_source_names_the_preset(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(json.dumps({"source": "taobao"}), encoding="utf-8")
    assert resolve(snapshot=str(tmp_path)).preset == "taobao"
    (tmp_path / "manifest.json").write_text(json.dumps({"source": "something_else"}), encoding="utf-8")
    assert resolve(snapshot=str(tmp_path)).preset == ""


def test_flags_beat_environment_beats_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "settings.json"
    file.write_text(
        json.dumps({**NEEDED, "lr": 1e-3, "batch_size": 8, "seed": 3, "config": {"d": 8}}), encoding="utf-8"
    )
    monkeypatch.setenv("HMAR_TRAIN__BATCH_SIZE", "16")
    monkeypatch.setenv("HMAR_TRAIN__LR", "0.002")
    settings = parse(["--settings", str(file), "--lr", "0.003", "--config", "d=4", "--tracking.experiment", "mine"])
    assert (settings.lr, settings.batch_size, settings.seed) == (0.003, 16, 3)
    assert settings.config["d"] == 4
    assert settings.tracking.experiment == "mine"


def test_an_unknown_flag_and_an_unknown_variable_name_the_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingsError, match=r"--batchsize; did you mean '--batch-size'"):
        parse(["--model", "sasrec", "--snapshot", "x", "--out", "y", "--batchsize", "3"])
    monkeypatch.setenv("HMAR_TRAIN__PATIENTS", "3")
    with pytest.raises(SettingsError, match=r"HMAR_TRAIN__PATIENTS.*did you mean 'patience'"):
        parse(["--model", "sasrec", "--snapshot", "x", "--out", "y"])


def test_a_relative_sqlite_file_is_pinned_to_the_directory_of_now() -> None:
    settings = resolve(tracking={"uri": "sqlite:///some/mlflow.db"})
    assert settings.tracking.uri == f"sqlite:///{Path('some/mlflow.db').absolute()}"
    assert resolve(tracking={"uri": "sqlite:////abs/mlflow.db"}).tracking.uri == "sqlite:////abs/mlflow.db"
    assert resolve(tracking={"uri": "http://localhost:1"}).tracking.uri == "http://localhost:1"


def test_importing_the_settings_loads_nothing_heavy() -> None:
    heavy = {"torch", "mlflow", "pandas", "duckdb", "matplotlib"}
    code = f"import sys, hmar.train.settings; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_bad_settings_end_the_process_before_any_work(tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = subprocess.run(
        [sys.executable, "-m", "hmar.train", "--model", "sasrec", "--snapshot", "x", "--out", str(out), "--lr", "-1"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 78
    assert done.stderr.startswith("error: lr:")
    assert len(done.stderr.strip().splitlines()) == 1
    assert not out.exists()
