"""Two interests as a planted effect: what speaks for a candidate is a small part of the history."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from hmar.data.snapshot import Snapshot
from hmar.models.base import Recommender
from tests.support.arrays import Event, write_impressions, write_snapshot
from tests.support.models import counts_of_rows, pack_rows

CATEGORIES, FLAVORS = 16, 2
ITEMS = CATEGORIES * FLAVORS
LOUD, QUIET = 12, 1
"""Events of a user's one interest and of the other."""
_VIEW, _SKIP, _BUY = range(3)


@dataclass(frozen=True)
class Interests:
    """Users who view things of two categories, of a flavor of their own in each, in random order: twelve of one and a
    single one of the other. Asked about this one, they take the flavor that they viewed there and skip the other.

    The loud interest says nothing of the quiet one's flavor, and a mean over the history is nearly all of it.

    Attributes:
        asked: the views. taken, skipped: the two items of the quiet interest's category.
    """

    asked: list[list[Event]]
    taken: list[int]
    skipped: list[int]

    def found(self, model: Recommender) -> float:
        """The share of users whose item ``model`` puts before the skipped one; one half is chance."""
        with torch.no_grad():
            histories = pack_rows(self.asked, behaviors=3, asked=_BUY)
            scores = model.score_all(histories, counts_of_rows(self.asked, behaviors=3)).numpy()
        rows = np.arange(len(self.asked))
        ours, theirs = scores[rows, self.taken], scores[rows, self.skipped]
        return float(((ours > theirs) + 0.5 * (ours == theirs)).mean())


def interests(users: int, seed: int) -> Interests:
    rng = np.random.default_rng(seed)

    def thing(category: int, flavor: int) -> int:
        return category * FLAVORS + flavor

    asked, taken, skipped = [], [], []
    for _ in range(users):
        loud, quiet = rng.permutation(CATEGORIES)[:2].tolist()
        flavors = rng.integers(FLAVORS, size=2).tolist()
        viewed = [thing(loud, flavors[0]) for _ in range(LOUD)] + [thing(quiet, flavors[1]) for _ in range(QUIET)]
        asked.append([(item, _VIEW, 60 * step) for step, item in enumerate(rng.permutation(viewed).tolist())])
        taken.append(thing(quiet, flavors[1]))
        skipped.append(thing(quiet, 1 - flavors[1]))
    return Interests(asked, taken, skipped)


def interests_snapshot(path: Path, users: int = 800, seed: int = 0) -> Snapshot:
    """Users to learn it from: the item taken is bought and the other skipped a moment after the views."""
    made = interests(users, seed)
    now = 60 * (LOUD + QUIET)
    rows = [
        [*row, (taken, _BUY, now), (skipped, _SKIP, now)]
        for row, taken, skipped in zip(made.asked, made.taken, made.skipped, strict=True)
    ]
    snapshot = write_snapshot(path, rows, items=ITEMS, behaviors=("view", "skip", "buy"), held_out=0)
    return write_impressions(snapshot, ("buy",), ("skip",), sampled=0)
