"""The registry of losses: one choice per run. Encoders have theirs and rankers have theirs.

Positions t = 1..T of a batch, each with a query q_t, its true next item + with weight w_t (the encoder's
``position_weights``, HMAR's alpha; 1 elsewhere) and, where the loss samples, negatives n = 1..N; s_j is the score of
item j, made by the one rule of :class:`hmar.models.base.Encoder`, and sigma the logistic function. Every loss is a mean
over positions, so batches may be cut into parts of any size.

Rankers compare logits of candidates with labels (:class:`hmar.models.ranker.RankerLoss`), in the mean over candidates.
"""

from importlib import import_module
from typing import Any, Protocol

from torch import Tensor

from hmar.data.impressions import ImpressionBatch
from hmar.errors import SettingsError
from hmar.models.base import Encoder, TrainingBatch
from hmar.models.ranker import Ranker, RankerLoss
from hmar.settings import nearest

LOSSES: dict[str, str] = {
    "bce": "BCE",
    "bpr": "BPR",
    "cross_entropy": "CrossEntropy",
    "gbce": "GBCE",
    "sampled_softmax": "SampledSoftmax",
}
"""Of encoders: name, which is the module's, to class."""

RANKER_LOSSES: dict[str, str] = {"log_loss": "LogLoss"}
"""Of rankers."""


class Loss(Protocol):
    """How well the states rank the next item."""

    uses_negatives: bool
    """Whether it reads ``batch.negatives``; if not, they need not be drawn, and every item is scored."""

    def __call__(self, encoder: Encoder, queries_TD: Tensor, batch: TrainingBatch) -> Tensor:
        """A scalar, the mean over positions, each positive term weighted by ``encoder.position_weights``."""
        ...


def loss_function(name: str, **options: Any) -> Any:
    """The loss registered under ``name``, made with its own options: a :class:`Loss` or a ranker's.

    Raises:
        SettingsError: no such loss; the nearest known name is given.
    """
    known = LOSSES | RANKER_LOSSES
    if name not in known:
        raise SettingsError(f"loss: unknown {name!r}{nearest(name, list(known))}")
    return getattr(import_module(f"hmar.losses.{name}"), known[name])(**options)


def total_loss(model: Encoder | Ranker, loss: Loss | RankerLoss, batch: TrainingBatch | ImpressionBatch) -> Tensor:
    """What training minimizes: the loss plus the model's auxiliary terms; a scalar. All three are of one family."""
    if isinstance(model, Ranker):
        return model.training_loss(batch, loss)  # type: ignore[arg-type]
    return _encoder_loss(model, loss, batch)  # type: ignore[arg-type]


def _encoder_loss(encoder: Encoder, loss: Loss, batch: TrainingBatch) -> Tensor:
    states_TD = encoder.training_states(batch)
    total = loss(encoder, encoder.training_queries(states_TD, batch), batch)
    auxiliary = encoder.auxiliary_loss(states_TD, batch)
    return total if auxiliary is None else total + auxiliary
