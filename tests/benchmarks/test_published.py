"""The benchmark of the published protocol, on a log small enough for a test."""

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import published
from hmar.errors import DataError


def test_every_line_gets_a_time_of_its_own_in_the_order_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "u.data").write_text("2\t10\t3\t5\n1\t11\t4\t9\n1\t12\t1\t7\n2\t13\t5\t5\n3\t10\t2\t1\n1\t13\t3\t7\n")
    out = published.in_file_order(tmp_path, tmp_path / "out")
    lines = [line.split("\t") for line in (out / "u.data").read_text().splitlines()]
    assert [line[:3] for line in lines] == [
        ["1", "12", "1"], ["1", "13", "3"], ["1", "11", "4"], ["2", "10", "3"], ["2", "13", "5"],
    ]  # fmt: skip
    assert len({line[3] for line in lines}) == 5
    assert [int(line[3]) for line in lines] == sorted(int(line[3]) for line in lines)
    with pytest.raises(DataError, match=r"u\.data does not exist"):
        published.in_file_order(tmp_path / "nowhere", tmp_path / "out")


def canonical(text: str) -> str:
    return json.dumps(json.loads(text), sort_keys=True)


@pytest.mark.slow
def test_a_small_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(1)
    lines = [f"{user}\t{item}\t{rng.integers(1, 6)}\t{878_000_000 + 60 * n}" for user in range(1, 31)
             for n, item in enumerate(rng.permutation(130)[:25] + 1)]  # fmt: skip
    (tmp_path / "u.data").write_text("\n".join(lines) + "\n")
    train = json.dumps({"threads": 1, "device": "cpu", "config": {"d": 8}})
    words = ["--raw", str(tmp_path), "--home", str(tmp_path / "home"), "--seeds", "3", "--epochs", "110"]
    assert published.main([*words, "--train", train, "--out", str(tmp_path / "table")]) == 0
    result = json.loads((tmp_path / "table.json").read_text())
    assert set(result["seeds"]["3"]) == {"110"}
    shown = capsys.readouterr().out
    assert "| 110 |" in shown
    assert "file order" in shown
    assert (tmp_path / "table.md").read_text() in shown
    assert f"`python -m benchmarks.published --raw RAW --seeds 3 --epochs 110 --train '{canonical(train)}'`" in shown
