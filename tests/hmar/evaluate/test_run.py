"""``python -m hmar.evaluate`` from directory to directory, with a real MLflow store."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hmar.data.snapshot import Snapshot
from hmar.evaluate import per_target
from hmar.evaluate.__main__ import main
from hmar.evaluate.impressions import judge_impressions
from hmar.evaluate.run import Evaluation, evaluate
from hmar.evaluate.settings import EvaluateSettings
from hmar.export import save
from hmar.tracking.run import TrackedRun
from tests.support.arrays import write_impressions
from tests.support.judging import SPLIT, case
from tests.support.untrained import untrained

FILES = {
    "per_target_validation.parquet",
    "per_target_test.parquet",
    "explained.json",
    "plots/behaviors.png",
    "plots/explained.png",
    "plots/hr_by_length_validation.png",
    "plots/hr_by_length_test.png",
    "plots/metrics_validation.png",
    "plots/metrics_test.png",
}


@pytest.fixture
def snapshot(tmp_path: Path) -> Snapshot:
    return case(tmp_path / "snapshot", 1, users=20, items=30)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One MLflow store for the module: its tables take seconds to create."""
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db"


@pytest.fixture
def run(store: str, tmp_path: Path) -> TrackedRun:
    return TrackedRun.open(store, experiment="made_up", identity=str(tmp_path), name="recent")


@pytest.fixture
def training(tmp_path: Path, snapshot: Snapshot, run: TrackedRun) -> Path:
    """What hmar.train leaves."""
    directory = tmp_path / "training"
    save(directory / "model", untrained("recent", snapshot), snapshot, SPLIT, max_length=9)
    record = {
        "training": "one",
        "status": "finished",
        "model": "recent",
        "snapshot": snapshot.manifest.id,
        "split": SPLIT,
        "mlflow_run": run.run_id,
    }
    (directory / "run.json").write_text(json.dumps(record))
    (directory / "settings.json").write_text(json.dumps({"tracking": {"uri": run.uri}}))
    return directory


def words(training: Path, snapshot: Snapshot, *more: str) -> list[str]:
    return ["--training", str(training), "--snapshot", str(snapshot.path), "--resamples", "100", *more]


def test_everything_is_written_logged_and_shown(
    training: Path, snapshot: Snapshot, run: TrackedRun, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words(training, snapshot)) == 0
    results = training / "evaluation" / snapshot.manifest.id / SPLIT
    report = json.loads((results / "metrics.json").read_text())
    assert set(report["files"]) == FILES
    assert all((results / name).stat().st_size > 0 for name in FILES)
    assert report["inputs"]["snapshot"] == snapshot.manifest.id
    assert report["made"]["device"] == "cpu"
    shown = capsys.readouterr().out
    assert "recent, leave_one_out, test" in shown
    assert f"{report['metrics']['test/full/all/hr@10']:.4f}" in shown
    logged = run.client.get_run(run.run_id).data.metrics
    assert logged["test/full/all/ndcg_at_10"] == pytest.approx(report["metrics"]["test/full/all/ndcg@10"])
    assert logged["validation/sampled/all/mrr/low"] == pytest.approx(
        report["metrics"]["validation/sampled/all/mrr/low"]
    )
    assert len(logged) == len(report["metrics"])
    assert {artifact.path for artifact in run.client.list_artifacts(run.run_id, "evaluation")} == {
        "evaluation/explained.json",
        "evaluation/metrics.json",
        "evaluation/per_target_test.parquet",
        "evaluation/per_target_validation.parquet",
    }
    assert len(run.client.list_artifacts(run.run_id, "plots")) == 6


def test_labelled_impressions_are_judged_where_the_snapshot_has_them(
    tmp_path: Path, training: Path, snapshot: Snapshot, run: TrackedRun
) -> None:
    shown = write_impressions(snapshot, sampled=2)
    result = evaluate(EvaluateSettings.resolve(arguments=words(training, shown), use_environment=False))
    for part in ("validation", "test"):
        rows = per_target.read(result.directory / f"impressions_{part}.parquet")
        assert result.metrics[f"{part}/impressions/all/impressions"] == sum(rows.column("impressions").to_pylist())
        assert (result.directory / f"plots/auc_by_length_{part}.png").stat().st_size > 0
    judged = judge_impressions(untrained("recent", shown), shown, SPLIT, "validation", max_length=9)
    assert result.metrics["validation/impressions/all/auc"] == pytest.approx(judged.mean("auc"))
    logged = run.client.get_run(run.run_id).data.metrics
    bound = "validation/impressions/all/auc/low"
    assert logged[bound] == pytest.approx(result.metrics[bound])
    assert "impressions_test.parquet" in json.loads((result.directory / "metrics.json").read_text())["files"]


def test_a_finished_evaluation_is_kept_and_logged_once(training: Path, snapshot: Snapshot, run: TrackedRun) -> None:
    settings = EvaluateSettings.resolve(arguments=words(training, snapshot), use_environment=False)
    first = evaluate(settings)
    before = _times(first.directory)
    again = evaluate(settings)
    assert (first.reused, again.reused) == (False, True)
    assert again.metrics == first.metrics
    assert again.mlflow_run == first.mlflow_run == run.run_id
    assert _times(first.directory) == before
    assert len(run.client.get_metric_history(run.run_id, "test/full/all/ndcg_at_10")) == 1


@pytest.mark.slow
def test_what_a_crash_left_is_finished(training: Path, snapshot: Snapshot, run: TrackedRun) -> None:
    settings = EvaluateSettings.resolve(arguments=words(training, snapshot), use_environment=False)
    first = evaluate(settings)
    whole = (first.directory / "per_target_test.parquet").read_bytes()
    (first.directory / "logged.json").unlink()
    assert evaluate(settings).reused
    assert (first.directory / "logged.json").exists()
    (first.directory / "per_target_test.parquet").write_bytes(b"half")
    repaired = evaluate(settings)
    assert not repaired.reused
    assert (first.directory / "per_target_test.parquet").read_bytes() == whole


def test_only_the_missing_part_is_judged(training: Path, snapshot: Snapshot) -> None:
    def evaluated(*more: str) -> Evaluation:
        return evaluate(EvaluateSettings.resolve(arguments=words(training, snapshot, *more), use_environment=False))

    first = evaluated("--parts", "validation")
    written = (first.directory / "per_target_validation.parquet").stat().st_mtime_ns
    both = evaluated()
    assert not both.reused
    assert (first.directory / "per_target_validation.parquet").stat().st_mtime_ns == written
    assert first.metrics.items() < both.metrics.items()
    assert evaluated("--parts", "test").reused


@pytest.mark.slow
def test_other_settings_or_another_model_are_another_evaluation(training: Path, snapshot: Snapshot) -> None:
    evaluate(EvaluateSettings.resolve(arguments=words(training, snapshot), use_environment=False))
    more = words(training, snapshot, "--seed", "1")
    assert not evaluate(EvaluateSettings.resolve(arguments=more, use_environment=False)).reused
    save(training / "model", untrained("popularity", snapshot), snapshot, SPLIT, max_length=9)
    other = evaluate(EvaluateSettings.resolve(arguments=more, use_environment=False))
    assert not other.reused
    assert other.model == "popularity"


@pytest.mark.slow
def test_recommendations_of_so_many_users_are_explained(training: Path, snapshot: Snapshot) -> None:
    def evaluated(users: int) -> Evaluation:
        more = words(training, snapshot, "--explain-users", str(users))
        return evaluate(EvaluateSettings.resolve(arguments=more, use_environment=False))

    some = json.loads((evaluated(7).directory / "explained.json").read_text())
    assert (some["users"], some["behaviors"]) == (7, list(snapshot.behaviors))
    none = evaluated(0)
    assert not none.reused
    files = json.loads((none.directory / "metrics.json").read_text())["files"]
    assert not [name for name in files if "explained" in name]


def test_an_exported_model_alone_needs_no_mlflow(training: Path, snapshot: Snapshot, tmp_path: Path) -> None:
    shutil.move(training / "model", tmp_path / "champion")
    arguments = ["--model-dir", str(tmp_path / "champion"), "--snapshot", str(snapshot.path), "--out"]
    arguments += [str(tmp_path / "out"), "--parts", "test", "--resamples", "100"]
    done = evaluate(EvaluateSettings.resolve(arguments=arguments, use_environment=False))
    assert done.directory == tmp_path / "out" / snapshot.manifest.id / SPLIT
    assert done.mlflow_run == ""
    assert done.parts == ("test",)
    assert not any(name.startswith("validation") for name in done.metrics)


def test_another_snapshot_is_judged_and_not_logged(
    training: Path, snapshot: Snapshot, run: TrackedRun, tmp_path: Path
) -> None:
    newer = case(tmp_path / "newer", 2, users=20, items=30)
    done = evaluate(EvaluateSettings.resolve(arguments=words(training, newer), use_environment=False))
    assert done.directory.parent.name == newer.manifest.id
    assert done.mlflow_run == ""
    assert run.client.get_run(run.run_id).data.metrics == {}


@pytest.mark.parametrize(
    ("change", "code", "line"),
    [
        (["--training", "nowhere"], 65, "error: nowhere/model: not an exported model (no config.json)"),
        (["--snapshot", "nowhere"], 65, "error: nowhere: not a snapshot"),
        (["--split", "temporal"], 65, "no split 'temporal'; it has: leave_one_out"),
        (["--model-dir", "x"], 78, "give either training or model_dir"),
        (["--part", "test"], 78, "unknown flag --part; did you mean '--parts'?"),
        (["--tracking-uri", "http://127.0.0.1:9"], 69, "error: MLflow at http://127.0.0.1:9"),
    ],
)
def test_errors_are_one_line(
    training: Path, snapshot: Snapshot, capsys: pytest.CaptureFixture[str], change: list[str], code: int, line: str
) -> None:
    assert main(words(training, snapshot, *change)) == code
    shown = capsys.readouterr().err
    assert line in shown
    assert len(shown.splitlines()) == 1


@pytest.mark.slow
def test_as_a_process_of_its_own(training: Path, snapshot: Snapshot, checkout: Path) -> None:
    command = [sys.executable, "-m", "hmar.evaluate", *words(training, snapshot, "--threads", "1")]
    done = subprocess.run(command, cwd=checkout, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "test" in done.stdout
    bad = subprocess.run([*command, "--split", "no"], cwd=checkout, capture_output=True, text=True, check=False)
    assert bad.returncode == 65
    assert bad.stderr.startswith("error: ")


def _times(directory: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in directory.rglob("*") if path.is_file()}
