"""The whole run without Airflow, by its command, on a generated log."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipeline.cli import main
from pipeline.registry import Registry, own_tags
from pipeline.settings import RetrainSettings
from tests.support.raw_logs import START, lines, write

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

ROOT = Path(__file__).resolve().parents[2]
SMALL = '{"threads": 1, "device": "cpu", "max_epochs": 2, "max_length": 30, "batch_size": 64}'
SASREC = '{"sasrec": {"config": {"d": 16, "positions": 30}}}'


def _words(command: str, home: Path, *more: str) -> list[str]:
    return [command, "--dataset", "movielens", "--home", str(home), *more]


def _retrain_words(home: Path, raw: Path, *more: str) -> list[str]:
    words = ["--raw", str(raw), "--models", "sasrec,popularity,recent", "--train", SMALL, "--overrides", SASREC]
    return _words("retrain", home, *words, *more)


def _retrain(home: Path, raw: Path, *more: str) -> int:
    return main(_retrain_words(home, raw, *more))


def _bytes(root: Path) -> dict[str, tuple[int, str]]:
    """mtime and digest of every file."""
    return {
        str(path.relative_to(root)): (path.stat().st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest())
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("retrain") / "home"


@pytest.fixture(scope="module")
def settings(home: Path, movielens_log: Path) -> RetrainSettings:
    return RetrainSettings.resolve({"dataset": "movielens", "raw": movielens_log, "home": home}, use_environment=False)


@pytest.fixture(scope="module")
def first_night(home: Path, movielens_log: Path) -> str:
    """What the first run printed, in a process of its own."""
    words = [sys.executable, "-m", "pipeline.cli", *_retrain_words(home, movielens_log, "--run", "first")]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_final_screen_tells_rows_models_champion_items_and_places(first_night: str, settings: RetrainSettings) -> None:
    champion = Registry(settings).champion()
    assert "rows = " in first_night
    for model in ("sasrec", "popularity", "recent"):
        assert f"train {model}" in first_night
    assert f"{own_tags(champion)['model']} *" in first_night
    assert "hmar-movielens: promoted; champion is version 1" in first_night
    assert "For user " in first_night
    assert str(settings.paths.report("first") / "report.html") in first_night
    assert "Traceback" not in first_night
    assert "INFO" not in first_night, "MLflow's own chatter"


def test_a_run_keeps_what_its_report_needs(first_night: str, settings: RetrainSettings) -> None:
    (kept,) = (settings.paths.root / "trainings" / "first").glob("*.json")
    told = json.loads(kept.read_text(encoding="utf-8"))
    assert told["settings"]["models"] == ["sasrec", "popularity", "recent"]
    assert told["checks"], "of the validation"
    assert told["rows"]["accounts"]["rows"] == sum(one["rows"] for one in told["rows"]["inputs"]) > 0


def test_rated_films_are_not_recommended(first_night: str, settings: RetrainSettings) -> None:
    from hmar.data.snapshot import Snapshot

    (snapshot,) = [Snapshot(path.parent) for path in settings.paths.snapshots("movielens").glob("*/manifest.json")]
    (written,) = settings.paths.recommendations("movielens").glob("*/recommendations.parquet")
    pairs = set(zip(*(pq.read_table(written).column(name).to_pylist() for name in ("user_id", "item_id")), strict=True))
    events = pq.read_table(snapshot.path / "events.parquet", columns=["user", "item"])
    user_ids, item_ids = snapshot.users.column("user_id").to_pylist(), snapshot.items.column("item_id").to_pylist()
    rated = {
        (user_ids[user], item_ids[item])
        for user, item in zip(events.column("user").to_pylist(), events.column("item").to_pylist(), strict=True)
    }
    assert pairs
    assert not pairs & rated


def test_second_night_on_the_same_log_reuses_data_and_keeps_the_champion(
    first_night: str, home: Path, movielens_log: Path, settings: RetrainSettings, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = {part: _bytes(home / part) for part in ("events", "snapshots")}
    assert _retrain(home, movielens_log, "--run", "second") == 0
    assert {part: _bytes(home / part) for part in ("events", "snapshots")} == kept
    registry = Registry(settings)
    assert [version.version for version in registry.versions()] == [2, 1]
    assert registry.champion().version == 1
    tags = own_tags(registry.version("2"))
    assert (tags["decision"], float(tags["gain"])) == ("kept out", 0.0)


def test_same_run_again_makes_nothing_new(
    first_night: str, home: Path, movielens_log: Path, settings: RetrainSettings
) -> None:
    weights = _bytes(settings.paths.root / "trainings" / "first" / "sasrec" / "model")
    before = len(Registry(settings).versions())
    assert _retrain(home, movielens_log, "--run", "first") == 0
    assert _bytes(settings.paths.root / "trainings" / "first" / "sasrec" / "model") == weights
    assert len(Registry(settings).versions()) == before


def test_single_stages_take_up_what_the_run_left(
    first_night: str, home: Path, movielens_log: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(_words("ingest", home, "--raw", str(movielens_log))) == 0
    assert main(_words("snapshot", home)) == 0
    assert main(_words("evaluate", home, "--run", "first", "--models", "sasrec,popularity,recent")) == 0
    assert main(_words("promote", home, "--run", "first")) == 0
    assert main(_words("recommend", home, "--user", "1")) == 0
    assert main(_words("report", home, "--run", "first")) == 0
    assert capsys.readouterr().err == ""


def test_unknown_user_and_run_are_one_clear_line(
    first_night: str, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(_words("recommend", home, "--user", "424242")) == 65
    assert capsys.readouterr().err.startswith("error: user '424242' is not in snapshot ")
    assert main(_words("report", home, "--run", "third")) == 65
    assert "runs of movielens: " in capsys.readouterr().err


def test_a_log_in_which_nobody_buys_twice_ends_before_any_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        f"{user},{user % 5},9,{act},{START + 60 * n}" for user in range(1, 9) for n, act in enumerate(("pv", "buy"))
    ]
    raw = write(tmp_path / "UserBehavior.csv", lines(rows))
    words = ["--dataset", "taobao", "--raw", str(raw), "--models", "popularity", "--run", "r"]
    assert main(["retrain", *words, "--home", str(tmp_path / "home")]) == 65
    assert "split leave_one_out has no validation targets" in capsys.readouterr().err
    assert not (tmp_path / "home" / "trainings").exists()
