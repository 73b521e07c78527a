"""Popularity: everyone is offered what most training events are about. Mandatory row of every table."""

from typing import Literal

import torch
from torch import Tensor

from hmar.data.counting import popularity
from hmar.data.histories import Histories
from hmar.data.snapshot import Snapshot
from hmar.models.base import CandidateCounts, Rule, Vocabulary
from hmar.settings import Section


class PopularityConfig(Section):
    """What is counted."""

    behaviors: Literal["target", "all"] = "target"
    """Training events of the target behavior, or of all behaviors."""


class Popularity(Rule):
    """score_j = number of training events of item j. Ties are ties: the evaluation counts them against the rule."""

    Config = PopularityConfig
    config: PopularityConfig
    counts: Tensor

    def __init__(self, config: PopularityConfig, vocabulary: Vocabulary) -> None:
        super().__init__(config, vocabulary)
        self.register_buffer("counts", torch.zeros(vocabulary.items))

    def fit_counts(self, snapshot: Snapshot, split: str) -> None:
        super().fit_counts(snapshot, split)
        if self.config.behaviors == "target":
            self.counts.copy_(self.popularity)
        else:
            self.counts.copy_(torch.from_numpy(popularity(snapshot, split, None)))

    def score(self, histories: Histories, seen: CandidateCounts, items: Tensor) -> Tensor:
        return self.counts[items]

    def score_all(self, histories: Histories, seen: CandidateCounts) -> Tensor:
        return self.counts.expand(len(histories), -1).clone()
