"""Registered models with random weights, counted buffers filled."""

import torch

from hmar.data.snapshot import Snapshot
from hmar.models import model_class
from hmar.models.base import Recommender, Vocabulary


def untrained(name: str, snapshot: Snapshot, split: str = "leave_one_out", seed: int = 0) -> Recommender:
    """The model ``name`` with its default settings, in evaluation mode."""
    torch.manual_seed(seed)
    kind = model_class(name)
    model = kind(kind.Config(), Vocabulary.of(snapshot))
    model.fit_counts(snapshot, split)
    return model.eval()
