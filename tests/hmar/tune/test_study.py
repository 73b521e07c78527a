"""Studies: what is proposed, in what order it is remembered, and what a death of the process costs."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from hmar.errors import DataError, SettingsError
from hmar.tune.pruning import Watch
from hmar.tune.study import RunningTrial, Study, best, importances

SEARCH = {
    "lr": {"type": "float", "low": 1e-4, "high": 1e-1, "log": True},
    "config.d": {"type": "int", "low": 8, "high": 64, "step": 8},
    "batch_size": {"type": "choice", "values": [16, 32, 64]},
    "loss": {"type": "settings", "values": {"a": {"loss": "bce"}, "b": {"loss": "bpr"}}},
}
TRAINING = {"lr": 0.01, "config": {"d": 32}, "batch_size": 32, "loss": "bpr", "max_epochs": 9, "select_metric": "mrr"}
TRIALS = 16
"""Six of them proposed by the estimator."""


def definition(**changes: Any) -> dict[str, Any]:
    given = {
        "search": SEARCH,
        "seed": 3,
        "pruning": {"kind": "median", "warmup": 1, "startup": 2},
        "training": TRAINING,
    }
    return {**given, **changes}


def made(path: Path, trials: int = TRIALS, **changes: Any) -> Study:
    study = Study.create(path / "study.db", definition(**changes))
    study.plan(trials)
    return study


def quality(trial: RunningTrial) -> float:
    """Best at lr 0.003 and d 48."""
    lr, d = float(trial.values["lr"]), float(trial.values["config.d"])  # type: ignore[arg-type]
    return 1 / (1 + (math.log10(lr) + 2.5) ** 2 + ((d - 48) / 32) ** 2)


def finish(study: Study, number: int) -> None:
    trial = study.begin(number)
    trial.complete(quality(trial), epochs=9, seconds=1.0)


def write_history(path: Path, curve: list[float], metric: str = "mrr") -> None:
    rows = [{"epoch": epoch, "validation": {metric: value}} for epoch, value in enumerate(curve, start=1)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(rows), encoding="utf-8")


def test_the_first_trial_is_what_was_there_and_all_lie_within_the_space(tmp_path: Path) -> None:
    study = made(tmp_path)
    assert study.begin(0).values == {"lr": 0.01, "config.d": 32, "batch_size": 32, "loss": "b"}
    for number in range(1, TRIALS):
        values = study.begin(number).values
        assert all(study.space.dimensions[name].has(value) for name, value in values.items())
        assert set(values) == set(SEARCH)


@pytest.mark.slow
def test_better_settings_are_found_and_the_reason_is_known(tmp_path: Path) -> None:
    study = made(tmp_path, 30)
    for number in range(30):
        finish(study, number)
    tried = study.trials()
    found = best(tried)
    assert found is not None
    assert found.value is not None
    assert tried[0].value is not None
    assert found.value > max(tried[0].value, 0.9)
    by_importance = importances(study)
    assert sum(by_importance.values()) == pytest.approx(1)
    assert set(list(by_importance)[:2]) == {"lr", "config.d"}


@pytest.mark.slow
def test_a_study_cut_off_anywhere_proposes_what_an_uninterrupted_one_does(tmp_path: Path) -> None:
    whole = made(tmp_path / "whole")
    for number in range(TRIALS):
        finish(whole, number)
    path = tmp_path / "cut" / "study.db"
    made(path.parent)
    for number in range(TRIALS):
        Study.load(path).begin(number)  # all values given, then the process is gone
        if number in (4, 13):  # gone in the middle of being given values
            forget(path, number, keep=2)
        finish(Study.load(path), number)
    cut = Study.load(path)
    assert [one.values for one in cut.trials()] == [one.values for one in whole.trials()]
    assert cut.trials()[0].values != cut.trials()[1].values != cut.trials()[2].values


def forget(path: Path, number: int, keep: int) -> None:
    """Delete all but the first ``keep`` values of a running trial, as if the process had not come to the rest."""
    import sqlite3

    with sqlite3.connect(path) as database:
        (trial,) = database.execute("select trial_id from trials where number = ?", [number]).fetchone()
        last = "select param_id from trial_params where trial_id = ? order by param_id limit -1 offset ?"
        database.execute(f"delete from trial_params where param_id in ({last})", [trial, keep])
        database.execute("delete from trial_system_attributes where trial_id = ? and key != 'fixed_params'", [trial])


def test_another_seed_proposes_other_values(tmp_path: Path) -> None:
    first, second = made(tmp_path / "a"), made(tmp_path / "b", seed=4)
    assert first.begin(1).values != second.begin(1).values


def test_what_is_over_is_over_and_more_trials_go_on(tmp_path: Path) -> None:
    study = made(tmp_path, 2)
    finish(study, 0)
    with pytest.raises(DataError, match="trial 0 is not planned or over already"):
        study.begin(0)
    with pytest.raises(DataError, match="trial 2 is not planned"):
        study.begin(2)
    again = made(tmp_path, 3)
    assert [one.state for one in again.trials()] == ["complete", "waiting", "waiting"]
    assert again.identity == study.identity
    finish(again, 2)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"seed": 4}, r"^seed: .* holds a study with 3, not 4; choose another --study or give the same value$"),
        ({"search": {**SEARCH, "lr": {**SEARCH["lr"], "high": 1.0}}}, r"^search\.lr\.high: .* with 0\.1, not 1\.0"),
        ({"training": {**TRAINING, "max_epochs": 3}}, r"^training\.max_epochs: "),
    ],
)
def test_a_study_of_another_definition_is_refused(changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    made(tmp_path)
    with pytest.raises(SettingsError, match=said):
        made(tmp_path, **changes)


def test_a_failed_trial_is_remembered_with_its_reason(tmp_path: Path) -> None:
    study = made(tmp_path, 2)
    study.begin(0).fail("loss is nan", epochs=1, seconds=2.0)
    failed = study.trials()[0]
    assert (failed.state, failed.reason, failed.value, failed.epochs) == ("failed", "loss is nan", None, 1)
    assert best(study.trials()) is None


GOOD, BAD = [0.5, 0.6, 0.7, 0.7, 0.8, 0.8, 0.8, 0.8, 0.9], [0.1, 0.1, 0.1, 0.2, 0.2, 0.2, 0.2, 0.2, 0.2]


def with_good_trials(path: Path, number: int, kind: str) -> Study:
    study = made(path, number + 1, pruning={"kind": kind, "warmup": 1, "startup": 2})
    for done in range(number):
        trial = study.begin(done)
        write_history(path / "history.json", [value + done / 1000 for value in GOOD])
        watch = trial.watch(path / "history.json")
        assert not watch() or kind == "hyperband"
        trial.prune() if watch.pruned else trial.complete(max(GOOD) + done / 1000)
    return study


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["median", "halving", "hyperband"])
def test_a_bad_trial_is_cut_short(kind: str, tmp_path: Path) -> None:
    study = with_good_trials(tmp_path, 12, kind)
    trial = study.begin(12)
    write_history(tmp_path / "history.json", BAD)
    watch = trial.watch(tmp_path / "history.json")
    assert watch()
    trial.prune(epochs=9, seconds=1.0)
    pruned = study.trials()[12]
    assert pruned.state == "pruned"
    assert 2 <= max(pruned.curve) < 9, "not in the warm-up, and well before the end"


def test_with_pruning_none_all_are_trained_to_the_end(tmp_path: Path) -> None:
    study = with_good_trials(tmp_path, 3, "none")
    write_history(tmp_path / "history.json", BAD)
    assert not study.begin(3).watch(tmp_path / "history.json")()


@pytest.mark.slow
def test_the_verdict_does_not_depend_on_when_one_looks(tmp_path: Path) -> None:
    cut = {}
    for name in ("at every epoch", "late", "after a death"):
        path = tmp_path / name
        study = with_good_trials(path, 3, "median")
        watch = study.begin(3).watch(path / "own.json")
        assert not watch(), "there is no history yet"
        for epochs in range(1, 10) if name == "at every epoch" else (1, 9):
            write_history(path / "own.json", BAD[:epochs])
            if name == "after a death":
                watch = Study.load(path / "study.db").begin(3).watch(path / "own.json")
            if watch():
                break
        assert watch.pruned
        cut[name] = study.trials()[3].curve
    assert cut["at every epoch"] == cut["late"] == cut["after a death"] == {1: 0.1, 2: 0.1}


def test_epochs_that_were_not_judged_are_passed_over(tmp_path: Path) -> None:
    study = made(tmp_path, 1)
    rows = [{"epoch": 1, "validation": None}, {"epoch": 2, "validation": {"mrr": 0.4, "auc": 0.9}}]
    (tmp_path / "own.json").write_text(json.dumps(rows), encoding="utf-8")
    watch: Watch = study.begin(0).watch(tmp_path / "own.json")
    assert not watch()
    assert study.trials()[0].curve == {2: 0.4}


WRITER = """
import sys
from pathlib import Path
from hmar.tune.study import Study

study = Study.load(Path(sys.argv[1]))
for one in study.trials():
    if not one.over:
        trial = study.begin(one.number)
        trial.complete(0.5, epochs=1, seconds=1.0)
        print(one.number, flush=True)
"""


@pytest.mark.slow
def test_a_process_killed_while_it_writes_leaves_a_study_that_goes_on(tmp_path: Path) -> None:
    study = made(tmp_path, 120)
    for told in (1, 5, 9):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, str(study.path)], stdout=subprocess.PIPE, env={**os.environ}
        ) as process:
            assert process.stdout is not None
            for _ in range(told):
                process.stdout.readline()
            time.sleep(0.004 * told)
            process.send_signal(signal.SIGKILL)
        tried = Study.load(study.path).trials()
        states = [one.state for one in tried]
        over = states.count("complete")
        assert over >= told
        assert set(states[:over]) == {"complete"}
        assert set(states[over + 1 :]) == {"waiting"}
        assert states[over] in ("running", "waiting")
    finish(Study.load(study.path), over)
