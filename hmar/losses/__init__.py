"""The registry of losses: one choice per run, for every encoder.

Positions t = 1..T of a batch, each with a state h_t, its true next item + with weight w_t (the encoder's
``position_weights``, HMAR's alpha; 1 elsewhere) and, where the loss samples, negatives n = 1..N; s_j = <h_t, o_tj> is
the score of item j, its vector made by the one rule of :class:`hmar.models.base.Encoder`, and sigma the logistic
function. Every loss is a mean over positions, so batches may be cut into parts of any size.
"""

from importlib import import_module
from typing import Any, Protocol

from torch import Tensor

from hmar.errors import SettingsError
from hmar.models.base import Encoder, TrainingBatch
from hmar.settings import nearest

LOSSES: dict[str, str] = {
    "bce": "BCE",
    "bpr": "BPR",
    "cross_entropy": "CrossEntropy",
    "gbce": "GBCE",
    "sampled_softmax": "SampledSoftmax",
}
"""Name, which is the module's, to class."""


class Loss(Protocol):
    """How well the states rank the next item."""

    uses_negatives: bool
    """Whether it reads ``batch.negatives``; if not, they need not be drawn, and every item is scored."""

    def __call__(self, encoder: Encoder, states_TD: Tensor, batch: TrainingBatch) -> Tensor:
        """A scalar, the mean over positions, each positive term weighted by ``encoder.position_weights``."""
        ...


def loss_function(name: str, **options: Any) -> Loss:
    """The loss registered under ``name``, made with its own options.

    Raises:
        SettingsError: no such loss; the nearest known name is given.
    """
    if name not in LOSSES:
        raise SettingsError(f"loss: unknown {name!r}{nearest(name, list(LOSSES))}")
    loss: Loss = getattr(import_module(f"hmar.losses.{name}"), LOSSES[name])(**options)
    return loss


def total_loss(encoder: Encoder, loss: Loss, batch: TrainingBatch) -> Tensor:
    """What training minimizes: the ranking loss plus the encoder's auxiliary term; a scalar."""
    states_TD = encoder.encode(batch.histories)
    total = loss(encoder, states_TD, batch)
    auxiliary = encoder.auxiliary_loss(states_TD, batch)
    return total if auxiliary is None else total + auxiliary
