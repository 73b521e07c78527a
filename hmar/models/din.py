"""DIN: deep interest network (Zhou et al., KDD 2018, arXiv 1706.06978).

With E the item table, A and D learned vectors of behaviors and time buckets:

    k_t = Drop( E[v_t] + A[b_t] + D[bucket_t] ),  q = E[j]
    w_t = softmax_t( a(k_t, q) / sqrt(d) ),  a a net on [k; q; k - q; k * q]        (equation 3)
    u = sum_t w_t k_t
    z = net [u; q; u * q] + c_j

Both nets have PReLU layers and one linear unit at the end; c is an item's bias. Where we deviate: the paper sums
without a softmax (``normalize: sum``), and has no notion of behaviors and of time, which are inputs here as for every
other ranker (``behavior``, ``time``). Its activation Dice, which looks at the other rows of a batch, is PReLU here; the
products in both nets are the published code's.
"""

from typing import Literal

from pydantic import Field
from torch import Tensor, nn

from hmar.data.histories import Histories
from hmar.layers.dropout import Dropout
from hmar.layers.event_inputs import EventInputs
from hmar.layers.prelu_net import logits_of_pairs, prelu_net
from hmar.layers.target_attention import Keys, TargetAttention
from hmar.models.base import Vocabulary
from hmar.models.ranker import Ranker
from hmar.settings import Section, Widths


class DINConfig(Section):
    """The paper's names where it has some."""

    d: int = Field(32, ge=1)
    """Width of items and events."""
    attention: Widths = (36,)
    """Widths of the layers of the attention's scorer."""
    hidden: Widths = (80, 40)
    """Widths of the layers on user and candidate."""
    normalize: Literal["softmax", "sum"] = "softmax"
    """Attention weights: a softmax over the history, or the scores as they are (the paper's)."""
    behavior: bool = True
    """Whether the behavior of an event is an input."""
    time: bool = True
    """Whether the time since an event is an input."""
    dropout: float = Field(0.1, ge=0, lt=1)


class DIN(Ranker):
    """See the module."""

    Config = DINConfig
    config: DINConfig

    def __init__(self, config: DINConfig, vocabulary: Vocabulary) -> None:
        super().__init__(config, vocabulary)
        self.items = nn.Embedding(vocabulary.items, config.d)
        nn.init.normal_(self.items.weight, std=0.1)
        self.bias = nn.Embedding(vocabulary.items, 1)
        nn.init.zeros_(self.bias.weight)
        self.inputs = EventInputs(
            config.d, len(vocabulary.behaviors), behavior=config.behavior, time=config.time, std=0.1
        )
        self.dropout = Dropout(config.dropout)
        self.attention = TargetAttention(config.d, config.attention, config.normalize)
        self.net = prelu_net([3 * config.d, *config.hidden])

    def encode(self, histories: Histories) -> Keys:
        keys: Keys = self.attention.keys(self.dropout(self.inputs(self.items(histories.item), histories)))
        return keys

    def interact(self, encoded: Keys, histories: Histories, items: Tensor) -> Tensor:
        q_BND = self.items(items)
        u_BND = self.attention(encoded, q_BND, histories)
        logits: Tensor = logits_of_pairs(self.net, u_BND, q_BND) + self.bias(items)[..., 0]
        return logits
