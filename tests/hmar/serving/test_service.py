"""Requests in source ids: the same answers as the model gives inside the pipeline, and clear errors."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from hmar.data.counting import PriorCounts
from hmar.data.snapshot import Snapshot
from hmar.data.targets import histories_before
from hmar.errors import DataError
from hmar.export import LoadedModel, load, save
from hmar.models import MODELS
from hmar.recommend import recommendations
from hmar.serving.inputs import prepare
from hmar.serving.service import Service
from tests.support.arrays import random_users, write_snapshot
from tests.support.models import stirred
from tests.support.untrained import untrained

ITEMS, LENGTH = 40, 10
BEHAVIORS = ("view", "cart", "buy")


def made(path: Path, repeats: bool = True) -> Snapshot:
    return write_snapshot(path, [*random_users(25, ITEMS, 3, 30), []], items=ITEMS, repeats=repeats)


def exported(name: str, snapshot: Snapshot, path: Path) -> LoadedModel:
    return load(save(path, untrained(name, snapshot), snapshot, "leave_one_out", LENGTH))


def requests(snapshot: Snapshot) -> tuple[list[list[int]], list[list[str]], list[list[int]]]:
    """Every user's whole history as a caller would send it."""
    parts = [slice(*snapshot.offsets[user : user + 2]) for user in range(snapshot.n_users)]
    items = [(snapshot.item[part] + 1000).tolist() for part in parts]
    behaviors = [[BEHAVIORS[code] for code in snapshot.behavior[part]] for part in parts]
    return items, behaviors, [(snapshot.time[part] // 1_000_000).tolist() for part in parts]


@pytest.mark.parametrize("repeats", [True, False])
@pytest.mark.parametrize("name", MODELS)
def test_the_same_items_and_scores_as_in_the_pipeline(name: str, repeats: bool, tmp_path: Path) -> None:
    snapshot = made(tmp_path / "snapshot", repeats)
    loaded = exported(name, snapshot, tmp_path / "model")
    items, scores = Service(loaded).recommend(*requests(snapshot), k=36)
    table = pa.Table.from_batches(recommendations(loaded.model, snapshot, 36, max_length=LENGTH))
    for user in range(snapshot.n_users):
        rows = table.filter(pa.compute.equal(table.column("user_id"), 1000 + user))
        assert items[user] == rows.column("item_id").to_pylist()
        np.testing.assert_allclose(scores[user], rows.column("score").to_numpy(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["hmar", "hmar_plus", "recent"])
def test_the_same_tensors_as_from_the_snapshot(name: str, tmp_path: Path) -> None:
    snapshot = made(tmp_path / "snapshot")
    loaded = exported(name, snapshot, tmp_path / "model")
    users = np.arange(snapshot.n_users)
    ends = np.array(snapshot.offsets[1:])
    expected = histories_before(snapshot, users, ends, ends, snapshot.target_behavior, LENGTH, loaded.model.reads)
    counts = PriorCounts(snapshot).history_items(users, ends)
    prepared = prepare(loaded, *requests(snapshot))
    for field in ("item", "behavior", "time", "hbi", "offsets", "asked"):
        np.testing.assert_array_equal(getattr(prepared.histories, field), getattr(expected, field), err_msg=field)
    for field in ("row", "item", "counts", "behavior", "events", "time"):
        np.testing.assert_array_equal(getattr(prepared.seen, field), getattr(counts, field), err_msg=field)


def test_evidence_is_of_the_moment_of_the_newest_event(tmp_path: Path) -> None:
    """Where the age of events counts, an answer is the pipeline's when it is asked at the same time."""
    snapshot = made(tmp_path / "snapshot")
    model = stirred(untrained("hmar_plus", snapshot))
    loaded = load(save(tmp_path / "model", model, snapshot, "leave_one_out", LENGTH))
    users, ends = np.arange(snapshot.n_users), np.array(snapshot.offsets[1:])
    now = np.array([snapshot.time[start:end].max(initial=0) for start, end in pairwise(snapshot.offsets)])
    histories = histories_before(snapshot, users, ends, now, snapshot.target_behavior, LENGTH)
    with torch.inference_mode():
        expected = model.score_all(histories, PriorCounts(snapshot).history_items(users, ends))
        prepared = prepare(loaded, *requests(snapshot))
        got = loaded.model.score_all(prepared.histories, prepared.seen)
    torch.testing.assert_close(got, expected)


def test_only_the_behaviors_that_the_model_reads_fill_its_window(tmp_path: Path) -> None:
    snapshot = made(tmp_path / "snapshot")
    loaded = exported("sasrec", snapshot, tmp_path / "model")
    loaded.model.reads = ("buy",)
    users, ends = np.arange(snapshot.n_users), np.array(snapshot.offsets[1:])
    expected = histories_before(snapshot, users, ends, ends, snapshot.target_behavior, LENGTH, ("buy",))
    prepared = prepare(loaded, *requests(snapshot))
    np.testing.assert_array_equal(prepared.histories.item, expected.item)
    np.testing.assert_array_equal(prepared.histories.hbi, expected.hbi)
    np.testing.assert_array_equal(prepared.histories.offsets, expected.offsets)


@pytest.fixture
def service(tmp_path: Path) -> Service:
    return Service(exported("hmar", made(tmp_path / "snapshot", repeats=False), tmp_path / "model"))


def test_order_of_events_in_the_request_does_not_matter(service: Service) -> None:
    ordered = service.recommend([[1001, 1002, 1003]], [["view", "cart", "buy"]], [[10, 20, 30]])
    shuffled = service.recommend([[1003, 1001, 1002]], [["buy", "view", "cart"]], [[30, 10, 20]])
    other = service.recommend([[1003, 1001, 1002]], [["buy", "view", "cart"]], [[10, 20, 30]])
    assert shuffled == ordered
    assert other != ordered


def test_events_of_one_moment_stand_in_funnel_order(service: Service) -> None:
    down = service.recommend([[1001, 1001, 1002]], [["view", "buy", "cart"]], [[10, 10, 10]])
    up = service.recommend([[1001, 1002, 1001]], [["buy", "cart", "view"]], [[10, 10, 10]])
    assert down == up


def test_unknown_items_are_dropped(service: Service) -> None:
    known = service.recommend([[1001, 1002]], [["view", "buy"]], [[10, 20]])
    assert service.recommend([[5, 1001, 7, 1002]], [["buy", "view", "buy", "buy"]], [[5, 10, 15, 20]]) == known


def test_an_empty_or_unknown_history_is_answered_with_what_is_popular(service: Service) -> None:
    items, scores = service.recommend([[], [5]], [[], ["view"]], [[], [1]], k=ITEMS)
    popularity = service.loaded.model.popularity
    assert items[0] == items[1]
    assert scores[0] == sorted(popularity.tolist(), reverse=True)
    assert [popularity[item - 1000] for item in items[0]] == scores[0]


def test_what_is_left_out(service: Service) -> None:
    request = ([[1001, 1002]], [["view", "buy"]], [[10, 20]])
    all_items = set(range(1000, 1000 + ITEMS))
    assert set(service.recommend(*request, k=ITEMS)[0][0]) == all_items - {1002}
    assert set(service.recommend(*request, k=ITEMS, exclude_consumed=False)[0][0]) == all_items
    assert set(service.recommend(*request, k=ITEMS, exclude_seen=True)[0][0]) == all_items - {1001, 1002}
    items, scores = service.recommend(*request, k=3)
    assert len(items[0]) == len(scores[0]) == 3
    assert scores[0] == sorted(scores[0], reverse=True)


def test_no_requests_no_answers(service: Service) -> None:
    assert service.recommend([], [], []) == ([], [])


def test_many_requests_are_answered_in_chunks(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    items = [[1000 + number % ITEMS] for number in range(30)]
    arguments = (items, [["view"]] * 30, [[1]] * 30)
    whole = service.recommend(*arguments)
    monkeypatch.setattr("hmar.evaluate.ranking.MAX_ROWS", 4)
    chunked = service.recommend(*arguments)
    assert chunked[0] == whole[0]
    np.testing.assert_allclose(chunked[1], whole[1], rtol=1e-5, atol=1e-5)


def test_an_unknown_behavior_names_the_row_and_the_nearest(service: Service) -> None:
    with pytest.raises(DataError, match="row 1: unknown behavior 'byu'; did you mean 'buy'"):
        service.recommend([[1001], [1001, 1002]], [["view"], ["view", "byu"]], [[1], [1, 2]])


def test_lists_of_unequal_length_name_the_row(service: Service) -> None:
    with pytest.raises(DataError, match="row 1: 2 items, 1 behaviors and 2 timestamps"):
        service.recommend([[1001], [1001, 1002]], [["view"], ["view"]], [[1], [1, 2]])


def test_a_list_has_at_least_one_place(service: Service) -> None:
    with pytest.raises(DataError, match="k: 0 is no length"):
        service.recommend([[]], [[]], [[]], k=0)
