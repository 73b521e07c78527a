"""Caser: convolutional sequence embedding (Tang and Wang, Personalized top-N sequential recommendation via
convolutional sequence embedding, WSDM 2018, arXiv 1809.07426).

With E the item table and X_t = [E[v_t-L+1]; ...; E[v_t]], L x d, the last L items, zeros before the first:

    o_h  = max_i ReLU( <F_hk, X_t[i : i + h]> + b_hk )      for each height h = 1 ... L, n filters k (equations 4 to 6)
    o~_k = sum_l F~_kl X_t[l]                               n~ vertical filters, each a weight per place (equation 7)
    z_t  = ReLU( W Drop[ o; o~ ] + b )                                                           (equation 9)
    r_tj = <z_t, W'[j]> + <g_t, W''[j]> + beta_j,  g_t = mean_s<=t E[v_s]                        (equation 10)

Published, it has a user's factor P_u in place of g_t, learned by the user's id, beside what the last L items say. A
user is a history here, in an evaluation as in serving (see :mod:`hmar.models.bpr_mf`), so that the mean of all items
that were read stands in for the general preferences; ``general: false`` leaves them out. It is an encoder: z_t is made
from the L items up to t at every position, all positions are learned from at once, and the catalog is ranked by one
product. The paper also predicts the items after the next (its T), the other encoders here do not, and neither does
this.

A convolution runs once along the whole history for each height, and the maximum slides over it: no window is copied.
"""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import conv1d, max_pool1d, pad

from hmar.data.histories import Histories
from hmar.layers.dropout import Dropout
from hmar.layers.grid import Grid
from hmar.models.base import Encoder, Vocabulary
from hmar.settings import Section


class CaserConfig(Section):
    """The paper's names where it has some."""

    d: int = Field(50, ge=1)
    """Width of items and of z."""
    window: int = Field(5, ge=1)
    """L, the latest items that the convolutions see."""
    horizontal: int = Field(16, ge=1)
    """n, filters of each height."""
    vertical: int = Field(4, ge=1)
    """n~, vertical filters."""
    general: bool = True
    """Whether the mean of all items read is beside the last L."""
    bias: bool = True
    """Whether items have a bias, beta."""
    dropout: float = Field(0.5, ge=0, lt=1)
    """On what the filters give."""
    behaviors: Literal["all", "target"] = "all"
    """Which events are read and predicted: all, or the target behavior's only."""


class Caser(Encoder):
    """See the module."""

    Config = CaserConfig
    config: CaserConfig

    def __init__(self, config: CaserConfig, vocabulary: Vocabulary) -> None:
        super().__init__(config, vocabulary)
        d, window = config.d, config.window
        if config.behaviors == "target":
            self.reads = (vocabulary.behaviors[vocabulary.target],)
        self.items = nn.Embedding(vocabulary.items, d)
        self.outputs = nn.Embedding(vocabulary.items, 2 * d if config.general else d)
        for table in (self.items, self.outputs):
            nn.init.normal_(table.weight, std=0.1)
        self.bias = nn.Parameter(torch.zeros(vocabulary.items)) if config.bias else None
        self.horizontal = nn.ModuleList(nn.Conv1d(d, config.horizontal, height + 1) for height in range(window))
        self.vertical = nn.Parameter(torch.empty(config.vertical, window).uniform_(-(window**-0.5), window**-0.5))
        self.dropout = Dropout(config.dropout)
        self.outer = nn.Linear(window * config.horizontal + config.vertical * d, d)

    def plan(self, histories: Histories, device: torch.device, dtype: torch.dtype) -> None:
        Grid.of(histories)

    def encode(self, histories: Histories) -> Tensor:
        grid, window = Grid.of(histories), self.config.window
        x_TD = self.items(histories.item)
        x_BLD = grid.spread(x_TD)
        before_BDL = pad(x_BLD.transpose(1, 2), (window - 1, 0))
        features = [
            max_pool1d(filters(before_BDL).relu(), window - height, stride=1)
            for height, filters in enumerate(self.horizontal)
        ]
        features.append(self._vertical(before_BDL))
        features_TF = torch.cat(features, dim=1).transpose(1, 2).flatten(0, 1)[grid.cell]
        states_TD: Tensor = self.outer(self.dropout(features_TF)).relu()
        if not self.config.general:
            return states_TD
        means_TD = x_BLD.cumsum(1).flatten(0, 1)[grid.cell] / (histories.position + 1)[:, None]
        return torch.cat([states_TD, means_TD], dim=1)

    def query(self, states: Tensor, asked: Tensor, since: Tensor | None) -> Tensor:
        """[N, D], and a one for the bias."""
        return states if self.bias is None else pad(states, (0, 1), value=1.0)

    def item_vectors(self, item: Tensor, hbi: Tensor | None) -> Tensor:
        vectors: Tensor = self.outputs(item)
        return vectors if self.bias is None else torch.cat([vectors, self.bias[item][..., None]], dim=-1)

    def _vertical(self, before_BDL: Tensor) -> Tensor:
        """o~ of every position, [B, n~ D, L]: the same filters along each of the D rows."""
        rows, d, _ = before_BDL.shape
        filtered = conv1d(before_BDL.flatten(0, 1)[:, None], self.vertical[:, None])
        return filtered.view(rows, d * len(self.vertical), filtered.shape[-1])
