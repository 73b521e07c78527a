"""Recent: the user's own latest items first. Mandatory row of every table: a network that does not beat it on repeat
targets has learned nothing."""

from typing import Literal

import torch
from torch import Tensor

from hmar.data.histories import Histories
from hmar.models.base import CandidateCounts, Rule, Vocabulary
from hmar.settings import Section


class RecentConfig(Section):
    """Which events count."""

    behaviors: Literal["all", "target"] = "all"
    """Events of all behaviors, or of the target behavior only."""


class Recent(Rule):
    """The items of the history by their latest event, newest first; then all others by popularity.

    Scores are distinct whole numbers: V + (place of the item's latest event in the history) for history items, and
    V - 1 - (rank by target events, then lower dense id) for the rest. They are exact in float32 up to 16 M items.
    """

    Config = RecentConfig
    config: RecentConfig

    def __init__(self, config: RecentConfig, vocabulary: Vocabulary) -> None:
        super().__init__(config, vocabulary)
        if config.behaviors == "target":
            self.reads = (vocabulary.behaviors[vocabulary.target],)

    def score(self, histories: Histories, seen: CandidateCounts, items: Tensor) -> Tensor:
        had, cell = self._cells(histories).unique(return_inverse=True)
        latest = self.popularity.new_zeros(len(had)).scatter_reduce_(0, cell, self._recency(histories), "amax")
        rows = torch.arange(len(histories), device=items.device)[:, None]
        wanted = rows * self.vocabulary.items + items
        scores = self._never()[items].expand(wanted.shape).clone()
        if len(had):
            place = torch.searchsorted(had, wanted).clamp(max=len(had) - 1)
            scores = torch.where(had[place] == wanted, latest[place], scores)
        return scores

    def score_all(self, histories: Histories, seen: CandidateCounts) -> Tensor:
        scores = self._never().expand(len(histories), -1).clone()
        scores.view(-1).scatter_reduce_(0, self._cells(histories), self._recency(histories), "amax")
        return scores

    def _never(self) -> Tensor:
        """Scores of items that are in no history, [V]."""
        order = torch.argsort(self.popularity, descending=True, stable=True)
        scores = torch.empty_like(self.popularity)
        scores[order] = torch.arange(len(order) - 1, -1, -1, dtype=scores.dtype, device=scores.device)
        return scores

    def _cells(self, histories: Histories) -> Tensor:
        """row V + item of every token, int64 [T]."""
        return histories.row * self.vocabulary.items + histories.item

    def _recency(self, histories: Histories) -> Tensor:
        """The score that every token gives its item, [T]."""
        return (self.vocabulary.items + histories.position).to(self.popularity.dtype)
