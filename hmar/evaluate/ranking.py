"""Ranks and top lists from score matrices: counting instead of sorting, everything in place, no loop over users.

Shapes: B rows, V items, N candidates, K list length.
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

TILE = 128
"""Items per tile of :func:`top_k`."""

MAX_ROWS = 1024
"""Rows scored at once at most, which bounds a model's activations where the catalog is small."""


def rows_per_chunk(items: int, memory_mb: int) -> int:
    """How many rows of [rows, items] float32 fit in ``memory_mb``; at least 1, at most :data:`MAX_ROWS`."""
    return max(1, min(MAX_ROWS, memory_mb * 2**20 // (4 * max(items, 1))))


def own_scores(scores: Tensor, model: Recommender, shape: tuple[int, ...]) -> Tensor:
    """The scores as a float32 matrix that may be overwritten: a copy only if it is a view of the model's own tensors.

    Raises:
        ModelError: they have not the shape they should.
    """
    if tuple(scores.shape) != shape:
        raise ModelError(f"{type(model).__name__} gave scores of shape {tuple(scores.shape)}, expected {shape}")
    scores = scores.float().contiguous()
    kept = {tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *model.buffers())}
    return scores.clone() if scores.untyped_storage().data_ptr() in kept else scores


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
    events, offsets = spans(snapshot.offsets[users], ends)
    used = snapshot.consuming[snapshot.behavior[events]]
    row = np.repeat(np.arange(len(users)), np.diff(offsets))
    return row[used], snapshot.item[events[used]].astype(np.int64)


def mask(scores_BV: Tensor, row: NDArray[np.int64], item: NDArray[np.int64], catalog: NDArray[np.int32]) -> Tensor:
    """Put -inf, in place, at consumed cells and at items of each row from catalog[b] on.

    Returns:
        The columns that any row can choose from, [B, max(catalog)], but at least one column: a view.
    """
    low, high = int(catalog.min()), max(int(catalog.max()), 1)
    scores = scores_BV[:, :high]
    device = scores.device
    if len(row):
        scores_BV[torch.from_numpy(row).to(device), torch.from_numpy(item).to(device)] = -torch.inf
    if low < high:
        late = torch.arange(low, high, device=device) >= torch.from_numpy(catalog.astype(np.int64)).to(device)[:, None]
        scores[:, low:].masked_fill_(late, -torch.inf)
    return scores


def top_k(scores_BV: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k best scores per row, best first, and their items, [B, min(k, V)] each.

    The k best of a row lie in the k tiles with the largest maxima, so only those are looked at closely.
    """
    width = scores_BV.shape[1]
    k = min(k, width)
    tiles = width // TILE
    if tiles <= 2 * k:
        values, items = scores_BV.topk(k, dim=1)
        return values, items
    tiled = scores_BV[:, : tiles * TILE].unflatten(1, (tiles, TILE))
    best = tiled.amax(dim=2).topk(k, dim=1).indices.sort(dim=1).values
    picked = torch.cat(
        [
            tiled.gather(1, best[:, :, None].expand(-1, -1, TILE)).flatten(1),
            scores_BV[:, tiles * TILE :],
        ],
        dim=1,
    )
    values, places = picked.topk(k, dim=1)
    inside = places.clamp(max=k * TILE - 1)
    in_tile = best.gather(1, inside // TILE) * TILE + inside % TILE
    return values, torch.where(places < k * TILE, in_tile, places - k * TILE + tiles * TILE)


def rank_in_place(scores_BV: Tensor, target_score_B: Tensor) -> Tensor:
    """1 + how many others score at least as high as the target, which is itself in its row; float64 [B].

    inf where the target scores -inf. Destroys ``scores_BV``: the comparison is written over it as 0 and 1, which
    float32 adds up exactly below 2^24 items and which takes half the time of a boolean matrix.
    """
    ranks = scores_BV.ge_(target_score_B[:, None]).sum(dim=1).double()
    return ranks.masked_fill_(target_score_B == -torch.inf, torch.inf)
