"""GRU4Rec: a recurrent net over the history (Hidasi et al., Session-based recommendations with recurrent neural
networks, ICLR 2016, arXiv 1511.06939; Hidasi and Karatzoglou, CIKM 2018, arXiv 1706.03847).

With E the item table and N layers of gated recurrent units:

    h_t  = Drop( GRU( Drop( E[v_1] ), ..., Drop( E[v_t] ) ) )
    r_tj = <h_t, O[j]> + beta_j

O is a table of its own, as in the first paper, or E itself, the "constrained embedding" of the second one's code, which
is the default. Where we deviate: the papers feed one-hot vectors to the GRU unless told to embed them, have negatives
from the other sessions of a batch and losses of their own (TOP1, BPR-max); here an epoch's batches, negatives and
losses are those of all encoders. Torch's GRU has a second bias. Training goes through whole windows of a history, not
through steps of parallel sessions with the gradient cut between them.
"""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from hmar.data.histories import Histories
from hmar.layers.dropout import Dropout
from hmar.layers.recurrent import run
from hmar.layers.time_steps import TimeSteps
from hmar.models.base import Encoder, Vocabulary
from hmar.settings import Section


class GRU4RecConfig(Section):
    """The paper's names where it has some."""

    d: int = Field(64, ge=1)
    """Width of items and states."""
    layers: int = Field(1, ge=1)
    """N, one on top of the other."""
    constrained: bool = True
    """Whether O is E; if not, items have a second vector."""
    bias: bool = True
    """Whether items have a bias, beta."""
    dropout: float = Field(0.2, ge=0, lt=1)
    """On items, between layers and on states."""
    behaviors: Literal["all", "target"] = "all"
    """Which events are read and predicted: all, or the target behavior's only."""


class GRU4Rec(Encoder):
    """See the module."""

    Config = GRU4RecConfig
    config: GRU4RecConfig

    def __init__(self, config: GRU4RecConfig, vocabulary: Vocabulary) -> None:
        super().__init__(config, vocabulary)
        if config.behaviors == "target":
            self.reads = (vocabulary.behaviors[vocabulary.target],)
        self.items = nn.Embedding(vocabulary.items, config.d)
        nn.init.normal_(self.items.weight, std=0.1)
        self.outputs = None
        if not config.constrained:
            self.outputs = nn.Embedding(vocabulary.items, config.d)
            nn.init.normal_(self.outputs.weight, std=0.1)
        self.bias = nn.Parameter(torch.zeros(vocabulary.items)) if config.bias else None
        self.dropout = Dropout(config.dropout)
        self.layers = nn.ModuleList(nn.GRU(config.d, config.d) for _ in range(config.layers))

    def plan(self, histories: Histories, device: torch.device, dtype: torch.dtype) -> None:
        TimeSteps.of(histories)

    def encode(self, histories: Histories) -> Tensor:
        x_TD: Tensor = self.dropout(self.items(histories.item))
        for layer in self.layers:
            assert isinstance(layer, nn.GRU)
            x_TD = self.dropout(run(layer, x_TD, histories))
        return x_TD

    def query(self, states: Tensor, asked: Tensor, since: Tensor | None) -> Tensor:
        """[N, D], and a one for the bias."""
        return states if self.bias is None else nn.functional.pad(states, (0, 1), value=1.0)

    def item_vectors(self, item: Tensor, hbi: Tensor | None) -> Tensor:
        vectors: Tensor = self.items(item) if self.outputs is None else self.outputs(item)
        return vectors if self.bias is None else torch.cat([vectors, self.bias[item][..., None]], dim=-1)
