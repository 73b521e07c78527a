"""ATRank's two claims on logs small enough for a test: every row is there, and a finished training is not repeated."""

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from benchmarks import atrank
from pipeline.simulate import simulate

SMALL = ("--seeds", "0", "--epochs", "1", "--width", "8", "--spaces", "2", "--max-length", "9")


def words(dataset: str, part: str, tmp_path: Path) -> list[str]:
    raw = tmp_path / "raw"
    if not raw.exists():
        simulate(dataset, raw, users=60, items=40, seed=3)
    places = ["--raw", str(raw), "--home", str(tmp_path / "home"), "--work", str(tmp_path / "work")]
    return ["--dataset", dataset, "--part", part, *places, "--out", str(tmp_path / "table"), *SMALL]


def gauc_of_differences(result: dict[str, Any]) -> None:
    """Differences are of the columns beside them, so of users weighted with their impressions."""
    for pair, found in result["differences"].items():
        one, base = pair.split(" - ")
        (task,) = result["rows"][base]["test"]
        means = [result["rows"][row]["test"][task]["gauc"]["mean"] for row in (one, base)]
        assert found["mean"] == pytest.approx(means[0] - means[1], abs=1e-12), pair
        assert found["low"] <= found["mean"] <= found["high"]


@pytest.mark.slow
def test_encoders(tmp_path: Path) -> None:
    given = [*words("movielens", "encoders", tmp_path), "--snapshot.impressions.sampled", "4"]
    given[given.index("--seeds") + 1] = "0,1"
    assert atrank.main(given) == 0
    result = json.loads((tmp_path / "table.json").read_text())["encoders movielens"]
    assert list(result["rows"]) == list(atrank.ENCODERS.values())
    assert len(result["differences"]) == 3
    gauc_of_differences(result)
    weights = {len(set(run["test"]["like"]["by_user"])) for run in map(json.loads, texts(tmp_path / "work"))}
    assert weights == {found["users"] for found in result["differences"].values()}
    text = (tmp_path / "table.md").read_text()
    assert "| Bi-LSTM + attention - ATRank |" in text
    printed = shlex.split(result["about"]["command"])[3:]
    assert f"`{result['about']['command']}`" in text
    again, before = (atrank.ATRankSettings.resolve(arguments=each, program="test") for each in (printed, given))
    places = {"raw", "home", "work", "out"}
    assert again.model_dump(exclude=places) == before.model_dump(exclude=places)


def texts(work: Path) -> list[str]:
    return [path.read_text() for path in work.rglob("*.json")]


def course(*seconds: float) -> list[dict[str, Any]]:
    """Runs of one epoch."""
    return [{"epochs": [{"seconds": each, "auc": 0.6}]} for each in seconds]


def test_speed_is_decided_beyond_the_seeds_noise_only() -> None:
    runs = {"ATRank": course(10, 11, 12), "CNN": course(20, 22, 24), "RNN": course(9, 12, 15), "LSTM": course(5, 5, 6)}
    speed = atrank._speed(runs)
    times = {row: found["times"] for row, found in speed["rows"].items()}
    assert times["CNN"]["mean"] == pytest.approx(2)
    assert 1 < times["CNN"]["low"] < 2 < times["CNN"]["high"]
    for factor in (1, 7):
        scaled = atrank._times(*([factor * each for each in row] for row in ((9.0, 12.0, 15.0), (10.0, 11.0, 12.0))))
        assert scaled == pytest.approx(times["RNN"])
    off = {"mean": 0.0, "low": -0.1, "high": 0.1}
    said = atrank._verdict({"speed": speed, "differences": {f"{row} - ATRank": off for row in runs}})
    assert [line.split()[-1] for line in said] == ["agrees.", "undecided.", "disagrees."]
    alone = atrank._speed({row: own[:1] for row, own in runs.items()})
    said = atrank._verdict({"speed": alone, "differences": {f"{row} - ATRank": off for row in runs}})
    assert {line.split()[-1] for line in said} == {"undecided."}


def test_a_damaged_run_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks import ranker_runs

    monkeypatch.setattr(ranker_runs, "_run", lambda settings: {"weights": settings.seed})
    values = {"model": "atrank", "snapshot": "x", "seed": 7}
    assert ranker_runs.run(values, tmp_path) == {"weights": 7}
    (path,) = tmp_path.iterdir()
    path.write_text('{"weights"')
    assert ranker_runs.run(values, tmp_path) == {"weights": 7}
    monkeypatch.setattr(ranker_runs, "_run", lambda settings: pytest.fail("trained twice"))
    assert ranker_runs.run(values, tmp_path) == {"weights": 7}


@pytest.mark.slow
def test_modes(tmp_path: Path) -> None:
    given = words("taobao", "modes", tmp_path)
    assert atrank.main([*given, "--snapshot.impressions.tasks", '["cart", "pv"]']) == 0
    result = json.loads((tmp_path / "table.json").read_text())["modes taobao"]
    tasks = ("buy", "cart", "pv")
    rows = [f"{task} from {of}" for of in ("own", "all") for task in tasks]
    assert list(result["rows"]) == [*(row.replace("own", row.split()[0]) for row in rows), "all from all"]
    assert set(result["rows"]["all from all"]["test"]) == set(tasks)
    trained = {path: path.stat().st_mtime_ns for path in (tmp_path / "work").rglob("*.json")}
    assert len(trained) == 7
    assert atrank.main([*given, "--snapshot.impressions.tasks", '["cart", "pv"]']) == 0
    assert trained == {path: path.stat().st_mtime_ns for path in (tmp_path / "work").rglob("*.json")}
    assert "| all from all | pv |" in (tmp_path / "table.md").read_text()
