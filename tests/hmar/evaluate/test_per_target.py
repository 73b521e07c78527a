"""The outcome per target as a file."""

from pathlib import Path

import numpy as np

from hmar.evaluate import per_target
from hmar.evaluate.judge import judge
from tests.support.judging import SPLIT, Scripted, case, script

COLUMNS = [
    "target",
    "user_id",
    "item_id",
    "user",
    "item",
    "event_time",
    "rank_full",
    "rank_sampled",
    "repeat",
    "cold_user",
    "cold_item",
    "history_length",
]


def test_rows_are_in_source_ids_and_survive_the_disk(tmp_path: Path) -> None:
    snapshot = case(tmp_path / "snapshot", 3, users=20)
    judgement = judge(Scripted(snapshot, script(snapshot, 3)), snapshot, SPLIT, "test", max_length=5)
    rows = per_target.read(per_target.write(per_target.table(judgement, snapshot), tmp_path / "out" / "test.parquet"))
    assert rows.column_names == COLUMNS
    assert rows.column("user_id").to_pylist() == [1000 + user for user in judgement.targets.user.tolist()]
    assert rows.column("item_id").to_pylist() == [1000 + item for item in judgement.targets.item.tolist()]
    np.testing.assert_array_equal(per_target.ranks(rows, "full"), judgement.rank_full)
    np.testing.assert_array_equal(per_target.ranks(rows, "sampled"), judgement.ranks["sampled"])
    assert np.isinf(judgement.rank_full).any()
    assert rows.column("rank_full").null_count == np.isinf(judgement.rank_full).sum()
    times = [int(moment.timestamp()) for moment in rows.column("event_time").to_pylist()]
    assert times == (snapshot.time[judgement.targets.event] // 1_000_000).tolist()
    assert rows.schema.metadata == {b"snapshot": b"made-up-3", b"split": b"leave_one_out", b"part": b"test"}


def test_equal_outcomes_are_equal_bytes(tmp_path: Path) -> None:
    snapshot = case(tmp_path / "snapshot", 3)
    written = []
    for name in ("a", "b"):
        judgement = judge(Scripted(snapshot, script(snapshot, 3)), snapshot, SPLIT, "test", max_length=5)
        written.append(per_target.write(per_target.table(judgement, snapshot), tmp_path / name / "test.parquet"))
    assert written[0].read_bytes() == written[1].read_bytes()
    assert [path.name for path in written[0].parent.iterdir()] == ["test.parquet"]
