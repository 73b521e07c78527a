"""The benchmark of DFAR on a log of nothing: what it keeps, what it tells, and that a run is made once."""

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import dfar
from benchmarks.dfar import ROWS, main
from hmar.errors import SettingsError
from tests.support.arrays import random_users, write_impressions, write_snapshot


def test_runs_are_made_once_and_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    users = random_users(40, 12, 3, 18, seed=7, shortest=8)
    snapshot = write_impressions(write_snapshot(tmp_path / "snapshot", users, items=12, held_out=5), sampled=9)
    words = (
        f"--snapshot {snapshot.path} --work {tmp_path / 'work'} --out {tmp_path / 'out' / 'dfar'} --epochs 1".split()
    )
    words += ["--seeds", "0,1"]
    three = json.dumps(["Popularity", "DFAR", "without FHA"])
    assert main([*words, "--rows", three]) == 0
    made = capsys.readouterr().out
    assert [line.split(":")[0] for line in made.splitlines()] == [
        "Popularity, seed 0", "DFAR, seed 0", "without FHA, seed 0", "DFAR, seed 1", "without FHA, seed 1",
    ]  # fmt: skip
    kept = json.loads((tmp_path / "out" / "dfar.json").read_text(encoding="utf-8"))
    (log,) = kept["logs"].values()
    rows = log["rows"]
    assert list(rows) == ["Popularity", "DFAR", "without FHA"]
    assert (rows["Popularity"]["seeds"], rows["DFAR"]["seeds"]) == (1, 2)
    assert rows["DFAR"]["mean"]["auc"] == pytest.approx(
        np.mean([json.loads(line.split(": ", 1)[1])["auc"] for line in made.splitlines() if line.startswith("DFAR")])
    )
    for metric in ("auc", "gauc"):
        mean, low, high = rows["without FHA"]["gain"][metric]
        assert mean == pytest.approx(rows["DFAR"]["mean"][metric] - rows["without FHA"]["mean"][metric])
        assert low <= mean <= high
    text = (tmp_path / "out" / "dfar.md").read_text(encoding="utf-8")
    assert "Table 3 (every part pays)" in text
    assert f"{log['test']['impressions']} impressions" in text
    assert main([*words, "--rows", three]) == 0
    assert capsys.readouterr().out == ""
    assert (tmp_path / "out" / "dfar.md").read_text(encoding="utf-8") == text
    assert main([*words, "--rows", "Recent"]) == 0
    assert capsys.readouterr().out.startswith("Recent, seed 0: ")
    (log,) = json.loads((tmp_path / "out" / "dfar.json").read_text(encoding="utf-8"))["logs"].values()
    assert list(log["rows"]) == ["Popularity", "Recent", "DFAR", "without FHA"], "all that have runs"
    assert {row: entry for row, entry in log["rows"].items() if row != "Recent"} == rows
    assert log["command"].endswith("--work WORK --seeds 0,1 --lr 0.003 --epochs 1 --patience 3")
    # Seeds that were trained in processes of their own: a rule has as many runs, and they say the same.
    assert main([*words[:-1], "1", "--rows", "Popularity"]) == 0
    assert main([*words, "--tables-only"]) == 0
    (log,) = json.loads((tmp_path / "out" / "dfar.json").read_text(encoding="utf-8"))["logs"].values()
    assert (log["rows"]["Popularity"]["seeds"], log["rows"]["DFAR"]["seeds"]) == (1, 2)


def test_a_run_made_otherwise_is_not_taken_for_this_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    users = random_users(10, 12, 3, 18, seed=7, shortest=8)
    snapshot = write_snapshot(tmp_path / "snapshot", users, items=12)
    s = dfar.DFARSettings.resolve({"snapshot": snapshot.path, "work": tmp_path}, use_environment=False)
    paths = [dfar._path(s, snapshot, "DFAR", 0)]
    for name in ("LENGTH", "BATCH", "USERS", "NEGATIVES"):
        with monkeypatch.context() as changed:
            changed.setattr(dfar, name, 3)
            paths.append(dfar._path(s, snapshot, "DFAR", 0))
    monkeypatch.setitem(dfar.ROWS, "DFAR", ("dfar", {"d": 3}))
    assert len({*paths, dfar._path(s, snapshot, "DFAR", 0)}) == 6


def test_an_unknown_row_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--snapshot", "x", "--work", "y", "--rows", "DFARR"]) == SettingsError.exit_code
    assert "rows: no row 'DFARR'; did you mean 'DFAR'?" in capsys.readouterr().err


def test_every_row_fits_its_model() -> None:
    from hmar.models import MODELS, model_class

    for name, config in ROWS.values():
        if name in MODELS:
            model_class(name).Config.parse(config)
