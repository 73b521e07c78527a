"""Windows: the stretches of the users' training events that a model reads in one piece."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

LongHistories = Literal["last", "windows"]


@dataclass(frozen=True)
class Windows:
    """W windows, by user, the newest of a user first.

    Window w holds the events start[w] : stop[w] of its user, numbered among the training events that the model reads.
    All but the last are inputs, at most L, and each predicts the one after it: stop - start - 1 positions.

    Attributes:
        user: int32 [W], dense ids. start, stop: int32 [W].
    """

    user: NDArray[np.int32]
    start: NDArray[np.int32]
    stop: NDArray[np.int32]

    @classmethod
    def of(cls, read: NDArray[np.int64], max_length: int, long_histories: LongHistories) -> "Windows":
        """Cut every user's events; users with fewer than two have nothing to predict and no window.

        last: one window a user, with the last L + 1 events. windows: as many as it takes for every event but the first
        to be predicted exactly once. The newest has L inputs, as an evaluation's history has, the oldest what is left;
        two neighbors share one event, the last to be predicted in the older and the first input of the newer.

        Args:
            read: int64 [U], training events that the model reads. max_length: L.
        """
        positions = np.maximum(read - 1, 0)
        count = np.minimum(positions, 1) if long_histories == "last" else -(-positions // max_length)
        user = np.repeat(np.arange(len(read), dtype=np.int32), count)
        newer = np.arange(len(user)) - np.repeat(np.cumsum(count) - count, count)
        stop = read[user] - newer * max_length
        start = np.maximum(stop - (max_length + 1), 0)
        return cls(user, start.astype(np.int32), stop.astype(np.int32))

    def __len__(self) -> int:
        return len(self.user)

    def take(self, chosen: NDArray[np.int64]) -> "Windows":
        """Some of them."""
        return Windows(self.user[chosen], self.start[chosen], self.stop[chosen])

    @property
    def positions(self) -> NDArray[np.int32]:
        """int32 [W], at least 1."""
        return self.stop - self.start - 1
