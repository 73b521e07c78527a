"""SASRec: self-attentive sequential recommendation (Kang and McAuley, ICDM 2018, arXiv 1808.09781).

With E the item table, P learned positions, N blocks:

    x   = Drop( sqrt(d) E[v_t] + P_t )
    pre:  x = x + Drop( SA( LN(x) ) );  x = x + FF( LN(x) )       (the paper's equation, section III.B; the default)
    post: x = LN( x + Drop( SA(x) ) );  x = LN( x + FF(x) )
    h_t = LN(x) after the last block (pre; post-norm blocks end with one already)
    r_tj = <h_t, E[j]>                                            (shared item table)

SA is causal multi-head self-attention without output projection, FF the net d -> d -> d with ReLU and dropout.
Beyond the paper: positions count from the start of the window, not from its end, because in a packed batch an event's
distance to the end is knowledge of the future; keys and values are normalized like the queries (the published code
normalizes the queries only); attention weights are not dropped. The factor sqrt(d) is the published code's.
"""

import math
from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from hmar.data.histories import Histories
from hmar.layers.block import Block, Norm
from hmar.layers.dropout import Dropout
from hmar.layers.kernels import choose
from hmar.layers.positions import LearnedPositions
from hmar.layers.segments import Segments
from hmar.layers.self_attention import SelfAttention
from hmar.models.base import Encoder, Vocabulary
from hmar.settings import Section


class SASRecConfig(Section):
    """The paper's names."""

    d: int = Field(50, ge=1)
    """Width of items and states."""
    heads: int = Field(1, ge=1)
    blocks: int = Field(2, ge=1)
    dropout: float = Field(0.2, ge=0, lt=1)
    norm: Norm = "pre"
    """Layer normalization before each sub-layer (the paper's) or after its residual."""
    behaviors: Literal["all", "target"] = "all"
    """Which events are read and predicted: all, or the target behavior's only."""
    positions: int = Field(200, ge=1)
    """Size of the position table: the longest history that can be read; at least the training's max_length."""

    @model_validator(mode="after")
    def _heads_divide(self) -> "SASRecConfig":
        if self.d % self.heads:
            raise ValueError(f"d must be a multiple of heads, and {self.d} is not one of {self.heads}")
        return self


class SASRec(Encoder):
    """See the module."""

    Config = SASRecConfig
    config: SASRecConfig

    def __init__(self, config: SASRecConfig, vocabulary: Vocabulary) -> None:
        super().__init__(config, vocabulary)
        if config.behaviors == "target":
            self.reads = (vocabulary.behaviors[vocabulary.target],)
        self.items = nn.Embedding(vocabulary.items, config.d)
        nn.init.normal_(self.items.weight, std=0.02)
        self.positions = LearnedPositions(config.positions, config.d)
        self.dropout = Dropout(config.dropout)
        self.blocks = nn.ModuleList(
            Block(SelfAttention(config.d, config.heads), config.d, config.dropout, config.norm)
            for _ in range(config.blocks)
        )
        self.norm = nn.LayerNorm(config.d) if config.norm == "pre" else nn.Identity()

    def plan(self, histories: Histories, device: torch.device, dtype: torch.dtype) -> None:
        self.positions.plan(histories)
        Segments.of_rows(histories).form(choose(device, dtype, self.config.d // self.config.heads))

    def encode(self, histories: Histories) -> Tensor:
        segments = Segments.of_rows(histories)
        x_TD = math.sqrt(self.config.d) * self.items(histories.item) + self.positions(histories)
        x_TD = self.dropout(x_TD)
        for block in self.blocks:
            x_TD = block(x_TD, segments)
        states_TD: Tensor = self.norm(x_TD)
        return states_TD

    def item_vectors(self, item: Tensor, hbi: Tensor | None) -> Tensor:
        vectors: Tensor = self.items(item)
        return vectors
