"""``python -m hmar.evaluate.cost``: parameters, and the time of scoring."""

import json
from pathlib import Path

import pytest
import torch

from hmar.data.snapshot import Snapshot
from hmar.errors import DataError
from hmar.evaluate.cost import main
from hmar.export import save
from tests.support.judging import SPLIT, case
from tests.support.untrained import untrained


@pytest.fixture
def snapshot(tmp_path: Path) -> Snapshot:
    return case(tmp_path / "snapshot", 1, users=50, items=30)


def words(tmp_path: Path, snapshot: Snapshot, model: str) -> list[str]:
    save(tmp_path / model, untrained(model, snapshot), snapshot, SPLIT, max_length=9)
    flags = {"model-dir": tmp_path / model, "snapshot": snapshot.path, "split": SPLIT, "out": tmp_path / "cost.json"}
    return [word for flag, value in flags.items() for word in (f"--{flag}", str(value))]


@pytest.mark.parametrize("model", ["popularity", "sasrec", "hmar", "din"])
def test_parameters_and_time(tmp_path: Path, snapshot: Snapshot, model: str) -> None:
    threads = torch.get_num_threads()
    try:
        assert main([*words(tmp_path, snapshot, model), "--passes", "3"]) == 0
        told = json.loads((tmp_path / "cost.json").read_text(encoding="utf-8"))
        assert told["parameters"] == sum(weights.numel() for weights in untrained(model, snapshot).parameters())
        assert (told["threads"], told["candidates"], len(told["passes"])) == (1, 30, 3)
        assert told["histories"] == len(snapshot.targets(SPLIT, "test"))
        median = sorted(told["passes"])[1]
        assert told["milliseconds"] == pytest.approx(1000 * median / (told["histories"] * 30 / 1000))
    finally:
        torch.set_num_threads(threads)


def test_a_model_of_another_snapshot_is_refused(
    tmp_path: Path, snapshot: Snapshot, capsys: pytest.CaptureFixture[str]
) -> None:
    other = case(tmp_path / "other", 2, users=40, items=20)
    given = words(tmp_path, snapshot, "recent")
    given[given.index("--snapshot") + 1] = str(other.path)
    assert main(given) == DataError.exit_code
    assert "the model is of snapshot" in capsys.readouterr().err
