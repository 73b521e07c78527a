"""What a user's past says of an item at a moment: what was done with it, how often, and how long ago."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hmar.data.moving import each_tensor, moved
from hmar.data.snapshot import Snapshot


@dataclass(frozen=True)
class Evidence:
    """(user, item, moment) cells of any shape [...]; all that is said is of events before the moment.

    Attributes:
        counts: float32 [..., R], events of the user with the item.
        behavior: int64 [...], of the last of them. events: int64 [...], how many events of the user ago it was: 1 where
            it is the user's last event, 0 where the user never had the item (counts, behavior and age are 0 then).
        age: int64 [...], microseconds from it to the moment.

    The last three are None where nobody reads them.
    """

    counts: Tensor
    behavior: Tensor | None = None
    events: Tensor | None = None
    age: Tensor | None = None

    def to(self, device: torch.device) -> "Evidence":
        return moved(self, device)

    def at(self, index: Tensor | slice) -> "Evidence":
        """The cells with these indices of the first dimension."""
        return each_tensor(self, lambda cells: cells[index])

    def positions(self, start: int, stop: int) -> "Evidence":
        """The cells of the positions start : stop; views."""
        return self.at(slice(start, stop))


def evidence(snapshot: Snapshot, last: NDArray[np.int64], end: NDArray[np.int64], now: NDArray[np.int64]) -> Evidence:
    """What the events before ``end`` say.

    Args:
        last: int64 [N], the last event of the user with the item before ``end``, -1 where there is none. end: int64
            [N]. Both are rows of the event table. now: int64 [N], the moment, microseconds.
    """
    had = last >= 0
    event = np.maximum(last, 0)
    return Evidence(
        counts=torch.from_numpy(snapshot.hbi.take(event, axis=0).astype(np.float32) * had[:, None]),
        behavior=torch.from_numpy(np.where(had, snapshot.behavior[event], 0).astype(np.int64)),
        events=torch.from_numpy(np.where(had, end - last, 0)),
        age=torch.from_numpy(np.where(had, now - snapshot.time[event], 0)),
    )
