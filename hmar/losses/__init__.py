"""The registry of losses: one choice per run, for every encoder."""

from importlib import import_module
from typing import Protocol

from torch import Tensor

from hmar.errors import SettingsError
from hmar.models.base import Encoder, TrainingBatch
from hmar.settings import nearest

LOSSES: dict[str, str] = {"bce": "BCE", "cross_entropy": "CrossEntropy"}
"""Name, which is the module's, to class."""


class Loss(Protocol):
    """How well the states rank the next item."""

    uses_negatives: bool
    """Whether it reads ``batch.negatives``; if not, they need not be drawn."""

    def __call__(self, encoder: Encoder, states_TD: Tensor, batch: TrainingBatch) -> Tensor:
        """A scalar, the mean over positions, each positive term weighted by ``encoder.position_weights``."""
        ...


def loss_function(name: str) -> Loss:
    """The loss registered under ``name``.

    Raises:
        SettingsError: no such loss; the nearest known name is given.
    """
    if name not in LOSSES:
        raise SettingsError(f"loss: unknown {name!r}{nearest(name, list(LOSSES))}")
    loss: Loss = getattr(import_module(f"hmar.losses.{name}"), LOSSES[name])()
    return loss


def total_loss(encoder: Encoder, loss: Loss, batch: TrainingBatch) -> Tensor:
    """What training minimizes: the ranking loss plus the encoder's auxiliary term; a scalar."""
    states_TD = encoder.encode(batch.histories)
    total = loss(encoder, states_TD, batch)
    auxiliary = encoder.auxiliary_loss(states_TD, batch)
    return total if auxiliary is None else total + auxiliary
