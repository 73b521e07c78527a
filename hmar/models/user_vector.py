"""What the comparisons of ATRank's paper share (:mod:`hmar.models.cnn`, :mod:`hmar.models.bi_lstm`,
:mod:`hmar.models.bi_lstm_attention`): the vectors of events, and the logit of a user's vector and a candidate's. How
the one is made of the others is what they are compared by."""

from typing import Any

from pydantic import Field
from torch import Tensor, nn

from hmar.data.histories import Histories
from hmar.layers.dropout import Dropout
from hmar.layers.event_inputs import EventInputs
from hmar.layers.user_head import HeadKind, UserHead
from hmar.models.base import Vocabulary
from hmar.models.ranker import Ranker
from hmar.settings import Section, Widths


class UserVectorConfig(Section):
    """ATRank's names."""

    d: int = Field(64, ge=1)
    """Width of items, events and users."""
    head: HeadKind = "dot"
    """How user and candidate make a logit: their product, or a net on both."""
    hidden: Widths = (64,)
    """Widths of the layers of head mlp."""
    behavior: bool = True
    """Whether the behavior of an event is an input."""
    time: bool = True
    """Whether the time bucket of an event is an input."""
    dropout: float = Field(0.1, ge=0, lt=1)


class UserVector(Ranker):
    """A subclass makes ``head``, after its own layers: the order in which weights are drawn is the model's."""

    config: UserVectorConfig
    head: UserHead

    def __init__(self, config: UserVectorConfig, vocabulary: Vocabulary) -> None:
        super().__init__(config, vocabulary)
        self.items = nn.Embedding(vocabulary.items, config.d)
        nn.init.normal_(self.items.weight, std=0.1)
        self.inputs = EventInputs(
            config.d, len(vocabulary.behaviors), behavior=config.behavior, time=config.time, std=0.1
        )
        self.dropout = Dropout(config.dropout)

    def event_vectors(self, histories: Histories) -> Tensor:
        """x, [T, D]."""
        x_TD: Tensor = self.dropout(self.inputs(self.items(histories.item), histories))
        return x_TD

    def interact(self, encoded: Any, histories: Histories, items: Tensor) -> Tensor:
        """As in the base class, of u [B, D]; a subclass in which each candidate has its own u overrides this."""
        logits: Tensor = self.head(encoded, self.items(items), items)
        return logits
