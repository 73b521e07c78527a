"""Bi-LSTM: the second comparison of ATRank's paper (Zhou et al., AAAI 2018, arXiv 1711.06632; after Zhang et al.,
Sequential click prediction for sponsored search with recurrent neural networks, AAAI 2014, arXiv 1404.5772).

With E the item table, A and D learned vectors of behaviors and time buckets, n the length of the history:

    x_t = Drop( E[v_t] + A[b_t] + D[bucket_t] )
    f_t, g_t = LSTM over x_1 ... x_t, LSTM over x_n ... x_t
    u   = W_u Drop[ f_n; g_1 ] + b_u
    z   = <u, E[j]> + c_j;  mlp: net [ u; E[j]; u * E[j] ] + c_j

Inputs and heads are those of ATRank here (:mod:`hmar.models.atrank`), so that what the two are compared by is how they
read a history. The history ends before the moment of asking, so the way back leaks nothing.
"""

import torch
from pydantic import Field
from torch import Tensor, nn

from hmar.data.histories import Histories
from hmar.layers.recurrent import run, whole_rows
from hmar.layers.time_steps import TimeSteps
from hmar.layers.user_head import UserHead
from hmar.models.base import Vocabulary
from hmar.models.user_vector import UserVector, UserVectorConfig


class BiLSTMConfig(UserVectorConfig):
    """The paper has no names for them."""

    d: int = Field(64, ge=1)
    """Width of items, events, users and of each direction's states."""


class BiLSTM(UserVector):
    """See the module."""

    Config = BiLSTMConfig
    config: BiLSTMConfig

    def __init__(self, config: BiLSTMConfig, vocabulary: Vocabulary) -> None:
        super().__init__(config, vocabulary)
        d = config.d
        self.lstm = nn.LSTM(d, d, bidirectional=True)
        self.user = nn.Linear(2 * d, d)
        self.head = UserHead(vocabulary.items, d, config.head, config.hidden)

    def plan(self, histories: Histories, device: torch.device, dtype: torch.dtype) -> None:
        TimeSteps.of(histories)

    def encode(self, histories: Histories) -> Tensor:
        """u, [B, D]."""
        x_TD = self.event_vectors(histories)
        ends_BH = whole_rows(run(self.lstm, x_TD, histories), histories)
        u_BD: Tensor = self.user(self.dropout(ends_BH))
        return u_BD
