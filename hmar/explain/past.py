"""One user's past, and what a model would be given had some of it never happened."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from hmar.data.histories import Histories
from hmar.data.snapshot import Snapshot
from hmar.data.targets import Reading
from hmar.models.base import CandidateCounts


@dataclass(frozen=True)
class Past:
    """All n events of a user before a moment, oldest first.

    Attributes:
        item, behavior, time: int64 [n], dense ids, codes and microseconds. read: bool [n], the events that the model
            reads. behaviors: how many there are. asked: the code of the behavior asked about. now: the moment,
            microseconds.
    """

    item: NDArray[np.int64]
    behavior: NDArray[np.int64]
    time: NDArray[np.int64]
    read: NDArray[np.bool_]
    behaviors: int
    asked: int
    now: int

    @classmethod
    def of(cls, snapshot: Snapshot, user: int, now: int, max_length: int, reads: Sequence[str] | None) -> "Past":
        """A user's whole history in a snapshot, as :func:`hmar.recommend.top_items` asks about it.

        Args:
            user: dense id. max_length, reads: what the model reads: so many events, of these behaviors or of all.
        """
        start, end = int(snapshot.offsets[user]), int(snapshot.offsets[user + 1])
        rows, _ = Reading(snapshot, reads).latest(np.array([start]), np.array([end]), max_length)
        read = np.zeros(end - start, bool)
        read[rows - start] = True
        return cls(
            item=snapshot.item[start:end].astype(np.int64),
            behavior=snapshot.behavior[start:end].astype(np.int64),
            time=np.asarray(snapshot.time[start:end], np.int64),
            read=read,
            behaviors=len(snapshot.behaviors),
            asked=snapshot.target_behavior,
            now=now,
        )

    def without(self, removed: NDArray[np.bool_]) -> tuple[Histories, CandidateCounts]:
        """What a model is given in K cases, a row each: the events removed[k], bool [K, n], never happened. Counts,
        what was done last with an item and how many events ago are those of what remains. Of the events that are read
        the others stay the same: none from before takes the place of one that is gone.
        """
        kept = ~removed
        order = np.argsort(self.item, kind="stable")
        first = np.ones(len(order), bool)
        first[1:] = self.item[order[1:]] != self.item[order[:-1]]
        start = np.flatnonzero(first)
        group = np.cumsum(first) - 1
        did = np.eye(self.behaviors, dtype=np.float32)[self.behavior[order]] * kept[:, order, None]
        running = did.cumsum(axis=1)
        before = np.concatenate([np.zeros_like(running[:, :1]), running], axis=1)
        counts = running - before[:, start[group]]
        hbi = np.empty_like(counts)
        hbi[:, order] = counts

        tokens = kept & self.read
        case, event = np.nonzero(tokens)
        histories = Histories(
            item=torch.from_numpy(self.item[event]),
            behavior=torch.from_numpy(self.behavior[event]),
            time=torch.from_numpy(self.time[event]),
            hbi=torch.from_numpy(hbi[case, event]),
            offsets=torch.from_numpy(np.concatenate([[0], tokens.sum(axis=1).cumsum()])),
            asked=torch.full((len(kept),), self.asked),
            now=torch.full((len(kept),), self.now),
        )
        return histories, self._cells(kept, order, start, hbi)

    def _cells(
        self, kept: NDArray[np.bool_], order: NDArray[np.int64], start: NDArray[np.int64], hbi: NDArray[np.float32]
    ) -> CandidateCounts:
        """Each item of what remains once, by row and item, with its last event."""
        if len(order) == 0:
            nothing = torch.zeros(0, dtype=torch.int64)
            return CandidateCounts(nothing, nothing, torch.zeros(0, self.behaviors), nothing, nothing, nothing)
        last = np.maximum.reduceat(np.where(kept[:, order], order, -1), start, axis=1)
        case, item = np.nonzero(last >= 0)
        event = last[case, item]
        later = kept[:, ::-1].cumsum(axis=1)[:, ::-1]
        return CandidateCounts(
            row=torch.from_numpy(case),
            item=torch.from_numpy(self.item[event]),
            counts=torch.from_numpy(hbi[case, event]),
            behavior=torch.from_numpy(self.behavior[event]),
            events=torch.from_numpy(later[case, event]),
            time=torch.from_numpy(self.time[event]),
        )
