"""Packed histories: many users' events end to end, no padding.

Shape legend used everywhere: B users (rows), T packed tokens of all rows, L positions of one row, R behaviors,
D width, H heads, K head width, N candidates, V items.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hmar.data.moving import moved
from hmar.data.snapshot import Snapshot


@dataclass(frozen=True)
class Histories:
    """B histories packed into T tokens, oldest first; row b is tokens offsets[b] : offsets[b+1] (it may be empty).

    Attributes:
        item: int64 [T]. behavior: int64 [T]. time: int64 [T], microseconds. hbi: float32 [T, R], counts that include
            the token itself. offsets: int64 [B+1].
        asked: int64 [B], the behavior whose next item is asked for (a candidate's HBI is its count so far plus one
            for this behavior).
        now: int64 [B], the time of asking, microseconds: the target's time in an evaluation.
    """

    item: Tensor
    behavior: Tensor
    time: Tensor
    hbi: Tensor
    offsets: Tensor
    asked: Tensor
    now: Tensor

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @cached_property
    def lengths(self) -> Tensor:
        """int64 [B]."""
        return self.offsets[1:] - self.offsets[:-1]

    def longest(self) -> int:
        """Tokens of the longest row."""
        longest: int = self.planned("longest", lambda: int(self.lengths.max()) if len(self) else 0)
        return longest

    @cached_property
    def row(self) -> Tensor:
        """int64 [T]: the row of each token."""
        rows = torch.arange(len(self), device=self.offsets.device)
        return torch.repeat_interleave(rows, self.lengths, output_size=len(self.item))

    @cached_property
    def position(self) -> Tensor:
        """int64 [T]: 0 for the oldest token of its row."""
        return torch.arange(len(self.item), device=self.item.device) - self.offsets[:-1][self.row]

    @cached_property
    def from_end(self) -> Tensor:
        """int64 [T]: 0 for the newest token of its row."""
        return self.lengths[self.row] - 1 - self.position

    @cached_property
    def plans(self) -> dict[str, Any]:
        """What was worked out about these histories, by name; it moves along with them."""
        return {}

    def planned(self, name: str, make: Callable[[], Any]) -> Any:
        """The plan of that name, made now unless it was made before: best on the CPU, because what depends on the
        content of a tensor waits for a GPU that holds it."""
        if name not in self.plans:
            self.plans[name] = make()
        return self.plans[name]

    def rows(self, start: int, stop: int) -> "Histories":
        """The rows start : stop; views of the tensors, without the plans."""
        first, last = (int(self.offsets[row]) for row in (start, stop))
        return Histories(
            item=self.item[first:last],
            behavior=self.behavior[first:last],
            time=self.time[first:last],
            hbi=self.hbi[first:last],
            offsets=self.offsets[start : stop + 1] - first,
            asked=self.asked[start:stop],
            now=self.now[start:stop],
        )

    def to(self, device: torch.device) -> "Histories":
        """The same histories on another device, with their plans."""
        return moved(self, device)


def spans(start: NDArray[np.int64], end: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The row numbers of the ranges start[b] : end[b] end to end, int64 [T], and their offsets, int64 [B+1]."""
    lengths = end - start
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
    index = np.arange(offsets[-1]) + np.repeat(start - offsets[:-1], lengths)
    return index, offsets


def gather(
    snapshot: Snapshot,
    start: NDArray[np.int64],
    end: NDArray[np.int64],
    now: NDArray[np.int64],
    asked: int | NDArray[np.int64],
) -> Histories:
    """Pack the event ranges start[b] : end[b] (rows of the snapshot) with one gather per column.

    Args:
        start, end: int64 [B]; equal where a history is empty.
        now: int64 [B], microseconds. asked: behavior code, one for all rows or int64 [B].
    """
    index, offsets = spans(start, end)
    return pack(snapshot, index, offsets, now, asked)


def pack(
    snapshot: Snapshot,
    rows: NDArray[np.int64],
    offsets: NDArray[np.int64],
    now: NDArray[np.int64],
    asked: int | NDArray[np.integer[Any]],
) -> Histories:
    """Histories of chosen events: ``rows`` int64 [T] of the snapshot, history b is rows[offsets[b] : offsets[b+1]]."""
    return Histories(
        item=torch.from_numpy(snapshot.item[rows].astype(np.int64)),
        behavior=torch.from_numpy(snapshot.behavior[rows].astype(np.int64)),
        time=torch.from_numpy(np.asarray(snapshot.time[rows])),
        hbi=torch.from_numpy(snapshot.hbi.take(rows, axis=0).astype(np.float32)),
        offsets=torch.from_numpy(offsets),
        asked=torch.from_numpy(np.broadcast_to(np.asarray(asked, np.int64), now.shape).copy()),
        now=torch.from_numpy(np.ascontiguousarray(now, np.int64)),
    )
