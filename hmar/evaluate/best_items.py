"""The best items of many rows, from blocks of scores that come and go.

A score that may belong to the best is rare, so blocks are looked at through the maxima of tiles. What may is kept as
one int64 per cell, whose order is that of the list: larger scores first, the lower item among equals. It makes lists
the same on every device and in blocks of any width.

Shapes: B rows, K list length, N items of a block, S tiles of a block, P cells, M blocks.
"""

import torch
from torch import Tensor

_ITEM = 2**32 - 1
_MAGNITUDE = 2**31 - 1


class BestItems:
    """The K best of B rows so far, in blocks of N items."""

    def __init__(self, rows: int, width: int, k: int, device: torch.device) -> None:
        self._rows, self._width, self._k = rows, width, k
        nothing = torch.full((rows, k), -torch.inf, device=device)
        self._keys_BK = _keys(nothing, torch.full_like(nothing, _ITEM, dtype=torch.int64))
        self._floor_B1 = nothing.new_full((rows, 1), -torch.inf)
        """Whatever is not above it is not among the K best."""
        self._waiting: list[tuple[Tensor, Tensor]] = []
        """Cells, counted through all blocks, and their scores."""
        self._count = 0

    def add(self, scores_BN: Tensor, maxima_BS: Tensor, start: int) -> None:
        """Take in the block of items from ``start`` on; blocks come in order.

        Args:
            maxima_BS: the maxima of tiles; tile s has the columns s, s + S, s + 2 S, ... (a reduction over columns far
                apart runs along memory, whatever the size of a tile).
        """
        width, tiles = self._width, maxima_BS.shape[1]
        if start == 0 and tiles >= self._k:
            # K tiles have an item at least as good as this.
            least_B1 = maxima_BS.topk(self._k, dim=1).values[:, -1:]
            self._floor_B1 = torch.nextafter(least_B1, torch.full_like(least_B1, -torch.inf))
        tile_P1 = (maxima_BS > self._floor_B1).view(-1).nonzero()
        row_P1 = tile_P1 // tiles
        cells = tile_P1 + row_P1 * (width - tiles) + torch.arange(0, width, tiles, device=tile_P1.device)
        scores = scores_BN.take(cells)
        found = (scores > self._floor_B1.take(row_P1)).view(-1).nonzero()[:, 0]
        self._waiting.append((cells.take(found) + start * self._rows, scores.take(found)))
        self._count += len(found)
        if self._count > self._k * self._rows:
            self._merge()

    def result(self) -> tuple[Tensor, Tensor]:
        """Scores float32 [B, K], best first, and items int64 [B, K]; -inf and -1 where there are fewer."""
        self._merge()
        values = _values(self._keys_BK)
        return values, (_ITEM - (self._keys_BK & _ITEM)).masked_fill_(values == -torch.inf, -1)

    def _merge(self) -> None:
        if self._count == 0:
            return
        cells, scores = (torch.cat(parts) for parts in zip(*self._waiting, strict=True))
        # In order of block and row: the column of a cell is its place in its row of its block, after those of earlier
        # blocks, after the K of before.
        run_P = cells // self._width
        row_P, item_P = run_P % self._rows, run_P // self._rows * self._width + cells % self._width
        run_P -= run_P[0] // self._rows * self._rows
        runs = (int(run_P[-1]) // self._rows + 1) * self._rows
        counts_MB = torch.bincount(run_P, minlength=runs).view(-1, self._rows)
        first_MB = self._k + counts_MB.cumsum(0) - counts_MB
        ahead = counts_MB.view(-1).cumsum(0) - counts_MB.view(-1)
        column_P = torch.arange(len(run_P), device=run_P.device) + (first_MB.view(-1) - ahead)[run_P]
        longest = self._k + int(counts_MB.sum(0).max())
        wide = self._keys_BK.new_full((self._rows, longest), torch.iinfo(torch.int64).min)
        wide[:, : self._k] = self._keys_BK
        wide[row_P, column_P] = _keys(scores, item_P)
        self._keys_BK = wide.topk(self._k, dim=1).values
        # Items to come are higher than all so far, so a score that equals the last of the list comes too late.
        self._floor_B1 = torch.maximum(self._floor_B1, _values(self._keys_BK[:, -1:]))
        self._waiting.clear()
        self._count = 0


def _keys(values: Tensor, items: Tensor) -> Tensor:
    """int64 in the order of (value, -item). Floats of one sign are in the order of their bits; adding 0 makes -0 0."""
    bits = (values.float() + 0.0).view(torch.int32).long()
    return (torch.where(bits < 0, bits ^ _MAGNITUDE, bits) << 32) | (_ITEM - items)


def _values(keys: Tensor) -> Tensor:
    bits = keys >> 32
    return torch.where(bits < 0, bits ^ _MAGNITUDE, bits).to(torch.int32).view(torch.float32)
