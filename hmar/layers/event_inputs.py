"""What an event is beside its item: what was done, and how long before the moment of asking."""

import torch
from torch import Tensor, nn

from hmar.data.histories import Histories

DAY = 86_400_000_000
"""Microseconds."""
BUCKETS = 13
"""Time buckets 0..12."""


def time_buckets(histories: Histories) -> Tensor:
    """ATRank's time bucket of every event, int64 [T]: the number of g in {2, 4, ..., 4096} with days + 1 >= g, where
    days is the time from the event to the row's ``now``, a fraction included."""
    waited = histories.now[histories.row] - histories.time
    bounds = torch.tensor([(2**power - 1) * DAY for power in range(1, BUCKETS)], device=waited.device)
    return torch.bucketize(waited, bounds, right=True)


class EventInputs(nn.Module):
    """A[b_t] + D[bucket_t], [T, D]: learned vectors to be added to an event's item."""

    def __init__(self, d: int, behaviors: int, *, behavior: bool = True, time: bool = True, std: float = 0.02) -> None:
        """
        Args:
            behavior, time: whether the event's behavior, and its time bucket, are inputs.
        """
        super().__init__()
        self.behavior = nn.Embedding(behaviors, d) if behavior else None
        self.time = nn.Embedding(BUCKETS, d) if time else None
        for table in (self.behavior, self.time):
            if table is not None:
                nn.init.normal_(table.weight, std=std)

    def forward(self, x_TD: Tensor, histories: Histories) -> Tensor:
        """``x_TD`` with the inputs added."""
        if self.behavior is not None:
            x_TD = x_TD + self.behavior(histories.behavior)
        if self.time is not None:
            x_TD = x_TD + self.time(time_buckets(histories))
        return x_TD
