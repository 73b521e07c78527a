"""The launcher of trainings: what it hands over, and what it makes of the child's end."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hmar.errors import SettingsError
from pipeline.results import Built
from pipeline.settings import RetrainSettings
from pipeline.stages.train import REQUEST, train
from pipeline.training import training_settings, training_values
from tests.support.night import RUN, Night
from tests.support.registry import Shop

ROOT = Path(__file__).resolve().parents[2]


def test_overrides_win_over_train_over_the_run_over_the_preset(tmp_path: Path) -> None:
    s = RetrainSettings.resolve(
        {
            "dataset": "taobao",
            "raw": tmp_path,
            "home": tmp_path,
            "seed": 4,
            "train": {"lr": 0.5, "max_epochs": 7, "config": {"d": 24}},
            "overrides": {"sasrec": {"lr": 0.25, "config": {"heads": 2}}, "hmar": {"seed": 9}},
        },
        use_environment=False,
    )
    sasrec = training_settings(s, "sasrec", tmp_path, "night")
    assert (sasrec.lr, sasrec.max_epochs, sasrec.seed, sasrec.preset) == (0.25, 7, 4, "taobao")
    assert (sasrec.config["d"], sasrec.config["heads"]) == (24, 2)
    hmar = training_settings(s, "hmar", tmp_path, "night")
    assert (hmar.lr, hmar.seed) == (0.5, 9)
    assert hmar.config["alpha"]["buy"] == 0.7, "the preset of the dataset is below all of them"


def test_dataset_without_training_presets_takes_the_defaults(tmp_path: Path, shop_settings: RetrainSettings) -> None:
    s = shop_settings.model_copy(update={"dataset": "made-up"})
    assert "preset" not in training_values(s, "sasrec", tmp_path, "night")


@pytest.fixture
def shop_settings(tmp_path: Path) -> RetrainSettings:
    return RetrainSettings.resolve({"dataset": "taobao", "raw": tmp_path, "home": tmp_path}, use_environment=False)


@pytest.mark.slow
def test_training_ran_as_told(night: Night) -> None:
    for model, trained in night.trained.items():
        assert trained.model == model
        assert trained.directory == night.s.paths.training(RUN, model)
        assert (trained.directory / "model" / "weights.safetensors").is_file()
        assert not (trained.directory / "process.json").exists()
    settings = json.loads((night.trained["sasrec"].directory / "settings.json").read_text(encoding="utf-8"))
    assert (settings["max_epochs"], settings["seed"], settings["max_length"]) == (2, 3, 20)
    assert settings["config"]["d"] == 8
    assert "epoch 2/2" in night.output


@pytest.mark.slow
def test_mlflow_run_is_in_the_datasets_experiment_with_our_tags(night: Night) -> None:
    client = Shop(night.s, night.built).registry.client
    run = client.get_run(night.trained["sasrec"].mlflow_run)
    assert client.get_experiment(run.info.experiment_id).name == "hmar-tiny"
    assert {key: run.data.tags[key] for key in ("hmar.run", "hmar.dataset", "hmar.model")} == {
        "hmar.run": RUN, "hmar.dataset": "tiny", "hmar.model": "sasrec",
    }  # fmt: skip
    assert run.info.status == "FINISHED"


@pytest.mark.slow
def test_finished_training_is_not_run_again(night: Night) -> None:
    weights = night.trained["popularity"].directory / "model" / "weights.safetensors"
    before = weights.stat().st_mtime_ns
    assert train(night.s, night.built, "popularity", RUN) == night.trained["popularity"]
    assert weights.stat().st_mtime_ns == before


@pytest.mark.slow
def test_same_run_on_another_snapshot_is_refused(night: Night) -> None:
    other = Built(snapshot=night.built.snapshot, id="0" * 16)
    with pytest.raises(SettingsError, match=rf"run {RUN}: .* was trained on snapshot {night.built.id}, .*start a new"):
        train(night.s, other, "popularity", RUN)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_interrupted_stage_goes_on_and_ends_as_if_never_interrupted(
    shop: Shop, night: Night, number: signal.Signals
) -> None:
    values = night.s.model_dump() | {
        "home": shop.s.home,
        "overrides": {"sasrec": {"max_epochs": 40, "patience": 40, "config": {"d": 8, "positions": 20}}},
    }
    s = RetrainSettings.resolve(values, use_environment=False)
    directory = s.paths.training("cut", "sasrec")
    stage = _stage(s, shop.built, "cut")
    _wait(lambda: "epoch 3/40" in _text(directory / "train.log"))
    stage.send_signal(number)
    stage.wait(60)
    _wait(lambda: not _lives(directory))
    record = json.loads((directory / "run.json").read_text(encoding="utf-8"))
    assert record["status"] != "finished", "too fast to be interrupted; raise max_epochs"
    assert list((directory / "checkpoints").iterdir())
    resumed = train(s, shop.built, "sasrec", "cut")
    whole = train(s, shop.built, "sasrec", "whole")
    assert "resum" in _text(directory / "train.log") or "contin" in _text(directory / "train.log")
    assert (resumed.directory / "model" / "weights.safetensors").read_bytes() == (
        whole.directory / "model" / "weights.safetensors"
    ).read_bytes()
    if number == signal.SIGTERM:
        assert stage.returncode == 75
    assert (directory / REQUEST).is_file()


def _stage(s: RetrainSettings, built: Built, run: str) -> "subprocess.Popen[bytes]":
    """The stage in a process of its own, as Airflow has it."""
    code = (
        "import sys, json\n"
        "from hmar.errors import HmarError\n"
        "from pipeline.results import Built\n"
        "from pipeline.settings import RetrainSettings\n"
        "from pipeline.stages.train import train\n"
        "s = RetrainSettings.resolve(json.loads(sys.argv[1]), use_environment=False)\n"
        "try:\n"
        "    train(s, Built.model_validate_json(sys.argv[2]), 'sasrec', sys.argv[3])\n"
        "except HmarError as error:\n"
        "    sys.exit(error.exit_code)\n"
    )
    words = [sys.executable, "-c", code, s.model_dump_json(), built.model_dump_json(), run]
    return subprocess.Popen(words, cwd=ROOT, stdout=subprocess.DEVNULL)


def _lives(directory: Path) -> bool:
    """Whether a process has the training's directory."""
    for command in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if str(directory).encode() in command.read_bytes() and command.parent.name != str(os.getpid()):
                return True
        except OSError:
            continue
    return False


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""


def _wait(condition: object, seconds: float = 90) -> None:
    assert callable(condition)
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)
