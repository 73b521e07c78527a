"""Parts of a batch: some of its users, or moments, with all that belongs to them.

A loss is a mean over positions, or candidates, and no user's states depend on another's, so a batch's loss and
gradients are the sums of its parts', each weighted by its share of the positions.
"""

from dataclasses import fields, replace
from typing import Any, TypeVar, cast

from torch import Tensor

from hmar.data.impressions import ImpressionBatch
from hmar.models.base import TrainingBatch

_PER_POSITION = frozenset({"next_item", "next_behavior", "behavior_label", "next_event", "next_time"})
"""Vectors with an entry per position; of what else a batch has, matrices have a row per position, vectors are shared
by all of them."""


Batch = TypeVar("Batch", bound=TrainingBatch | ImpressionBatch)


def terms(batch: TrainingBatch | ImpressionBatch) -> int:
    """What the batch's loss is a mean over: its positions, or its candidates."""
    return int(batch.real.sum()) if isinstance(batch, ImpressionBatch) else len(batch.next_item)


def part(batch: Batch, start: int, stop: int) -> Batch:
    """The users, or moments, start : stop of the batch, in its order; views of its tensors where possible."""
    some: Any = batch.part(start, stop) if isinstance(batch, ImpressionBatch) else _users(batch, start, stop)
    return cast(Batch, some)


def _users(batch: TrainingBatch, start: int, stop: int) -> TrainingBatch:
    first, last = (int(batch.histories.offsets[row]) for row in (start, stop))
    cut: dict[str, Any] = {"histories": batch.histories.rows(start, stop), "user": batch.user[start:stop]}
    for field in fields(batch):
        value = getattr(batch, field.name)
        if field.name in cut or value is None:
            continue
        if not isinstance(value, Tensor):
            cut[field.name] = value.positions(first, last)
        elif field.name in _PER_POSITION or value.ndim > 1:
            cut[field.name] = value[first:last]
    return replace(batch, **cut)
