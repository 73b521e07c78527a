"""Effects that a model exists for, planted into made-up users: it finds them, and a simpler model does not."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hmar.data.batches import TrainingData
from hmar.data.impressions import ImpressionData
from hmar.data.snapshot import Snapshot
from hmar.losses import loss_function, total_loss
from hmar.models.base import Encoder, Recommender
from hmar.models.ranker import Ranker
from tests.support.arrays import Event, write_impressions, write_snapshot
from tests.support.models import build, counts_of_rows, pack_rows

BEHAVIORS = 3
_DAY = 86_400
"""Seconds."""


def fitted(
    name: str,
    config: Mapping[str, Any],
    snapshot: Snapshot,
    *,
    epochs: int,
    lr: float = 0.01,
    batch_size: int = 100,
    max_length: int = 20,
    negatives: int = 1,
    loss: str = "bpr",
    seed: int = 0,
) -> Recommender:
    """A model of any kind, trained on split leave_one_out as its kind is: encoders on next items under ``loss``,
    rankers on labelled impressions, rules by counting. In evaluation mode."""
    model = build(name, config, snapshot, seed=seed)
    data: TrainingData | ImpressionData
    if isinstance(model, Encoder):
        compared = {"negatives": negatives, "negatives_from": "uniform", "recency": model.uses_recency}
        data = TrainingData(
            snapshot, "leave_one_out", max_length=max_length, batch_size=batch_size, behaviors=model.reads,
            seed=seed, **compared,  # type: ignore[arg-type]
        )  # fmt: skip
        criterion = loss_function(loss)
    elif isinstance(model, Ranker):
        data = ImpressionData(
            snapshot, "leave_one_out", max_length=max_length, batch_size=batch_size, negatives=negatives, seed=seed,
            behaviors=model.reads,
        )  # fmt: skip
        criterion = loss_function("log_loss")
    else:
        return model
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    model.train()
    for epoch in range(epochs):
        for batch in data.batches(epoch):
            optimizer.zero_grad()
            total_loss(model, criterion, batch).backward()
            optimizer.step()
    return model.eval()


@dataclass(frozen=True)
class Drift:
    """Interests that walk around a circle of categories, half of them to the left, the others to the right; every user
    takes two items of each category, a second apart.

    What has been visited says nothing of the direction, only the order does: the categories before the first and after
    the last visited one are alike but for it.

    Attributes:
        users: the events up to the walk's end, which is a category after the last of ``asked``.
        asked: the events before that last category. ahead: int64 [U, I], its items. behind: those of the category
            before the first one.
    """

    users: list[list[Event]]
    asked: list[list[Event]]
    ahead: NDArray[np.int64]
    behind: NDArray[np.int64]

    ITEMS = 36
    PER_CATEGORY = 3
    TAKEN = 2

    def found(self, model: Recommender) -> float:
        """The share of pairs (item ahead, item behind) that ``model`` has in the right order; one half is chance."""
        histories = pack_rows(self.asked, BEHAVIORS, asked=2)
        with torch.no_grad():
            scores = model.score_all(histories, counts_of_rows(self.asked, BEHAVIORS)).numpy()
        ahead = np.take_along_axis(scores, self.ahead, axis=1)[:, :, None]
        behind = np.take_along_axis(scores, self.behind, axis=1)[:, None]
        return float(((ahead > behind) + 0.5 * (ahead == behind)).mean())


def drift(users: int, seed: int, behavior: int = 2) -> Drift:
    """Walks over five categories out of twelve."""
    rng = np.random.default_rng(seed)
    categories, length = Drift.ITEMS // Drift.PER_CATEGORY, 5
    walks, asked, ahead, behind = [], [], [], []
    for user in range(users):
        first, way = int(rng.integers(categories)), 1 if user % 2 else -1
        taken = [
            (first + way * step) % categories * Drift.PER_CATEGORY + int(item)
            for step in range(length)
            for item in rng.permutation(Drift.PER_CATEGORY)[: Drift.TAKEN]
        ]
        events = [(item, behavior, second) for second, item in enumerate(taken)]
        walks.append(events)
        asked.append(events[: -Drift.TAKEN])
        in_category = np.arange(Drift.PER_CATEGORY)
        ahead.append((first + way * (length - 1)) % categories * Drift.PER_CATEGORY + in_category)
        behind.append((first - way) % categories * Drift.PER_CATEGORY + in_category)
    return Drift(walks, asked, np.array(ahead), np.array(behind))


def time_gaps(path: Path, users: int = 400, seed: int = 0) -> Snapshot:
    """What is bought next goes with the item that was viewed 16 to 40 days ago.

    Users view five of the items 0-11 each, one of them 16 to 40 days before they buy, the others, as chance has it,
    less than 4 or more than 130 days before. They buy the companion, 12 items further on, of that one, and skip the
    companion of another. So places in the history, and how often an item was viewed, bought or skipped, say nothing. A
    first purchase of every user, years before the second, is for training, the second for validation.
    """
    things = 12
    rng = np.random.default_rng(seed)
    rows: list[list[Event]] = []
    for _ in range(users):
        row: list[Event] = []
        for now in (4000 * _DAY, 8000 * _DAY):
            items = rng.choice(things, 5, replace=False)
            others = np.where(rng.random(4) < 0.5, rng.uniform(0.1, 4, 4), rng.uniform(130, 1000, 4))
            days = np.concatenate([rng.uniform(16, 40, 1), others])
            row += [(int(items[i]), 0, int(now - days[i] * _DAY)) for i in np.argsort(-days)]
            row += [(int(things + items[0]), 2, now), (int(things + items[rng.integers(1, 5)]), 1, now)]
        rows.append(row)
    snapshot = write_snapshot(path, rows, items=2 * things, behaviors=("view", "skip", "buy"), held_out=2)
    return write_impressions(snapshot, ("buy",), ("skip",), sampled=0)


def opposite_tasks(path: Path, users: int = 80, seed: int = 0) -> Snapshot:
    """Users view items of their taste and buy those of the other one, a view and a purchase in turn.

    There are 24 items, even and odd, each taken once at most. Who ranks items without knowing whether a view or a
    purchase is asked about can be right about one of them only.
    """
    rng = np.random.default_rng(seed)
    rows: list[list[Event]] = []
    for user in range(users):
        own, other = (rng.permutation(np.arange((user + turn) % 2, 24, 2)).tolist() for turn in (0, 1))
        rows.append([((own, other)[t % 2][t // 2], 2 * (t % 2), t) for t in range(16)])
    snapshot = write_snapshot(path, rows, items=24, held_out=2)
    return write_impressions(snapshot, ("buy",), (), sampled=2, tasks=("view",))
