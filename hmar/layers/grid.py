"""Packed tokens as a padded grid, for what is done row by row: a softmax over a history, a product per row."""

from dataclasses import dataclass

import torch
from torch import Tensor

from hmar.data.histories import Histories


@dataclass(frozen=True)
class Grid:
    """B rows of L cells, L being the longest history, one at least.

    Attributes:
        cell: int64 [T], the cell of each token, row by row, the oldest token first. real: bool [B, L].
    """

    cell: Tensor
    real: Tensor

    @classmethod
    def of(cls, histories: Histories) -> "Grid":
        """Planned once for these histories."""
        grid: Grid = histories.planned("grid", lambda: cls._of(histories))
        return grid

    @classmethod
    def _of(cls, histories: Histories) -> "Grid":
        width = max(histories.longest(), 1)
        places = torch.arange(width, device=histories.offsets.device)
        return cls(histories.row * width + histories.position, places < histories.lengths[:, None])

    def spread(self, x: Tensor, fill: float = 0.0) -> Tensor:
        """[T, ...] as [B, L, ...], ``fill`` in the cells without a token."""
        rows, width = self.real.shape
        cells = x.new_full((rows * width, *x.shape[1:]), fill).index_copy(0, self.cell, x)
        return cells.view(rows, width, *x.shape[1:])
