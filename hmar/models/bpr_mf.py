"""BPR-MF: matrix factorization (Rendle et al., BPR: Bayesian personalized ranking from implicit feedback, UAI 2009,
arXiv 1205.2618; with its loss bpr, or any other).

With p_u a factor per user, E[j] one per item and beta_j an item's bias:

    r_uj = <p_u, E[j]> + beta_j
    L    = loss(r) + lambda mean_t( |p_u|^2 + |E[v_t+1]|^2 + beta^2 + mean_n( |E[n]|^2 + beta_n^2 ) )

where every event t+1 of u is a positive, so order plays no role, and n are its negatives: section 4.2's regularizer,
per drawn triple. (A user's first event, which nothing precedes, is no positive, as for all encoders.)

Training learns p_u. To be scored, a user is a history here, in an evaluation as in serving, and in a newer snapshot
that numbers users anew or has new ones; so the factor is folded in, by one step of steepest descent from p = 0 on the
user's part of BPR-Opt, items fixed, biases aside, negatives drawn from the whole catalog. With m the mean factor of the
history's events, e and C mean and covariance of all item factors, delta = m - e, and the history's items taken to
scatter about m as C, the best step along that line ends at

    p = 2 delta / ( 2 <delta, C delta> / |delta|^2 + |delta|^2 + 8 lambda )

It was not learned for this user, and it is the same for one who was in the training and one who was not; what it says
of events after the training is what any other encoder may know, too. Newton's step in all directions is worse on the
tests' checkerboard: it trusts most the directions in which items differ least. e and C are made from the weights
whenever the model goes into evaluation mode, and are saved with them.
"""

from typing import Literal, Self

import torch
from pydantic import Field
from torch import Tensor, nn

from hmar.data.histories import Histories
from hmar.layers.grid import Grid
from hmar.models.base import Encoder, TrainingBatch, Vocabulary
from hmar.settings import Section


class BPRMFConfig(Section):
    """The paper leaves the width to the data."""

    d: int = Field(64, ge=1)
    """Width of the factors."""
    bias: bool = True
    """Whether items have a bias, beta."""
    regularization: float = Field(0.01, gt=0)
    """lambda, per drawn triple."""
    behaviors: Literal["all", "target"] = "all"
    """Which events are read and are positives: all, or the target behavior's only."""


class BPRMF(Encoder):
    """See the module."""

    Config = BPRMFConfig
    config: BPRMFConfig
    center: Tensor
    spread: Tensor

    def __init__(self, config: BPRMFConfig, vocabulary: Vocabulary) -> None:
        super().__init__(config, vocabulary)
        if config.behaviors == "target":
            self.reads = (vocabulary.behaviors[vocabulary.target],)
        self.users = nn.Embedding(vocabulary.users, config.d)
        self.items = nn.Embedding(vocabulary.items, config.d)
        for table in (self.users, self.items):
            nn.init.normal_(table.weight, std=0.1)
        self.bias = nn.Parameter(torch.zeros(vocabulary.items)) if config.bias else None
        self.register_buffer("center", torch.zeros(config.d))
        self.register_buffer("spread", torch.eye(config.d))

    def train(self, mode: bool = True) -> Self:
        """As in torch; going into evaluation mode, e and C of the weights as they are now."""
        if not mode:
            with torch.no_grad():
                self.center.copy_(self.items.weight.mean(0))
                centered_VD = self.items.weight - self.center
                self.spread.copy_(centered_VD.T @ centered_VD / len(centered_VD))
        return super().train(mode)

    def encode(self, histories: Histories) -> Tensor:
        """m - e of the events so far."""
        grid = Grid.of(histories)
        sums_BLD = grid.spread(self.items(histories.item) - self.center).cumsum(1)
        means_TD: Tensor = sums_BLD.flatten(0, 1)[grid.cell] / (histories.position + 1)[:, None]
        return means_TD

    def query(self, states: Tensor, asked: Tensor, since: Tensor | None) -> Tensor:
        """p folded in, [N, D], and a one for the bias."""
        squared_N1 = states.square().sum(-1, keepdim=True)
        curved_N1 = (states @ self.spread * states).sum(-1, keepdim=True) / squared_N1.clamp(min=1e-12)
        return self._asking(2 * states / (2 * curved_N1 + squared_N1 + 8 * self.config.regularization))

    def training_states(self, batch: TrainingBatch) -> Tensor:
        """None, [T, 0]: training knows the user's own factors."""
        return self.center.new_zeros(len(batch.next_item), 0)

    def training_queries(self, states_TD: Tensor, batch: TrainingBatch) -> Tensor:
        """p_u of the user whose event is predicted, [T, D], and a one for the bias."""
        return self._asking(self._user_factors(batch))

    def item_vectors(self, item: Tensor, hbi: Tensor | None) -> Tensor:
        vectors: Tensor = self.items(item)
        return vectors if self.bias is None else torch.cat([vectors, self.bias[item][..., None]], dim=-1)

    def auxiliary_loss(self, states_TD: Tensor, batch: TrainingBatch) -> Tensor | None:
        """The regularizer; without negatives, or with negatives that all positions share, these enter as their mean."""
        squares = self._user_factors(batch).square().sum(-1)
        squares = squares + self.item_vectors(batch.next_item, None).square().sum(-1)
        if batch.negatives.numel():
            squares = squares + self.item_vectors(batch.negatives, None).square().sum(-1).mean(-1)
        return self.config.regularization * squares.mean()

    def _user_factors(self, batch: TrainingBatch) -> Tensor:
        factors_TD: Tensor = self.users(batch.user[batch.histories.row])
        return factors_TD

    def _asking(self, factors: Tensor) -> Tensor:
        return factors if self.bias is None else nn.functional.pad(factors, (0, 1), value=1.0)
