"""DIEN: deep interest evolution network (Zhou et al., AAAI 2019, arXiv 1809.03672).

With E the item table, A and D learned vectors of behaviors and time buckets:

    i_t = Drop( E[v_t] + A[b_t] + D[bucket_t] ),  q = E[j]
    h_1 ... h_n = GRU( i_1 ... i_n )                                        (interests, equations 2 to 5)
    a_t = softmax_t( h_t W q )                                              (equation 12)
    s = the last state of a GRU over h_1 ... h_n whose updates a_t gates    (evolution, equations 13 to 16)
    z = net [s; q; s * q] + c_j

    L = logloss(sigma(z), y) + alpha L_aux,  L_aux: h_t tells item t + 1 from a drawn one    (equations 6 and 7)

The net has PReLU layers and one linear unit at the end; c is an item's bias. How attention gates the second GRU is
``evolution`` (:mod:`hmar.layers.attention_gru`), AUGRU unless said otherwise; alpha is ``auxiliary``.

Where we deviate: L_aux is a mean over a history's events, not a sum, so that alpha does not grow with their number; the
published code has a net in place of the inner product, and gives the last net the sum of the history's items as well.
Behaviors and time are inputs, and s * q is one of the net, as for DIN here. The first GRU is torch's, which has a
second bias. No Dice, as in :mod:`hmar.models.din`.

The first GRU runs once per history; the second once per candidate, over products with W that are made once.
"""

from dataclasses import dataclass

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from hmar.data.histories import Histories
from hmar.data.impressions import ImpressionBatch
from hmar.layers.attention_gru import AttentionGRU, Evolution
from hmar.layers.bilinear_attention import BilinearAttention
from hmar.layers.dropout import Dropout
from hmar.layers.event_inputs import EventInputs
from hmar.layers.grid import Grid
from hmar.layers.next_item import next_item_losses
from hmar.layers.prelu_net import logits_of_pairs, prelu_net
from hmar.layers.time_steps import TimeSteps
from hmar.models.base import Vocabulary
from hmar.models.ranker import Ranker, per_history
from hmar.settings import Section, Widths


class DIENConfig(Section):
    """The paper's names where it has some."""

    d: int = Field(32, ge=1)
    """Width of items, events, interests and states: the auxiliary loss multiplies interests with items."""
    evolution: Evolution = "augru"
    """How attention enters the second GRU: its update gate times the weight (AUGRU), the weight in place of the gate
    (AGRU), its inputs times the weight (AIGRU), or as in the published code."""
    auxiliary: float = Field(1.0, ge=0)
    """alpha, the weight of the auxiliary loss; 0 leaves it out."""
    hidden: Widths = (80, 40)
    """Widths of the layers on state and candidate."""
    behavior: bool = True
    """Whether the behavior of an event is an input."""
    time: bool = True
    """Whether the time since an event is an input."""
    dropout: float = Field(0.1, ge=0, lt=1)


@dataclass(frozen=True)
class Interests:
    """What DIEN makes of histories, whoever the candidates are.

    Attributes:
        state: h [T, D]. key: h W [T, D]. projected: what the second GRU's inputs are multiplied to, [T, G], tokens step
            by step.
    """

    state: Tensor
    key: Tensor
    projected: Tensor


class DIEN(Ranker):
    """See the module."""

    Config = DIENConfig
    config: DIENConfig

    def __init__(self, config: DIENConfig, vocabulary: Vocabulary) -> None:
        super().__init__(config, vocabulary)
        self.items = nn.Embedding(vocabulary.items, config.d)
        nn.init.normal_(self.items.weight, std=0.1)
        self.bias = nn.Embedding(vocabulary.items, 1)
        nn.init.zeros_(self.bias.weight)
        self.inputs = EventInputs(
            config.d, len(vocabulary.behaviors), behavior=config.behavior, time=config.time, std=0.1
        )
        self.dropout = Dropout(config.dropout)
        self.extractor = nn.GRU(config.d, config.d)
        self.attention = BilinearAttention(config.d)
        self.evolution = AttentionGRU(config.d, config.evolution)
        self.net = prelu_net([3 * config.d, *config.hidden])

    def plan(self, histories: Histories, device: torch.device, dtype: torch.dtype) -> None:
        TimeSteps.of(histories)
        Grid.of(histories)

    def encode(self, histories: Histories) -> Interests:
        steps = TimeSteps.of(histories)
        x_TD = self.dropout(self.inputs(self.items(histories.item), histories))[steps.token]
        if steps.active:
            x_TD = self.extractor(PackedSequence(x_TD, torch.tensor(steps.active)))[0].data
        projected_TG = self.evolution.project(x_TD)
        state_TD = x_TD[steps.place]
        return Interests(state_TD, self.attention.keys(state_TD), projected_TG)

    def interact(self, encoded: Interests, histories: Histories, items: Tensor) -> Tensor:
        steps = TimeSteps.of(histories)
        q_BND = self.items(items)
        weights_TN = self.attention(encoded.key, q_BND, histories)[steps.token]
        s_FND = self.evolution(encoded.projected, weights_TN, steps)
        s_BND = s_FND.new_zeros(len(histories), *s_FND.shape[1:]).index_copy(0, steps.row, s_FND)
        logits: Tensor = logits_of_pairs(self.net, s_BND, q_BND) + self.bias(items)[..., 0]
        return logits

    def auxiliary_loss(self, encoded: Interests, batch: ImpressionBatch) -> Tensor | None:
        if self.config.auxiliary == 0 or self.vocabulary.items < 2:
            return None
        return self.config.auxiliary * per_history(next_item_losses(encoded.state, self.items, batch), batch)
