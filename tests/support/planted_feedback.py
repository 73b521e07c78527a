"""Logs in which what users say of items is the planted effect: dislikes, and clicks among views."""

from pathlib import Path

import numpy as np
import torch

from hmar.data.counting import PriorCounts
from hmar.data.impressions import pack_impressions
from hmar.data.snapshot import Snapshot
from hmar.models.base import Recommender
from tests.support.arrays import Event, write_impressions, write_snapshot

DAY = 86_400
"""Seconds."""


def dislikes(path: Path, *, users: int = 80, rounds: int = 5, categories: int = 4, seed: int = 0) -> Snapshot:
    """What was just disliked is disliked again, and all else is noise; ``max_length`` 4 reads one round.

    Behaviors: dislike (says no), like (yes, the target). In every round a user likes two items of one category and
    dislikes two of another, in random order, then, in one moment, likes a further item of the first and dislikes one of
    the second. Categories change from round to round, so over all rounds all are liked and disliked alike: neither
    popularity nor a user's tastes say anything, and who does not know what the events say sees both categories alike.
    The last moment of every user is validation.
    """
    rng = np.random.default_rng(seed)
    copies = 6
    logs: list[list[Event]] = []
    for _ in range(users):
        log: list[Event] = []
        for number in range(rounds):
            kinds = rng.permutation(categories)[:2]
            items = [kind * copies + rng.permutation(copies)[:3] for kind in kinds]
            told = [(int(items[code][i]), 1 - code) for code in (0, 1) for i in (0, 1)]
            start = 40 * DAY * number
            log += [(*told[place], start + 60 * minute) for minute, place in enumerate(rng.permutation(4))]
            log += [(int(items[code][2]), 1 - code, start + 3600) for code in (1, 0)]
        logs.append(log)
    snapshot = write_snapshot(
        path, logs, items=categories * copies, behaviors=("dislike", "like"), target="like", held_out=2
    )
    return write_impressions(snapshot, ("like",), ("dislike",), sampled=0)


def clicks_among_views(path: Path, *, users: int = 200, rounds: int = 6, keys: int = 3, seed: int = 0) -> Snapshot:
    """A click says which of the views before it matter; ``max_length`` 1 + ``keys`` reads one round.

    Behaviors: view (says neither), dislike (no), like (yes, the target). Items 0 .. keys - 1 are keys; every other item
    has a key and a taste, of which there are as many. In every round a user views one item of each key, each of another
    taste, likes one of the keys, and then, in one moment, likes an item of the taste that was viewed with this key and
    dislikes one of a taste that was viewed with another. All tastes were viewed: only by the key that was liked are
    they told apart. The last moment of every user is validation.
    """
    rng = np.random.default_rng(seed)

    def item(key: int, taste: int) -> int:
        return keys + key * keys + taste

    logs: list[list[Event]] = []
    for _ in range(users):
        log: list[Event] = []
        for number in range(rounds):
            tastes = rng.permutation(keys)
            liked, other = rng.permutation(keys)[:2]
            start = 40 * DAY * number
            log += [
                (item(key, int(tastes[key])), 0, start + minute) for minute, key in enumerate(rng.permutation(keys))
            ]
            log.append((int(liked), 2, start + 60))
            further = [
                (item(int(rng.integers(keys)), int(tastes[key])), code) for key, code in ((other, 1), (liked, 2))
            ]
            log += [(*event, start + 3600) for event in further]
        logs.append(log)
    snapshot = write_snapshot(
        path,
        logs,
        items=keys + keys * keys,
        behaviors=("view", "dislike", "like"),
        target="like",
        held_out=2,
    )
    return write_impressions(snapshot, ("like",), ("dislike",), sampled=0)


def found(model: Recommender, snapshot: Snapshot, max_length: int) -> float:
    """The share of (positive, negative) pairs of the validation moments in the right order; a tie is half one."""
    impressions = snapshot.impressions("leave_one_out", "validation")
    batch = pack_impressions(snapshot, impressions, np.arange(len(impressions)), max_length, model.reads)
    seen = PriorCounts(snapshot).history_items(impressions.user, impressions.history_end)
    with torch.no_grad():
        scores_BN = model.score(batch.histories, seen, batch.items)
    apart = scores_BN[:, :, None] - scores_BN[:, None, :]
    pairs = (batch.labels > 0)[:, :, None] & (batch.labels == 0)[:, None, :]
    pairs &= batch.real[:, :, None] & batch.real[:, None, :]
    return float(((apart > 0).float() + (apart == 0).float() / 2)[pairs].mean())
