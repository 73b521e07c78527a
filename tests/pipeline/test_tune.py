"""The search as a stage and as a command: real trainings, really killed, cut short, found again."""

import json
import shutil
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from mlflow import MlflowClient

from hmar.data.snapshot import Snapshot
from hmar.errors import ModelError, SettingsError
from hmar.train.directory import read_record
from hmar.tune.study import Study
from pipeline import cli
from pipeline.results import Built, Planned, Tuned
from pipeline.settings import RetrainSettings
from pipeline.stages.tune import attempt, conclude, plan
from pipeline.training import training_settings
from pipeline.tune_settings import TuneSettings
from pipeline.tuning import trial_directory
from tests.support.registry import Shop
from tests.support.training import cycle_snapshot, wait_until
from tests.support.tuning import as_built, tune_settings, tuned, tuning_process

GOOD_OR_BAD = {"lr": {"type": "choice", "values": [5e-3, 1e-6]}}
"""The first trial is good, the settings of all trials being so; with the other rate nothing is learned."""

RATES = {"lr": {"type": "float", "low": 1e-3, "high": 1e-2, "log": True}}


@pytest.fixture(scope="session")
def cycle(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    return cycle_snapshot(tmp_path_factory.mktemp("snapshot") / "cycle")


@dataclass(frozen=True)
class Searched:
    s: TuneSettings
    built: Built
    planned: Planned
    result: Tuned

    @property
    def study(self) -> Study:
        return Study.load(self.planned.file)

    @property
    def client(self) -> MlflowClient:
        return MlflowClient(self.s.mlflow_uri)

    def out(self, number: int) -> Path:
        return trial_directory(self.s, self.planned.study, number)

    def child_runs(self) -> list[Any]:
        parent = self.client.get_run(self.planned.mlflow_run)
        runs = self.client.search_runs([parent.info.experiment_id])
        return [one for one in runs if one.data.tags.get("mlflow.parentRunId") == parent.info.run_id]


@pytest.fixture(scope="module")
def searched(cycle: Snapshot, tmp_path_factory: pytest.TempPathFactory) -> Searched:
    """Four trials, one learning rate good and one bad, a trial cut short as soon as it is below the others' median."""
    s = tune_settings(
        tmp_path_factory.mktemp("searched") / "home",
        trials=4, seed=1, search=GOOD_OR_BAD, pruning={"warmup": 1, "startup": 1},
    )  # fmt: skip
    built = as_built(cycle)
    return Searched(s, built, *tuned(s, built))


# -- what a study leaves -----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_bad_training_is_really_ended_early(searched: Searched) -> None:
    tried = searched.study.trials()
    by_rate = {one.number: one.values["lr"] for one in tried}
    bad = [one for one in tried if one.values["lr"] == 1e-6]
    assert bad, f"no trial was given the bad rate; choose another seed: {by_rate}"
    assert tried[0].state == "complete"
    assert tried[0].epochs == 60
    for one in bad:
        assert one.state == "pruned"
        assert max(one.curve) < 6, "the verdict was early"
        assert one.epochs < 60, "and its training was ended"
        assert read_record(searched.out(one.number)).status == "interrupted"
        run = searched.client.get_run(one.run)
        assert (run.info.status, run.data.tags["hmar.trial.state"]) == ("KILLED", "pruned")


@pytest.mark.slow
def test_every_trial_is_a_run_below_that_of_the_study(searched: Searched) -> None:
    children = searched.child_runs()
    assert sorted(int(one.data.tags["hmar.trial"]) for one in children) == [0, 1, 2, 3]
    assert {one.data.tags["hmar.study"] for one in children} == {searched.planned.study}
    parent = searched.client.get_run(searched.planned.mlflow_run)
    assert parent.info.status == "FINISHED"
    tried = [one for one in searched.study.trials() if one.over]
    metrics = parent.data.metrics
    assert metrics["tune/best"] == searched.result.value == max(one.value or 0.0 for one in tried)
    assert metrics["tune/trials"] == 4
    assert metrics["tune/epochs"] == sum(one.epochs for one in tried)
    assert metrics["tune/seconds"] == pytest.approx(sum(one.seconds for one in tried))
    assert metrics["tune/complete"] + metrics["tune/pruned"] == 4
    assert parent.data.params["search.lr"] == "0.005, 1e-06"
    for folder, wanted in {
        "plots": {"plots/history.png", "plots/curves.png"},
        "study": {"study/best.yaml", "study/trials.json", "study/definition.json"},
    }.items():
        assert wanted <= {one.path for one in searched.client.list_artifacts(searched.planned.mlflow_run, folder)}


@pytest.mark.slow
def test_trials_leave_their_curves_and_not_their_weights(searched: Searched) -> None:
    for one in searched.study.trials():
        left = {path.name for path in searched.out(one.number).iterdir()}
        assert {"settings.json", "history.json", "train.log", "run.json"} <= left
        assert left.isdisjoint({"checkpoints", "model", "best.safetensors"})
    for run in searched.child_runs():
        artifacts = {one.path for one in searched.client.list_artifacts(run.info.run_id)}
        assert artifacts.isdisjoint({"checkpoint", "model"})


@pytest.mark.slow
def test_the_value_is_that_of_the_best_epoch_on_validation(searched: Searched) -> None:
    for one in searched.study.trials():
        rows = json.loads((searched.out(one.number) / "history.json").read_text(encoding="utf-8"))
        judged = {row["epoch"]: row["validation"]["ndcg@10"] for row in rows if row["validation"] is not None}
        assert one.curve.items() <= judged.items()
        if one.state == "complete":
            assert one.value == max(judged.values())
            assert judged[one.best_epoch] == one.value


@pytest.mark.slow
def test_the_best_settings_are_a_settings_file_of_a_run(searched: Searched, tmp_path: Path) -> None:
    file = searched.result.best
    assert "trial" in file.read_text(encoding="utf-8").splitlines()[0]
    content = yaml.safe_load(file.read_text(encoding="utf-8"))
    found = content["overrides"]["sasrec"]
    assert found["lr"] == searched.study.trials()[searched.result.trial].values["lr"]
    assert found["config"]["d"] == 16, "what the search was given is in it, too"
    assert {"threads", "device", "max_epochs"}.isdisjoint(found), "how to train is left to who trains"
    arguments = ["--dataset", "taobao", "--raw", str(tmp_path), "--home", str(tmp_path)]
    s = RetrainSettings.resolve(arguments=arguments, yaml_file=file, use_environment=False)
    assert training_settings(s, "sasrec", tmp_path, "night").lr == found["lr"]


@pytest.mark.slow
def test_the_same_call_repeats_nothing_and_more_trials_go_on(searched: Searched, tmp_path: Path) -> None:
    home = tmp_path / "home"
    shutil.copytree(searched.s.home, home)
    before = {path: path.stat().st_mtime_ns for path in home.glob("studies/**/history.json")}
    s = tune_settings(
        home, trials=5, seed=1, search=GOOD_OR_BAD, pruning={"warmup": 1, "startup": 1}
    )  # fmt: skip
    planned, result = tuned(s, searched.built)
    assert result.trials == 5
    assert len(before) == 4
    assert {path: path.stat().st_mtime_ns for path in before} == before
    again = Searched(s, searched.built, planned, result)
    assert planned.mlflow_run == searched.planned.mlflow_run
    assert len(again.child_runs()) == 5
    points = again.client.get_metric_history(planned.mlflow_run, "tune/value")
    assert sorted(point.step for point in points) == [0, 1, 2, 3, 4]


@pytest.mark.slow
def test_other_settings_are_another_study(searched: Searched, cycle: Snapshot) -> None:
    for changes, said in (
        ({"max_epochs": 5}, r"training\.max_epochs: .* holds a study with 60, not 5; choose another --study"),
        ({"seed": 2}, r"^seed: "),
    ):
        values = {"trials": 4, "seed": 1, "search": GOOD_OR_BAD, "pruning": {"warmup": 1, "startup": 1}, **changes}
        with pytest.raises(SettingsError, match=said):
            plan(tune_settings(searched.s.home, **values), searched.built)


@pytest.mark.slow
def test_the_screen_shows_the_best_and_the_price(searched: Searched, capsys: pytest.CaptureFixture[str]) -> None:
    from pipeline.commands import tune

    for one in searched.study.trials():
        tune._told(searched.study, one)
    tune._table(searched.study, searched.result)
    tune._summary(searched.s, searched.result)
    shown = capsys.readouterr().out
    assert f"{searched.result.trial} *" in shown
    assert f"{searched.result.value:.4f}" in shown
    assert "lr 0.005" in shown
    assert "✂ trial" in shown
    assert "test targets were not read" in shown
    assert f"4 trials, {searched.result.epochs:,} epochs" in shown
    assert f"hmar retrain --settings {searched.result.best} --dataset taobao" in shown.replace("\n", "")


# -- what a study survives ---------------------------------------------------------------------------------------------


THREE: dict[str, Any] = {"trials": 3, "max_epochs": 40, "search": RATES, "pruning": {"kind": "none"}}


@pytest.fixture(scope="module")
def whole(cycle: Snapshot, tmp_path_factory: pytest.TempPathFactory) -> tuple[Planned, Tuned]:
    """Three trials that nobody disturbs."""
    return tuned(tune_settings(tmp_path_factory.mktemp("whole") / "home", **THREE), as_built(cycle))


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_study_that_is_killed_goes_on_and_ends_as_if_never_interrupted(
    number: signal.Signals, cycle: Snapshot, whole: tuple[Planned, Tuned], tmp_path: Path
) -> None:
    s = tune_settings(tmp_path / "cut", **THREE)
    process = tuning_process(s, cycle)
    second = trial_directory(s, s.study, 1)
    wait_until(lambda: _epochs(second) >= 3, "the second trial trains", seconds=150)
    training = psutil.Process(json.loads((second / "process.json").read_text(encoding="utf-8"))["pid"])
    process.send_signal(number)
    assert process.wait(60) == (-signal.SIGKILL if number == signal.SIGKILL else 75)
    wait_until(lambda: not training.is_running() or training.status() == psutil.STATUS_ZOMBIE, "its training ends")
    assert read_record(second).status == "interrupted", "too fast to be interrupted; raise max_epochs"
    first = (trial_directory(s, s.study, 0) / "history.json").stat().st_mtime_ns

    planned, result = tuned(s, as_built(cycle))
    assert "continuing after epoch" in (second / "train.log").read_text(encoding="utf-8")
    assert (trial_directory(s, s.study, 0) / "history.json").stat().st_mtime_ns == first
    assert _outcomes(planned) == _outcomes(whole[0])
    assert (result.trial, result.value) == (whole[1].trial, whole[1].value)
    children = Searched(s, as_built(cycle), planned, result).child_runs()
    assert [one.info.status for one in children] == ["FINISHED"] * 3, "each trial is one run"


def _epochs(out: Path) -> int:
    try:
        return len(json.loads((out / "history.json").read_text(encoding="utf-8")))
    except OSError:
        return 0


def _outcomes(planned: Planned) -> list[Any]:
    tried = Study.load(planned.file).trials()
    return [(one.number, one.state, one.value, one.values, one.curve, one.epochs) for one in tried]


@pytest.mark.slow
def test_settings_that_cannot_be_trained_cost_one_trial(cycle: Snapshot, tmp_path: Path) -> None:
    search = {"lr": {"type": "choice", "values": [1e30]}}
    s = tune_settings(tmp_path / "home", trials=1, max_epochs=3, search=search)
    planned = plan(s, as_built(cycle))
    (tried,) = attempt(s, as_built(cycle), planned, relay=lambda line: None)
    assert tried.state == "failed"
    reason = Study.load(planned.file).trials()[0].reason
    assert "not finite" in reason or "loss is" in reason
    with pytest.raises(ModelError, match=r"no trial was completed \(trial 0: .*; change search"):
        conclude(s, as_built(cycle), planned)


@pytest.mark.slow
def test_when_the_time_is_up_no_trial_is_begun(cycle: Snapshot, tmp_path: Path) -> None:
    s = tune_settings(tmp_path / "home", trials=3, max_epochs=2, timeout=1e-6, search=GOOD_OR_BAD)
    planned = plan(s, as_built(cycle))
    states = [one.state for one in attempt(s, as_built(cycle), planned, relay=lambda line: None)]
    assert states == ["complete", "waiting", "waiting"]
    assert conclude(s, as_built(cycle), planned).trials == 1


@pytest.mark.slow
def test_two_trials_at_a_time(cycle: Snapshot, tmp_path: Path) -> None:
    s = tune_settings(tmp_path / "home", trials=3, max_epochs=2, parallel=2, search=RATES)
    _, result = tuned(s, as_built(cycle))
    assert result.trials == 3


# -- validation only ---------------------------------------------------------------------------------------------------


def scrambled(built: Built, path: Path, split: str) -> Built:
    """The same snapshot with other test targets: their items and events are others, some are gone."""
    shutil.copytree(built.snapshot, path)
    snapshot = Snapshot(path)
    rng = np.random.default_rng(0)
    test = snapshot.targets(split, "test")
    for name, high in (("item", snapshot.manifest.items), ("behavior", len(snapshot.manifest.behaviors))):
        array = np.load(path / "arrays" / f"{name}.npy")
        for user, event in zip(test.user, test.event, strict=True):
            rows = slice(int(event), int(snapshot.offsets[user + 1]))
            array[rows] = rng.integers(high, size=array[rows].shape)
        np.save(path / "arrays" / f"{name}.npy", array)
    file = path / "splits" / split / "targets.parquet"
    table = pq.read_table(file)
    is_test = np.asarray(table["part"]) == "test"
    items = np.asarray(table["item"]).copy()
    items[is_test] = rng.integers(snapshot.manifest.items, size=is_test.sum())
    table = table.set_column(table.schema.get_field_index("item"), "item", pa.array(items))
    kept = ~is_test | (rng.random(len(is_test)) < 0.5)
    pq.write_table(table.filter(pa.array(kept)), file)
    return Built(snapshot=path, id=built.id)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_test_targets_change_nothing(shop: Shop, tmp_path: Path) -> None:
    """With other test targets, and other events from them on, a search comes to the very same numbers."""
    found = {}
    other = scrambled(shop.built, tmp_path / "scrambled", shop.s.split)
    assert len(Snapshot(other.snapshot).targets(shop.s.split, "test")) > 0
    for name, built in (("as it is", shop.built), ("scrambled", other)):
        s = tune_settings(tmp_path / name, trials=2, max_epochs=2, search=RATES)
        planned, _ = tuned(s, built)
        found[name] = _outcomes(planned)
    assert found["as it is"] == found["scrambled"]
    assert all(one[2] for one in found["as it is"])


# -- the command -------------------------------------------------------------------------------------------------------


def test_a_dry_run_shows_the_space_and_the_budget(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["tune", "--dataset", "movielens", "--model", "hmar", "--trials", "7", "--max-epochs", "9", "--dry-run"]
    assert cli.main([*words, "--home", str(tmp_path), "--search", '{"config.blocks": null}']) == 0
    shown = capsys.readouterr().out
    assert "7 trials of at most 9 epochs, pruning median" in shown
    for name in ("lr", "config.theta", "config.alpha.like", "cross_entropy"):
        assert name in shown
    assert "config.blocks" not in shown
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--model", "hmra"], "model: unknown 'hmra'; did you mean 'hmar'?"),
        (["--model", "popularity"], "search: popularity is a rule, nothing of it is trained and nothing searched"),
        (["--search", '{"lrr": {"type": "float", "low": 1, "high": 2}}'], "did you mean 'lr'?"),
        (["--search", '{"lr": {"type": "float", "low": 2, "high": 1}}'], "low 2 is above high 1"),
        (["--overrides", '{"hmar": {"gbce_t": 0.5}}'], "only loss gbce has it"),
        (["--split", "published"], "a search must not choose on"),
        (["--trials", "0"], "trials: "),
        (["--prunning.kind", "none"], "unknown flag --prunning.kind"),
        (["--train", '{"lr": "fast"}'], "training settings of hmar: lr: "),
    ],
)
def test_what_cannot_be_searched_is_refused_before_any_work(
    words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["tune", "--dataset", "movielens", "--home", str(tmp_path), *words]) == SettingsError.exit_code
    told = capsys.readouterr().err
    assert told.startswith("error: ")
    assert said in told
    assert len(told.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_without_published_events_it_says_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["tune", "--dataset", "movielens", "--home", str(tmp_path)]) == 65
    assert "no events are published here" in capsys.readouterr().err
