"""Packed tokens step by step, for what runs along all histories at once: every row's first, every row's second, ..."""

from dataclasses import dataclass

import torch
from torch import Tensor

from hmar.data.histories import Histories


@dataclass(frozen=True)
class TimeSteps:
    """The rows that are not empty, from the longest to the shortest: those that are done are always the last ones.

    Attributes:
        token: int64 [T], the tokens of step 0, then of step 1, ..., rows in the order of ``row``. place: int64 [T], the
            inverse: where each token is in that order.
        row: int64 [F], the rows that are not empty. active: how many rows have a token in each step; never rising.
    """

    token: Tensor
    place: Tensor
    row: Tensor
    active: tuple[int, ...]

    @classmethod
    def of(cls, histories: Histories) -> "TimeSteps":
        """Planned once for these histories."""
        steps: TimeSteps = histories.planned("time_steps", lambda: cls._of(histories))
        return steps

    @classmethod
    def _of(cls, histories: Histories) -> "TimeSteps":
        row = histories.lengths.argsort(descending=True, stable=True)
        rank = torch.empty_like(row)
        rank[row] = torch.arange(len(row), device=row.device)
        token = (histories.position * max(len(row), 1) + rank[histories.row]).argsort()
        place = torch.empty_like(token)
        place[token] = torch.arange(len(token), device=token.device)
        active = torch.bincount(histories.position).tolist()
        return cls(token, place, row[: active[0] if active else 0], tuple(active))
