"""The newest moment of a history as a question that the events before it may answer."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import pad

from hmar.data.histories import Histories
from hmar.layers.feedback_parts import chosen


@dataclass(frozen=True)
class NewestMoment:
    """What was done last, and what had been done before.

    Attributes:
        earlier: the events strictly before each row's newest one, ``now`` being its time; a row may be empty.
        item: int64 [B], of the newest event, 0 where there is none. done: float32 [B, R], 1 for each behavior with that
        item at that time.
    """

    earlier: Histories
    item: Tensor
    done: Tensor

    @classmethod
    def of(cls, histories: Histories, behaviors: int) -> "NewestMoment":
        """Planned once for these histories."""
        newest: NewestMoment = histories.planned("newest moment", lambda: cls._of(histories, behaviors))
        return newest

    @classmethod
    def _of(cls, histories: Histories, behaviors: int) -> "NewestMoment":
        last, filled_B = histories.offsets[1:] - 1, histories.lengths > 0
        item, time = (
            torch.where(filled_B, pad(column, (0, 1))[last], 0) for column in (histories.item, histories.time)
        )
        before_T = histories.time < time[histories.row]
        same = (~before_T & (histories.item == item[histories.row])).nonzero()[:, 0]
        done = torch.zeros(len(histories), behaviors, device=item.device)
        done[histories.row[same], histories.behavior[same]] = 1
        return cls(replace(chosen(histories, before_T.nonzero()[:, 0]), now=time), item, done)
