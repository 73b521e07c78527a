"""The order of events as a planted effect: what comes next is said by which of two items came last."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from hmar.data.snapshot import Snapshot
from hmar.models.base import Recommender
from tests.support.arrays import Event, write_impressions, write_snapshot
from tests.support.models import counts_of_rows, pack_rows

PAIRS = 4
ITEMS = 4 * PAIRS
"""Per pair k the two that are viewed, 4 k and 4 k + 1, and the two of which one is bought, 4 k + 2 and 4 k + 3."""
_VIEW, _SKIP, _BUY = range(3)


@dataclass(frozen=True)
class Order:
    """Users who visit pairs of items in some order of the pairs: both items of a pair, either first, and then they buy
    4 k + 2 if the even one came first, else 4 k + 3.

    What was visited says nothing of which of the two is bought, how often nothing either.

    Attributes:
        asked: the events before the last purchase. bought, other: of the last pair, the item bought and the other one.
    """

    asked: list[list[Event]]
    bought: list[int]
    other: list[int]

    def found(self, model: Recommender) -> float:
        """The share of users whose last purchase ``model`` puts before the other item; one half is chance."""
        with torch.no_grad():
            histories = pack_rows(self.asked, behaviors=3, asked=_BUY)
            scores = model.score_all(histories, counts_of_rows(self.asked, behaviors=3)).numpy()
        rows = np.arange(len(self.asked))
        ours, theirs = scores[rows, self.bought], scores[rows, self.other]
        return float(((ours > theirs) + 0.5 * (ours == theirs)).mean())


def walks(users: int, seed: int) -> list[list[Event]]:
    rng = np.random.default_rng(seed)
    rows: list[list[Event]] = []
    for _ in range(users):
        items: list[tuple[int, int]] = []
        for pair in rng.permutation(PAIRS)[: PAIRS - 1].tolist():
            first = int(rng.integers(2))
            bought = 4 * pair + 2 + first
            items += [(4 * pair + first, _VIEW), (4 * pair + 1 - first, _VIEW), (bought, _BUY)]
        rows.append([(item, behavior, 60 * step) for step, (item, behavior) in enumerate(items)])
    return rows


def order(users: int, seed: int) -> Order:
    """What is asked of users whom no model has seen."""
    rows = walks(users, seed)
    bought = [row[-1][0] for row in rows]
    return Order([row[:-1] for row in rows], bought, [item ^ 1 for item in bought])


def order_snapshot(path: Path, users: int = 150, seed: int = 0) -> Snapshot:
    """Users to learn it from: all their events are training, and, as impressions, the one that is bought and the other
    one of the pair, skipped a moment later."""
    rows: Sequence[Sequence[Event]] = walks(users, seed)
    snapshot = write_snapshot(path, rows, items=ITEMS, behaviors=("view", "skip", "buy"), held_out=0)
    return write_impressions(snapshot, ("buy",), ("skip",), sampled=4)
