"""Which items every training position's user had had before it, and how often: what makes the candidate vectors of a
few items differ from those of the rest of the catalog.

A user's counts with an item stand from one event with it to the next, which is a run of positions. So there is one run
per event, and the (position, item) cells, of which there are as many as positions times items of a history, are made
only for the positions that are being looked at.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hmar.data.evidence import Evidence
from hmar.data.histories import spans
from hmar.data.moving import each_tensor, moved
from hmar.data.snapshot import Snapshot


@dataclass(frozen=True)
class CountRuns:
    """G runs: at the positions first : stop, the user had done ``counts`` with ``item`` before the next event.

    Attributes:
        item: int64 [G]. counts: float32 [G, R]. first, stop: int64 [G], packed positions. No two runs have an item and
        a position in common.
        behavior, time, event: int64 [G], of the event with which the run begins: its microseconds, and its row of the
            event table. None where nobody reads them.
    """

    item: Tensor
    counts: Tensor
    first: Tensor
    stop: Tensor
    behavior: Tensor | None = None
    time: Tensor | None = None
    event: Tensor | None = None

    def to(self, device: torch.device) -> "CountRuns":
        return moved(self, device)

    def select(self, chosen: Tensor) -> "CountRuns":
        """The runs with these indices, int64."""
        return each_tensor(self, lambda column: column[chosen])

    def positions(self, start: int, stop: int, live_runs: int | None = None) -> "CountRuns":
        """What there is of them at the positions start : stop, counted from ``start``; from ``live_runs``, how many
        they are, a GPU need not be waited for."""
        inside = (self.first < stop) & (self.stop > start)
        found = inside.nonzero() if live_runs is None else torch.nonzero_static(inside, size=live_runs)
        live = self.select(found[:, 0])
        return replace(live, first=live.first.clamp(min=start) - start, stop=live.stop.clamp(max=stop) - start)

    def sizes(self, positions: int, rows: int) -> list[tuple[int, int]]:
        """For each stretch of ``rows`` positions, how many runs are live in it and how many cells they have."""
        start = torch.arange(0, positions, rows, device=self.first.device)[:, None]
        cells = (self.stop.clamp(max=start + rows) - self.first.clamp(min=start)).clamp(min=0)
        return [(live, count) for live, count in torch.stack([(cells > 0).sum(1), cells.sum(1)], dim=1).tolist()]

    def cells(self, count: int | None = None) -> tuple[Tensor, Tensor]:
        """Every (position, run) pair: int64 [P] and int64 [P], sorted by run; ``count`` is P, where it is known."""
        lengths = self.stop - self.first
        run = torch.repeat_interleave(lengths, output_size=count)
        before = lengths.cumsum(0) - lengths
        return torch.arange(len(run), device=run.device) + (self.first - before)[run], run

    def evidence(self, position: Tensor, run: Tensor, next_event: Tensor | None, next_time: Tensor | None) -> Evidence:
        """What the cells (position, run), int64 [P] each, say; of the counts alone where that is all the runs know.

        Args:
            next_event, next_time: int64 [T], row of the event table and microseconds of the event that each position
                predicts.
        """
        if self.behavior is None or self.time is None or self.event is None:
            return Evidence(self.counts[run])
        assert next_event is not None, "recency needs to know which event is predicted"
        assert next_time is not None, "recency needs to know when it is"
        return Evidence(
            counts=self.counts[run],
            behavior=self.behavior[run],
            events=next_event[position] - self.event[run],
            age=next_time[position] - self.time[run],
        )


def count_runs(
    snapshot: Snapshot,
    users: NDArray[np.int64],
    offsets: NDArray[np.int64],
    following: NDArray[np.int64],
    recency: bool = False,
) -> CountRuns:
    """The runs of a batch.

    Args:
        users: dense ids [B]. offsets: int64 [B+1], the positions of row b are offsets[b] : offsets[b+1], at least one.
        following: int64 [T], the row of the event table that each position predicts, increasing within a row.
        recency: whether the runs know the event that they begin with.
    """
    events, bounds = spans(snapshot.offsets[users], following[offsets[1:] - 1])
    row = np.repeat(np.arange(len(users)), np.diff(bounds))
    item = snapshot.item[events].astype(np.int64)
    order = np.argsort(row * snapshot.n_items + item, kind="stable")
    again = np.full(len(events), snapshot.manifest.events)
    followed = (row[order][1:] == row[order][:-1]) & (item[order][1:] == item[order][:-1])
    again[order[:-1][followed]] = events[order[1:][followed]]

    stride = snapshot.manifest.events + 1
    asked = np.repeat(np.arange(len(users)), np.diff(offsets)) * stride + following
    first = np.searchsorted(asked, row * stride + events, side="right")
    stop = np.searchsorted(asked, row * stride + again, side="right")
    live = first < stop
    runs = CountRuns(
        item=torch.from_numpy(item[live]),
        counts=torch.from_numpy(snapshot.hbi[events[live]].astype(np.float32)),
        first=torch.from_numpy(first[live]),
        stop=torch.from_numpy(stop[live]),
    )
    if not recency:
        return runs
    return replace(
        runs,
        behavior=torch.from_numpy(snapshot.behavior[events[live]].astype(np.int64)),
        time=torch.from_numpy(snapshot.time[events[live]]),
        event=torch.from_numpy(events[live]),
    )
