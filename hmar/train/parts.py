"""Parts of a batch: some of its users, with all that belongs to them.

A loss is a mean over positions and no user's states depend on another's, so a batch's loss and gradients are the sums
of its parts', each weighted by its share of the positions.
"""

from dataclasses import fields, replace
from typing import Any

from torch import Tensor

from hmar.data.histories import Histories
from hmar.models.base import TrainingBatch

_PER_POSITION = frozenset({"next_item", "next_behavior"})
"""Vectors with an entry per position; of what else a batch has, matrices have a row per position, vectors are shared
by all of them."""


def part(batch: TrainingBatch, start: int, stop: int) -> TrainingBatch:
    """The users start : stop of the batch, in its order; views of its tensors where possible."""
    first, last = (int(batch.histories.offsets[row]) for row in (start, stop))
    cut: dict[str, Any] = {"histories": _rows(batch.histories, start, stop), "user": batch.user[start:stop]}
    for field in fields(batch):
        value = getattr(batch, field.name)
        if field.name in cut or value is None:
            continue
        if not isinstance(value, Tensor):
            cut[field.name] = value.positions(first, last)
        elif field.name in _PER_POSITION or value.ndim > 1:
            cut[field.name] = value[first:last]
    return replace(batch, **cut)


def _rows(histories: Histories, start: int, stop: int) -> Histories:
    first, last = (int(histories.offsets[row]) for row in (start, stop))
    return replace(
        histories,
        item=histories.item[first:last],
        behavior=histories.behavior[first:last],
        time=histories.time[first:last],
        hbi=histories.hbi[first:last],
        offsets=histories.offsets[start : stop + 1] - first,
        asked=histories.asked[start:stop],
        now=histories.now[start:stop],
    )
