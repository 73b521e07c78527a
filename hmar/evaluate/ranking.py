"""What every ranking needs: rows at a time, NaN refused, consumed items, the rank among chosen candidates.

Shapes: B rows, V items, N candidates, P cells.
"""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hmar.data.histories import spans
from hmar.data.snapshot import Snapshot
from hmar.errors import ModelError
from hmar.models.base import Recommender
from hmar.models.catalog import Catalog

MAX_ROWS = 1024
"""Rows scored at once at most, which bounds a model's activations."""


def rows_per_chunk(catalog: Catalog, items: int, memory_mb: int) -> int:
    """How many rows to score at once: :data:`MAX_ROWS`, or as many of [rows, items] float32 as fit in ``memory_mb``
    where the catalog is scored as a whole; at least 1."""
    held = items if catalog.whole else 0
    return max(1, min(MAX_ROWS, memory_mb * 2**20 // (4 * max(held, 1))))


def refuse_nan(scores: Tensor, model: Recommender, who: Callable[[int], str]) -> None:
    """One pass, since NaN survives a maximum.

    Raises:
        ModelError: a score is NaN; the message names the model and ``who`` the first such row is.
    """
    if scores.numel() == 0:
        return
    bad = scores.amax(dim=1).isnan().nonzero()
    if len(bad):
        raise ModelError(
            f"{type(model).__name__} scores NaN for {who(int(bad[0]))} and {len(bad) - 1} others of {len(scores)}; "
            "its weights are broken: train it again with a lower learning rate"
        )


def consumed_cells(
    snapshot: Snapshot, users: NDArray[np.int32], ends: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Row and item of everything that B users consumed in their whole histories offsets[user] : end; int64 [P] each."""
    if not snapshot.consuming.any():
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    row, events = _events(snapshot, users, ends)
    used = snapshot.consuming[snapshot.behavior[events]]
    return row[used], snapshot.item[events[used]].astype(np.int64)


def own_cells(
    snapshot: Snapshot, users: NDArray[np.int32], ends: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Row and item of every event of B users' whole histories offsets[user] : end; int64 [P] each."""
    row, events = _events(snapshot, users, ends)
    return row, snapshot.item[events].astype(np.int64)


def _events(
    snapshot: Snapshot, users: NDArray[np.int32], ends: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Row in ``users`` and row of the event table."""
    events, offsets = spans(snapshot.offsets[users], ends)
    return np.repeat(np.arange(len(users)), np.diff(offsets)), events


def ranks_among(scores_BN: Tensor, target_score_B: Tensor) -> Tensor:
    """1 + how many others score at least as high as the target, which is itself in its row; float64 [B].

    inf where the target scores -inf.
    """
    ranks = (scores_BN >= target_score_B[:, None]).sum(dim=1).double()
    return ranks.masked_fill_(target_score_B == -torch.inf, torch.inf)
