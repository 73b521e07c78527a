"""Counts and labels of HMAR's published code, written out by hand for one user with the items A to E.

The user's file: A viewed, B viewed, A carted, C bought, D viewed, E viewed, E bought (the test event), E viewed,
A viewed. What is trained on and what a history holds end before the test event.
"""

from pathlib import Path

import numpy as np
import pytest
import torch

from hmar.data.batches import TrainingData
from hmar.data.counting import PriorCounts
from hmar.data.published import PublishedContext
from hmar.data.snapshot import Snapshot
from hmar.data.targets import histories_for
from hmar.errors import SettingsError
from hmar.models.base import TrainingBatch
from tests.support.events import Event
from tests.support.models import build
from tests.support.tiny_snapshot import make_snapshot

A, B, C, D, E, OTHER = range(10, 16)
FILE = [
    (A, "view"), (B, "view"), (A, "cart"), (C, "buy"), (D, "view"), (E, "view"), (E, "buy"), (E, "view"), (A, "view"),
]  # fmt: skip

# Counts are (view, cart, buy).
RUNNING = {"inputs": [(1, 0, 0), (1, 0, 0), (1, 1, 0), (0, 0, 1), (1, 0, 0)]}  # A B A C D
RUNNING["next"] = [(1, 0, 0), (1, 1, 0), (0, 0, 1), (1, 0, 0), (1, 0, 0)]  # B A C D E
FINAL = {"inputs": [(2, 1, 0), (1, 0, 0), (2, 1, 0), (0, 0, 1), (1, 0, 0)]}
FINAL["next"] = [(1, 0, 0), (2, 1, 0), (0, 0, 1), (1, 0, 0), (2, 0, 1)]
NEXT_BEHAVIORS = [0, 1, 2, 0, 0]


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    """A user beside the one above gives the catalog one more item, the only one that can be a negative."""
    events: list[Event] = [(1, item, behavior, 10 * n) for n, (item, behavior) in enumerate(FILE)]
    events += [(2, OTHER, "view", 1)]
    return make_snapshot(tmp_path_factory.mktemp("published"), events, splits=["published"], candidates=1)


def source_ids(snapshot: Snapshot, dense: torch.Tensor) -> list[int]:
    ids: list[int] = snapshot.items["item_id"].take(dense.numpy()).to_pylist()
    return ids


def training_batch(snapshot: Snapshot, published: PublishedContext | None) -> TrainingBatch:
    data = TrainingData(snapshot, "published", max_length=10, negatives=2, published=published)
    (batch,) = data.batches(0)
    assert source_ids(snapshot, batch.histories.item) == [A, B, A, C, D]
    assert source_ids(snapshot, batch.next_item) == [B, A, C, D, E]
    assert set(source_ids(snapshot, batch.negatives.flatten())) == {OTHER}
    assert batch.histories.behavior.tolist() == [0, 0, 1, 2, 0], "which encoder an event belongs to stays"
    assert batch.next_behavior.tolist() == NEXT_BEHAVIORS, "the weights of the loss stay"
    return batch


def rows(counts: torch.Tensor) -> list[tuple[int, ...]]:
    return [tuple(int(value) for value in row) for row in counts]


def one_hot(behaviors: list[int]) -> list[tuple[int, ...]]:
    return [tuple(int(code == behavior) for code in range(3)) for behavior in behaviors]


def test_the_rule_of_this_house(snapshot: Snapshot) -> None:
    batch = training_batch(snapshot, None)
    assert rows(batch.histories.hbi) == RUNNING["inputs"]
    assert rows(batch.next_hbi) == RUNNING["next"]
    for n in range(2):
        assert rows(batch.negative_hbi[:, n]) == one_hot(NEXT_BEHAVIORS)
    assert batch.behavior_label is None


def test_final_counts_are_those_of_the_whole_file(snapshot: Snapshot) -> None:
    """The test event, and what came after it, are in them; candidates keep their rule."""
    batch = training_batch(snapshot, PublishedContext(final=True))
    assert rows(batch.histories.hbi) == FINAL["inputs"]
    assert rows(batch.next_hbi) == RUNNING["next"]
    assert rows(batch.negative_hbi[:, 1]) == one_hot(NEXT_BEHAVIORS)


def test_published_candidates_share_the_true_items_counts(snapshot: Snapshot) -> None:
    batch = training_batch(snapshot, PublishedContext(candidates=True))
    assert rows(batch.histories.hbi) == RUNNING["inputs"]
    assert rows(batch.next_hbi) == FINAL["next"]
    assert rows(batch.negative_hbi[:, 0]) == rows(batch.negative_hbi[:, 1]) == FINAL["next"]


def test_mirrored_contexts_run_newest_to_oldest(snapshot: Snapshot) -> None:
    """A gets what belongs to D, B what belongs to C, and so on; to be named is the behavior as far from the end."""
    batch = training_batch(snapshot, PublishedContext(mirrored=True))
    assert rows(batch.histories.hbi) == RUNNING["inputs"][::-1]
    assert rows(batch.next_hbi) == RUNNING["next"][::-1]
    assert rows(batch.negative_hbi[:, 0]) == one_hot(NEXT_BEHAVIORS)[::-1]
    assert batch.behavior_label is not None
    assert batch.behavior_label.tolist() == [0, 0, 2, 1, 0]


def test_all_at_once(snapshot: Snapshot) -> None:
    batch = training_batch(snapshot, PublishedContext(final=True, candidates=True, mirrored=True))
    assert rows(batch.histories.hbi) == FINAL["inputs"][::-1]
    assert rows(batch.next_hbi) == rows(batch.negative_hbi[:, 0]) == FINAL["next"][::-1]


def test_mirroring_stays_within_a_users_window(tmp_path: Path) -> None:
    """Of two users, and of a file longer than what is read, each is turned around by itself."""
    events: list[Event] = [
        (user, 100 * user + n, ("view", "cart", "buy")[n % 3], n) for user in (1, 2) for n in range(6)
    ]
    events += [(2, 300, "view", 9)]
    snapshot = make_snapshot(tmp_path, events, splits=["published"])
    plain, mirrored = (
        next(TrainingData(snapshot, "published", max_length=3, published=context).batches(0))
        for context in (None, PublishedContext(mirrored=True))
    )
    assert plain.user.tolist() == mirrored.user.tolist()
    assert plain.histories.offsets.tolist() == [0, 3, 6]
    order = [2, 1, 0, 5, 4, 3]
    assert torch.equal(mirrored.histories.hbi, plain.histories.hbi[order])
    assert torch.equal(mirrored.next_hbi, plain.next_hbi[order])


def test_at_evaluation_only_the_target_has_counts_of_the_whole_file(snapshot: Snapshot) -> None:
    targets = snapshot.targets("published", "test")
    assert snapshot.items["item_id"].take(targets.item).to_pylist() == [E]
    prior = PriorCounts(snapshot)
    histories, seen = histories_for(snapshot, targets, 10), prior.history_items(targets.user, targets.history_end)
    assert rows(histories.hbi) == [*RUNNING["inputs"], (1, 0, 0)]
    context = PublishedContext(final=True, candidates=True, mirrored=True)
    given, told = context.evaluation(snapshot, targets, prior.of(targets.user), histories, seen)
    assert source_ids(snapshot, given.item) == [A, B, A, C, D, E]
    assert rows(given.hbi) == [*FINAL["inputs"], (2, 0, 1)][::-1]
    assert (told.row.tolist(), source_ids(snapshot, told.item)) == ([0], [E])
    assert rows(told.counts) == [(2, 0, 0)], "and a model adds the purchase that is asked about"

    model = build("hmar", {"d": 4, "candidate_hbi": "published"}, snapshot)
    catalog = torch.arange(snapshot.n_items)
    counts = torch.tensor([[2.0, 0, 1] if item == int(targets.item[0]) else [0.0, 0, 1] for item in catalog.tolist()])
    with torch.no_grad():
        expected = model.last_states(given) @ model.item_vectors(catalog, counts).T  # type: ignore[operator]
        torch.testing.assert_close(model.score_all(given, told), expected)
        torch.testing.assert_close(model.score(given, told, catalog[None]), expected)


def test_candidates_alone_leave_the_history_as_it_is(snapshot: Snapshot) -> None:
    targets, prior = snapshot.targets("published", "test"), PriorCounts(snapshot)
    histories, seen = histories_for(snapshot, targets, 10), prior.history_items(targets.user, targets.history_end)
    given, _ = PublishedContext(candidates=True).evaluation(snapshot, targets, prior.of(targets.user), histories, seen)
    assert given is histories
    given, told = PublishedContext(mirrored=True).evaluation(snapshot, targets, prior.of(targets.user), histories, seen)
    assert rows(given.hbi) == rows(histories.hbi)[::-1]
    assert told is seen


@pytest.mark.parametrize(
    "shared", [{"negatives": 0}, {"negatives": 3, "negatives_from": "uniform", "negatives_per": "batch"}]
)
@pytest.mark.parametrize("context", [PublishedContext(candidates=True), PublishedContext(mirrored=True)])
def test_negatives_that_positions_share_are_refused(
    snapshot: Snapshot, context: PublishedContext, shared: dict[str, object]
) -> None:
    with pytest.raises(SettingsError, match="negatives of a position's own only"):
        TrainingData(snapshot, "published", max_length=5, published=context, **shared)  # type: ignore[arg-type]


def test_users_drawn_with_replacement(tmp_path: Path) -> None:
    """users // size batches of ``size`` users, each user in about every (users / size)-th draw."""
    events: list[Event] = [(user, 10 + n, "view", n) for user in range(23) for n in range(3)]
    snapshot = make_snapshot(tmp_path, [*events, (99, 10, "buy", 1), (99, 11, "buy", 2)], splits=["leave_one_out"])
    data = TrainingData(snapshot, "leave_one_out", max_length=5, batch_size=5, batching="replacement")
    assert data.steps == len(data.windows) // 5 == 4
    drawn = [batch.user.tolist() for batch in data.batches(3)]
    assert [len(users) for users in drawn] == [5, 5, 5, 5]
    assert drawn == [batch.user.tolist() for batch in data.batches(3)] != [b.user.tolist() for b in data.batches(4)]
    assert drawn[2:] == [batch.user.tolist() for batch in data.batches(3, start=2)]
    counts = np.bincount([user for epoch in range(300) for user in data.windows.user[data.order(epoch).windows]])
    expected = 300 * 20 / len(data.windows)
    assert (np.abs(counts[counts > 0] - expected) < 5 * expected**0.5).all()
    assert (counts > 0).sum() == len(data.windows)
    assert any(len(set(users)) < 5 for epoch in range(20) for users in [b.user.tolist() for b in data.batches(epoch)])
    large = TrainingData(snapshot, "leave_one_out", max_length=5, batch_size=500, batching="replacement")
    assert (large.steps, len(next(large.batches(0)).user)) == (1, 500)
