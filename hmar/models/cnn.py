"""CNN with pooling: the first comparison of ATRank's paper (Zhou et al., AAAI 2018, arXiv 1711.06632; after Kim, EMNLP
2014, arXiv 1408.5882, and DeepCoNN, Zheng et al., WSDM 2017).

With E the item table, A and D learned vectors of behaviors and time buckets, windows w = 1 ... W, M maps of each:

    x_t = Drop( E[v_t] + A[b_t] + D[bucket_t] )
    c_w = max_t ReLU( F_w [ x_t-w+1; ...; x_t ] + f_w ),  zeros before the first event
    u   = W_u Drop[ c_1; ...; c_W ] + b_u
    z   = <u, E[j]> + c_j;  mlp: net [ u; E[j]; u * E[j] ] + c_j

The paper's has ten windows of 32 maps. Inputs and heads are those of ATRank here (:mod:`hmar.models.atrank`), so that
what the two are compared by is how they read a history.
"""

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import pad

from hmar.data.histories import Histories
from hmar.layers.grid import Grid
from hmar.layers.user_head import UserHead
from hmar.models.base import Vocabulary
from hmar.models.user_vector import UserVector, UserVectorConfig


class CNNConfig(UserVectorConfig):
    """The paper has no names for them."""

    windows: int = Field(10, ge=1)
    """W: windows of one event to so many."""
    maps: int = Field(32, ge=1)
    """M, feature maps of each window."""


class CNN(UserVector):
    """See the module."""

    Config = CNNConfig
    config: CNNConfig

    def __init__(self, config: CNNConfig, vocabulary: Vocabulary) -> None:
        super().__init__(config, vocabulary)
        d = config.d
        self.filters = nn.ModuleList(nn.Conv1d(d, config.maps, window + 1) for window in range(config.windows))
        self.user = nn.Linear(config.windows * config.maps, d)
        self.head = UserHead(vocabulary.items, d, config.head, config.hidden)

    def plan(self, histories: Histories, device: torch.device, dtype: torch.dtype) -> None:
        Grid.of(histories)

    def encode(self, histories: Histories) -> Tensor:
        """u, [B, D]."""
        grid = Grid.of(histories)
        x_TD = self.event_vectors(histories)
        x_BDL = grid.spread(x_TD).transpose(1, 2)
        pooled = []
        for window, filters in enumerate(self.filters):
            maps_BML = filters(pad(x_BDL, (window, 0)))
            lowest = torch.finfo(maps_BML.dtype).min
            # ReLU after the maximum is the same, and gives 0 where a history is empty.
            pooled.append(maps_BML.masked_fill(~grid.real[:, None], lowest).amax(2).relu())
        u_BD: Tensor = self.user(self.dropout(torch.cat(pooled, dim=1)))
        return u_BD
