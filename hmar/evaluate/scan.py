"""One scan over the catalog: a target's rank and the best items of every row, in blocks that fit the cache.

Shapes: B rows, V items, N items of a block, K list length.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hmar.evaluate.best_items import BestItems
from hmar.models.catalog import CatalogScores, Cells

TILE = 16
"""Items whose maximum is taken together."""

CACHE_CELLS = 2**20
"""Scores of a block on a CPU at most, per thread: 4 MB, which its share of the caches holds."""


@dataclass(frozen=True)
class Excluded:
    """What B rows must not be offered: the cells (row, item), int64 [P] each, and all items from catalog[b] on, [B]."""

    row: NDArray[np.int64]
    item: NDArray[np.int64]
    catalog: NDArray[np.int32]


@dataclass(frozen=True)
class Scan:
    """Attributes:
    rank: 1 + how many others score at least as high as the target, float64 [B]; inf where the target scores -inf or is
        not in the row's catalog. Empty where no target was given.
    values, items: the best items and their scores, float32 and int64 [B, K], best first, the lower dense id first
        among equals; -inf and -1 where there are fewer.
    """

    rank: Tensor
    values: Tensor
    items: Tensor


def block_width(rows: int, items: int, memory_mb: int, device: torch.device) -> int:
    """N, a multiple of :data:`TILE`: the buffer, and all that is made from it, stay within ``memory_mb`` for ``rows``;
    on a CPU the buffer stays in the cache."""
    cells = memory_mb * 2**20 // 16
    if device.type == "cpu":
        cells = min(cells, CACHE_CELLS * torch.get_num_threads())
    return max(1, min(cells // max(rows, 1), items + TILE - 1) // TILE) * TILE


def scan(
    scores: CatalogScores,
    excluded: Excluded,
    k: int,
    width: int,
    target: Tensor | None = None,
    refuse_nan: Callable[[Tensor], None] = lambda worst: None,
) -> Scan:
    """Rank ``target``, int64 [B], and find the ``k`` best items of every row.

    A rank is counted against the target's own score, which is needed before its block comes. It is computed ahead, and
    should the block then have another number, rounded differently, all is counted once more against that one: equals
    are equal, and the target counts once, by the bits of one and the same product.

    Args:
        width: N, see :func:`block_width`.
        refuse_nan: called with the largest score of every row, float [B], NaN where one is.
    """
    buffer_BN = scores.buffer(width)
    device = buffer_BN.device
    offers = _Offers(excluded, width, device)
    best = BestItems(len(buffer_BN), width, k, device) if k else None
    if target is None:
        _, worst_B = _pass(scores, buffer_BN, offers, best)
        refuse_nan(worst_B)
        return Scan(worst_B.new_zeros(0, dtype=torch.float64), *_lists(best, worst_B))
    known_B = target < offers.catalog_B
    wanted = _Wanted(target, known_B, scores.of(target, width), width)
    count_B, worst_B = _pass(scores, buffer_BN, offers, best, wanted)
    refuse_nan(worst_B)
    if wanted.revise():
        count_B, _ = _pass(scores, buffer_BN, offers, None, wanted)
    missed_B = ~known_B | (wanted.score_B == -torch.inf)
    return Scan(count_B.masked_fill_(missed_B, torch.inf), *_lists(best, worst_B))


class _Offers:
    """What is excluded, on the device, by block."""

    def __init__(self, excluded: Excluded, width: int, device: torch.device) -> None:
        row, item = (torch.from_numpy(part).to(device) for part in (excluded.row, excluded.item))
        self._cells = Cells(row, item, width)
        self.catalog_B = torch.from_numpy(excluded.catalog.astype(np.int64)).to(device)
        self._low = int(excluded.catalog.min(initial=np.iinfo(np.int32).max))
        self.stop = int(excluded.catalog.max(initial=0))

    def limit(self, buffer_BN: Tensor, start: int) -> None:
        """Put -inf at what is excluded; past the last item, nothing is in any row's catalog."""
        _, place = self._cells.of(start)
        buffer_BN.view(-1).index_fill_(0, place, -torch.inf)
        end = start + buffer_BN.shape[1]
        if end > self._low:
            items = torch.arange(start, end, device=buffer_BN.device)
            buffer_BN.masked_fill_(items >= self.catalog_B[:, None], -torch.inf)


class _Wanted:
    """The targets' scores, float [B]: computed ahead, and as the blocks had them."""

    def __init__(self, target: Tensor, known_B: Tensor, score_B: Tensor, width: int) -> None:
        row = known_B.nonzero()[:, 0]
        self._cells = Cells(row, target[row], width)
        self.score_B = score_B.masked_fill(~known_B, torch.inf)
        self._found_B = self.score_B.clone()

    def read(self, buffer_BN: Tensor, start: int) -> None:
        chosen, place = self._cells.of(start)
        self._found_B[self._cells.row[chosen]] = buffer_BN.view(-1)[place]

    def revise(self) -> bool:
        """Take the scores that the blocks had; whether that changed any."""
        changed = not torch.equal(self._found_B, self.score_B)
        self.score_B = self._found_B
        return changed


def _pass(
    scores: CatalogScores, buffer_BN: Tensor, offers: _Offers, best: BestItems | None, wanted: _Wanted | None = None
) -> tuple[Tensor, Tensor]:
    """How many items score at least as high as ``wanted``, float64 [B], and the largest score, [B]."""
    count_B = buffer_BN.new_zeros(len(buffer_BN), dtype=torch.float64)
    worst_B = buffer_BN.new_full((len(buffer_BN),), -torch.inf)
    for start in scores.blocks(buffer_BN, offers.stop):
        offers.limit(buffer_BN, start)
        maxima_BS = buffer_BN.unflatten(1, (TILE, -1)).amax(dim=1)
        worst_B = torch.maximum(worst_B, maxima_BS.amax(dim=1))
        if best is not None:
            best.add(buffer_BN, maxima_BS, start)
        if wanted is not None:
            wanted.read(buffer_BN, start)
            # Written over the scores as 0 and 1: float32 adds these up exactly, in half the time of a boolean matrix.
            count_B += buffer_BN.ge_(wanted.score_B[:, None]).sum(dim=1)
    return count_B, worst_B


def _lists(best: BestItems | None, worst_B: Tensor) -> tuple[Tensor, Tensor]:
    if best is not None:
        return best.result()
    nothing = worst_B.new_zeros(len(worst_B), 0, dtype=torch.float32)
    return nothing, nothing.long()
