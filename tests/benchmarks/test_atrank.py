"""ATRank's two claims on logs small enough for a test: every row is there, and a finished training is not repeated."""

import json
from pathlib import Path

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


@pytest.mark.slow
def test_modes(tmp_path: Path) -> None:
    given = words("taobao", "modes", tmp_path)
    assert atrank.main([*given, "--snapshot.impressions.tasks", '["cart", "pv"]']) == 0
    result = json.loads((tmp_path / "table.json").read_text())["modes taobao"]
    tasks = ("buy", "cart", "pv")
    rows = [f"{task} from {of}" for of in ("own", "all") for task in tasks]
    assert list(result["rows"]) == sorted([*(row.replace("own", row.split()[0]) for row in rows), "all from all"])
    assert set(result["rows"]["all from all"]["test"]) == set(tasks)
    trained = {path: path.stat().st_mtime_ns for path in (tmp_path / "work").rglob("*.json")}
    assert len(trained) == 7
    assert atrank.main([*given, "--snapshot.impressions.tasks", '["cart", "pv"]']) == 0
    assert trained == {path: path.stat().st_mtime_ns for path in (tmp_path / "work").rglob("*.json")}
    assert "| all from all | pv |" in (tmp_path / "table.md").read_text()
