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
        return self.score_all(histories, seen).gather(1, items)

    def score_all(self, histories: Histories, seen: CandidateCounts) -> Tensor:
        items = self.vocabulary.items
        order = torch.argsort(self.popularity, descending=True, stable=True)
        base = torch.empty_like(self.popularity)
        base[order] = torch.arange(items - 1, -1, -1, dtype=base.dtype, device=base.device)
        scores = base.expand(len(histories), -1).clone()
        recency = (items + histories.position).to(base.dtype)
        cells = histories.row * items + histories.item
        scores.view(-1).scatter_reduce_(0, cells, recency, "amax")
        return scores
