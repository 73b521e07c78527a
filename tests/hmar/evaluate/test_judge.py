"""Judging against the plain-Python oracle of the protocol, and what must stop it."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from hmar.data.snapshot import PARTS, Snapshot
from hmar.errors import DataError, ModelError
from hmar.evaluate.judge import judge
from tests.support.judging import SPLIT, Scripted, case, oracle, script


@pytest.mark.parametrize("repeats", [True, False])
@pytest.mark.parametrize("seed", range(6))
def test_ranks_and_lists_are_the_oracles(tmp_path: Path, seed: int, repeats: bool) -> None:
    snapshot = case(tmp_path / "snapshot", seed, repeats=repeats)
    scores = script(snapshot, seed)
    for part in PARTS:
        judgement = judge(Scripted(snapshot, scores), snapshot, SPLIT, part, max_length=3)
        expected = oracle(snapshot, part, scores)
        np.testing.assert_array_equal(judgement.rank_full, [one.full for one in expected])
        np.testing.assert_array_equal(judgement.rank_sampled, [one.sampled for one in expected])
        for top, one, event in zip(judgement.top, expected, judgement.targets.event, strict=True):
            row = scores[int(snapshot.time[event])]
            possible = sorted((row[item] for item in one.candidates if row[item] > -np.inf), reverse=True)[:20]
            assert [row[item] for item in top[top >= 0]] == possible
            assert set(top[top >= 0].tolist()) <= set(one.candidates)


@pytest.mark.parametrize("repeats", [True, False])
def test_the_cases_hold_what_they_should(tmp_path: Path, repeats: bool) -> None:
    """The comparison above says nothing if its cases are empty."""
    found: dict[str, int] = dict.fromkeys(("users with several", "cold users", "unseen", "consumed", "missing"), 0)
    for seed in range(6):
        snapshot = case(tmp_path / str(seed), seed, repeats=repeats)
        for part in PARTS:
            targets = snapshot.targets(SPLIT, part)
            found["users with several"] += int((np.bincount(targets.user) > 1).any())
            found["cold users"] += int(targets.cold_user.sum())
            found["unseen"] += int((targets.item >= targets.catalog).sum())
            found["missing"] += int((snapshot.candidates(SPLIT, targets) < 0).sum())
            full = [one.candidates for one in oracle(snapshot, part, script(snapshot, seed))]
            found["consumed"] += sum(len(one) < n for one, n in zip(full, targets.catalog, strict=True))
    assert all(count > 0 for name, count in found.items() if not (repeats and name == "consumed")), found


def test_chunks_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot = case(tmp_path / "snapshot", 1, users=30, repeats=False)
    model = Scripted(snapshot, script(snapshot, 1))
    whole = judge(model, snapshot, SPLIT, "test", max_length=5)
    steps: list[int] = []
    monkeypatch.setattr("hmar.evaluate.ranking.MAX_ROWS", 3)
    chunked = judge(model, snapshot, SPLIT, "test", max_length=5, advance=steps.append)
    np.testing.assert_array_equal(chunked.rank_full, whole.rank_full)
    np.testing.assert_array_equal(chunked.rank_sampled, whole.rank_sampled)
    np.testing.assert_array_equal(chunked.top, whole.top)
    assert len(steps) > 3
    assert sum(steps) == len(whole.targets)


def test_the_fast_path_gives_the_same_number(tmp_path: Path) -> None:
    snapshot = case(tmp_path / "snapshot", 2)
    model = Scripted(snapshot, script(snapshot, 2))
    fast = judge(model, snapshot, SPLIT, "validation", max_length=5, sampled=False, top=0)
    full = judge(model, snapshot, SPLIT, "validation", max_length=5)
    assert fast.mean("ndcg@10") == full.mean("ndcg@10") > 0
    assert fast.top.shape == (len(full.targets), 0)
    assert fast.rank_sampled is None


def test_models_own_tensors_and_mode_survive(tmp_path: Path) -> None:
    snapshot = case(tmp_path / "snapshot", 3, repeats=False)
    model = Scripted(snapshot, script(snapshot, 3)).train()
    before = model.table.clone()
    judge(model, snapshot, SPLIT, "test", max_length=5)
    assert torch.equal(model.table, before)
    assert model.training


def test_nan_is_an_error_that_names_model_and_user(tmp_path: Path) -> None:
    snapshot = case(tmp_path / "snapshot", 4)
    scores = script(snapshot, 4)
    targets = snapshot.targets(SPLIT, "test")
    sick = int(np.flatnonzero(targets.catalog > 3)[0])
    scores[int(snapshot.time[targets.event[sick]])][0] = np.nan
    user = snapshot.users.column("user_id")[int(targets.user[sick])].as_py()
    with pytest.raises(ModelError, match=f"Scripted scores NaN for user {user} "):
        judge(Scripted(snapshot, scores), snapshot, SPLIT, "test", max_length=5)


def test_nan_among_the_sampled_candidates_alone_is_an_error_too(tmp_path: Path) -> None:
    """At an item that nobody had seen yet: it is no candidate of the full ranking."""
    snapshot = case(tmp_path / "snapshot", 4)
    scores = script(snapshot, 4)
    targets = snapshot.targets(SPLIT, "test")
    place = int(np.flatnonzero(targets.catalog < snapshot.n_items)[0])
    late = snapshot.n_items - 1
    scores[int(snapshot.time[targets.event[place]])][late] = np.nan
    model = Scripted(snapshot, scores)
    assert np.isfinite(judge(model, snapshot, SPLIT, "test", max_length=5).mean("mrr"))
    path = snapshot.path / "splits" / SPLIT / "candidates.parquet"
    stored = pq.read_table(path)
    mine = np.asarray(stored.column("target")) == targets.target[place]
    drawn = np.where(mine, late, stored.column("item").fill_null(-1).to_numpy())
    drawn = pa.array(drawn.astype(np.int32), mask=drawn < 0)
    pq.write_table(stored.set_column(stored.column_names.index("item"), "item", drawn), path)
    again = Snapshot(snapshot.path)
    assert np.isfinite(judge(model, again, SPLIT, "test", max_length=5, sampled=False).mean("mrr"))
    with pytest.raises(ModelError, match="Scripted scores NaN for user "):
        judge(model, again, SPLIT, "test", max_length=5)


def test_a_target_that_was_consumed_before_is_refused(tmp_path: Path) -> None:
    snapshot = case(tmp_path / "snapshot", 5, repeats=False)
    model = Scripted(snapshot, script(snapshot, 5))
    targets = snapshot.targets(SPLIT, "test")
    place = int(np.flatnonzero(~targets.cold_user)[0])
    event = int(targets.history_end[place]) - 1
    _overwrite(snapshot, event, item=int(targets.item[place]), behavior=snapshot.target_behavior)
    with pytest.raises(DataError, match=f"target {targets.target[place]} is an item its user had consumed before"):
        judge(model, Snapshot(snapshot.path), SPLIT, "test", max_length=5)


def test_no_targets_is_no_error(tmp_path: Path) -> None:
    snapshot = case(tmp_path / "snapshot", 0)
    path = snapshot.path / "splits" / SPLIT / "targets.parquet"
    pq.write_table(pq.read_table(path, filters=[("part", "=", "validation")]), path)
    judgement = judge(Scripted(snapshot, script(snapshot, 0)), snapshot, SPLIT, "test", max_length=5)
    assert len(judgement.rank_full) == 0
    assert np.isnan(judgement.mean("ndcg@10"))


@pytest.mark.gpu
def test_the_gpu_gives_the_same_ranks(tmp_path: Path) -> None:
    snapshot = case(tmp_path / "snapshot", 6, users=40, repeats=False)
    model = Scripted(snapshot, script(snapshot, 6))
    on_cpu = judge(model, snapshot, SPLIT, "test", max_length=5)
    on_gpu = judge(model.cuda(), snapshot, SPLIT, "test", max_length=5)
    np.testing.assert_array_equal(on_gpu.rank_full, on_cpu.rank_full)
    np.testing.assert_array_equal(on_gpu.rank_sampled, on_cpu.rank_sampled)


def _overwrite(snapshot: Snapshot, event: int, item: int, behavior: int) -> None:
    for name, value in (("item", item), ("behavior", behavior)):
        path = snapshot.path / "arrays" / f"{name}.npy"
        array = np.load(path)
        array[event] = value
        np.save(path, array)
