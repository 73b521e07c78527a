"""Bi-LSTM with attention: the third comparison of ATRank's paper (Zhou et al., AAAI 2018, arXiv 1711.06632).

As :mod:`hmar.models.bi_lstm`, but the candidate asks which states matter, by ATRank's own vanilla attention:

    y_t = W_y Drop[ f_t; g_t ] + b_y
    u_j = attention over y in K spaces, asked by h_j = ReLU( W_h E[j] )   (:class:`hmar.layers.latent_spaces.
          CandidateAttention`)
    z   = <u_j, E[j]> + c_j;  mlp: net [ u_j; E[j]; u_j * E[j] ] + c_j

Inputs, attention and heads are those of ATRank here (:mod:`hmar.models.atrank`): what is left to compare is an LSTM in
both directions against self-attention. The LSTM runs once per history, whoever the candidates are.
"""

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from hmar.data.histories import Histories
from hmar.layers.grid import Grid
from hmar.layers.latent_spaces import CandidateAttention, Score
from hmar.layers.recurrent import run
from hmar.layers.time_steps import TimeSteps
from hmar.layers.user_head import UserHead
from hmar.models.base import Vocabulary
from hmar.models.bi_lstm import BiLSTMConfig
from hmar.models.user_vector import UserVector


class BiLSTMAttentionConfig(BiLSTMConfig):
    """Of the attention, ATRank's names."""

    spaces: int = Field(1, ge=1)
    """K, spaces that the attention looks in."""
    score: Score = "bilinear"
    """How attention compares: a learned product, or a scaled dot product."""

    @model_validator(mode="after")
    def _spaces_divide(self) -> "BiLSTMAttentionConfig":
        if self.d % self.spaces:
            raise ValueError(f"d must be a multiple of spaces, and {self.d} is not one of {self.spaces}")
        return self


class BiLSTMAttention(UserVector):
    """See the module."""

    Config = BiLSTMAttentionConfig
    config: BiLSTMAttentionConfig

    def __init__(self, config: BiLSTMAttentionConfig, vocabulary: Vocabulary) -> None:
        super().__init__(config, vocabulary)
        d = config.d
        self.lstm = nn.LSTM(d, d, bidirectional=True)
        self.events = nn.Linear(2 * d, d)
        self.query = nn.Linear(d, d, bias=False)
        self.attention = CandidateAttention(d, config.spaces, config.score)
        self.head = UserHead(vocabulary.items, d, config.head, config.hidden)

    def plan(self, histories: Histories, device: torch.device, dtype: torch.dtype) -> None:
        TimeSteps.of(histories)
        Grid.of(histories)

    def encode(self, histories: Histories) -> tuple[Tensor, Tensor]:
        """What candidates ask: keys [B, K, D/K, L] and values [B, K, L, D/K]."""
        x_TD = self.event_vectors(histories)
        y_TD = self.events(self.dropout(run(self.lstm, x_TD, histories)))
        return self.attention.keys(y_TD, histories)

    def interact(self, encoded: tuple[Tensor, Tensor], histories: Histories, items: Tensor) -> Tensor:
        e_BND = self.items(items)
        u_BND = self.attention(*encoded, self.query(e_BND).relu(), histories)
        logits: Tensor = self.head(u_BND, e_BND, items)
        return logits
