"""THA4Rec: self-attention with talking heads, a baseline of DFAR (Lin et al., WWW 2023, arXiv 2302.03965, table 2).

With E the item table, A and D learned vectors of behaviors and time buckets, P positions counted from the newest event:

    x_t = Drop( E[v_t] + A[b_t] + D[bucket_t] + P_t ),  q = E[j]
    x = x + Drop( TH(LN(x)) );  x = x + FF(LN(x))           in each block
    s = mean_t LN(x_t)                                      (``pool: newest``: SASRec's, the newest event alone)
    z = net [s; q; s * q] + c_j

TH is causal attention with talking heads (:mod:`hmar.layers.talking_heads`), and with ``talking: false`` plain
multi-head attention: SASRec as DFAR's table has it, trained on labels. The net has PReLU layers and one linear unit at
the end; c is an item's bias.

A ranker, although the candidate enters at the end only: so is the published code, with a net on [q; s], and it learns
from what was disliked, which no loss on next items does. Where we deviate from that code: a softmax over the logits in
place of tanh, which makes masked events count; matrices between heads that start as unit matrices, not as noise; events
of every feedback are read, not the positive ones alone, with their behavior and time, as by the other rankers; s * q as
for DIN. Blocks are those of :mod:`hmar.models.sasrec`.
"""

from dataclasses import replace
from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from hmar.data.histories import Histories
from hmar.layers.attention_weights import Attention
from hmar.layers.block import Block
from hmar.layers.dropout import Dropout
from hmar.layers.event_inputs import EventInputs
from hmar.layers.kernels import choose
from hmar.layers.positions import LearnedPositions
from hmar.layers.prelu_net import logits_of_pairs, prelu_net
from hmar.layers.segments import Segments
from hmar.layers.self_attention import SelfAttention
from hmar.layers.talking_heads import TalkingHeads
from hmar.models.base import CandidateCounts, Vocabulary
from hmar.models.ranker import Ranker
from hmar.settings import Section, Widths


class THA4RecConfig(Section):
    """SASRec's names."""

    d: int = Field(32, ge=1)
    """Width of items and events."""
    heads: int = Field(4, ge=1)
    blocks: int = Field(1, ge=1)
    talking: bool = True
    """Whether heads are mixed, before and after the softmax; if not, this is plain multi-head attention."""
    pool: Literal["mean", "newest"] = "mean"
    """What stands for a history: the mean of its events, or the newest one."""
    hidden: Widths = (80, 40)
    """Widths of the layers on history and candidate."""
    behavior: bool = True
    """Whether the behavior of an event is an input."""
    time: bool = True
    """Whether the time since an event is an input."""
    dropout: float = Field(0.1, ge=0, lt=1)
    positions: int = Field(200, ge=1)
    """Size of the position table: the longest history that can be read; at least the training's max_length."""

    @model_validator(mode="after")
    def _heads_divide(self) -> "THA4RecConfig":
        if self.d % self.heads:
            raise ValueError(f"d must be a multiple of heads, and {self.d} is not one of {self.heads}")
        return self


class THA4Rec(Ranker):
    """See the module."""

    Config = THA4RecConfig
    config: THA4RecConfig

    def __init__(self, config: THA4RecConfig, vocabulary: Vocabulary) -> None:
        super().__init__(config, vocabulary)
        self.items = nn.Embedding(vocabulary.items, config.d)
        nn.init.normal_(self.items.weight, std=0.1)
        self.bias = nn.Embedding(vocabulary.items, 1)
        nn.init.zeros_(self.bias.weight)
        self.inputs = EventInputs(
            config.d, len(vocabulary.behaviors), behavior=config.behavior, time=config.time, std=0.1
        )
        self.positions = LearnedPositions(config.positions, config.d, from_newest=True)
        self.dropout = Dropout(config.dropout)
        attention = TalkingHeads if config.talking else SelfAttention
        self.blocks = nn.ModuleList(
            Block(attention(config.d, config.heads), config.d, config.dropout) for _ in range(config.blocks)
        )
        self.norm = nn.LayerNorm(config.d)
        self.net = prelu_net([3 * config.d, *config.hidden])

    def plan(self, histories: Histories, device: torch.device, dtype: torch.dtype) -> None:
        self.positions.plan(histories)
        plain = choose(device, dtype, self.config.d // self.config.heads)
        Segments.of_rows(histories).form("bucketed" if self.config.talking else plain)

    def encode(self, histories: Histories) -> Tensor:
        """s, [B, D]; zeros where a history is empty."""
        segments = Segments.of_rows(histories)
        x_TD = self.inputs(self.items(histories.item), histories) + self.positions(histories)
        x_TD = self.dropout(x_TD)
        for block in self.blocks:
            x_TD = block(x_TD, segments)
        x_TD = self.norm(x_TD)
        if self.config.pool == "newest":
            share_T = (histories.from_end == 0).to(x_TD.dtype)
        else:
            share_T = 1 / histories.lengths.to(x_TD.dtype)[histories.row]
        pooled_BD: Tensor = x_TD.new_zeros(len(histories), self.config.d)
        return pooled_BD.index_add(0, histories.row, share_T[:, None] * x_TD)

    def interact(self, encoded: Tensor, histories: Histories, items: Tensor) -> Tensor:
        z_BN = logits_of_pairs(self.net, encoded[:, None], self.items(items))
        logits: Tensor = z_BN + self.bias(items)[..., 0]
        return logits

    def looks_at(self, history: Histories, seen: CandidateCounts, items: Tensor) -> dict[str, Attention]:
        found = super().looks_at(history, seen, items)
        read: Literal["newest", "all"] = "newest" if self.config.pool == "newest" else "all"
        return {name: replace(one, read=read) for name, one in found.items()}
