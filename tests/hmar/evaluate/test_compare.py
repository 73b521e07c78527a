"""Which comparisons are refused, and that a real difference is seen."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from hmar.errors import DataError
from hmar.evaluate import per_target
from hmar.evaluate.compare import paired


def outcome(ranks: list[int | None], snapshot: str = "s1", item: int = 7) -> pa.Table:
    count = len(ranks)
    columns = {"target": list(range(count)), "user": list(range(count)), "item": [item] * count}
    about = {"snapshot": snapshot, "split": "leave_one_out", "part": "test"}
    return pa.table({**columns, "rank_full": pa.array(ranks, pa.int32())}).replace_schema_metadata(about)


def test_a_clear_gain_has_an_interval_above_zero_and_noise_has_not() -> None:
    rng = np.random.default_rng(0)
    weak = rng.integers(1, 60, 400)
    better = outcome(np.maximum(1, weak - 8).tolist())
    as_good = outcome(np.maximum(1, weak + rng.choice([-4, 4], 400)).tolist())
    gain = paired(outcome(weak.tolist()), better)
    assert 0 < gain.low < gain.gain < gain.high
    noise = paired(outcome(weak.tolist()), as_good, "mrr")
    assert noise.low < 0 < noise.high


def test_pairing_is_sharper_than_two_separate_intervals() -> None:
    rng = np.random.default_rng(0)
    weak = rng.integers(1, 60, 400)
    comparison = paired(outcome(weak.tolist()), outcome(np.maximum(1, weak - 1).tolist()), "ndcg@20")
    assert comparison.low > 0
    assert comparison.high - comparison.low < 0.5 * comparison.mean_a


def test_paths_are_read_and_named(tmp_path: Path) -> None:
    a, b = (per_target.write(outcome([1, 2, None], "s1"), tmp_path / f"{name}.parquet") for name in "ab")
    assert paired(a, b).gain == 0
    other = per_target.write(outcome([1, 2, None], "s2"), tmp_path / "c.parquet")
    with pytest.raises(DataError, match=r"a\.parquet and .*c\.parquet differ in snapshot \(s1, s2\)"):
        paired(a, other)
    with pytest.raises(DataError, match=r"gone\.parquet: no per-target outcome"):
        paired(a, tmp_path / "gone.parquet")


def test_other_targets_are_refused() -> None:
    with pytest.raises(DataError, match="different targets"):
        paired(outcome([1, 2]), outcome([1, 2], item=8))
    with pytest.raises(DataError, match="different targets"):
        paired(outcome([1, 2]), outcome([1, 2, 3]))
    with pytest.raises(DataError, match="no targets"):
        paired(outcome([]), outcome([]))
