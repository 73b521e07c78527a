"""What HMAR's published code gives its model to read, to repeat printed tables and to price what is wrong with it.

Three switches (:class:`hmar.models.hmar.HMARConfig` has them, all off), each of which replaces the counts and labels
that a batch or an evaluation has by the rules of this house. The events of a user's window are 1..m, the last target
of a training window is m+1.

    final       the counts of an event are those of the user's whole file, the future and the test event included
    candidates  training: the true item has its counts of the whole file, and its negatives have them too, whatever they
                were to the user; evaluation: the target has its counts of the whole file, which count the target event
                itself, every other item one event of the behavior asked for
    mirrored    the counts of events 1..m are given to them in reverse, m..1, and so are, to the positions that predict
                2..m+1, the candidates' counts and the behavior head's labels; items, the behaviors that choose an
                encoder and the weights of the loss stay as they are
"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hmar.data.counting import Past
from hmar.data.histories import Histories

if TYPE_CHECKING:
    from hmar.data.snapshot import Snapshot, Targets
    from hmar.models.base import CandidateCounts, TrainingBatch


@dataclass(frozen=True)
class PublishedContext:
    """Which of the three a model is given; see the module."""

    final: bool = False
    candidates: bool = False
    mirrored: bool = False

    @property
    def leaks(self) -> tuple[str, ...]:
        """Those that are on, by the names of HMAR's settings."""
        named = {
            "hbi=final": self.final,
            "candidate_hbi=published": self.candidates,
            "mirrored_context": self.mirrored,
        }
        return tuple(name for name, on in named.items() if on)

    @property
    def needs_own_negatives(self) -> bool:
        """Whether a candidate's counts are no longer those that :class:`hmar.data.count_runs.CountRuns` knows."""
        return self.candidates or self.mirrored

    def training(self, batch: "TrainingBatch", past: Past, end: NDArray[np.int64]) -> "TrainingBatch":
        """The batch as the published code would have filled it.

        Args:
            past: the histories of the batch's users [B]. end: int64 [B], where their events end in the event table.
        """
        histories, true, label = batch.histories, batch.next_hbi, batch.next_behavior
        negative = batch.negative_hbi
        if self.final:
            histories = replace(histories, hbi=_counts(past, histories.row, histories.item, end))
        if self.candidates:
            true = _counts(past, histories.row, batch.next_item, end)
            negative = true[:, None].expand(-1, negative.shape[1], -1).contiguous()
        if self.mirrored:
            order = mirror(histories)
            histories = replace(histories, hbi=histories.hbi[order])
            true, negative, label = true[order], negative[order], label[order]
        return replace(batch, histories=histories, next_hbi=true, negative_hbi=negative, behavior_label=label)

    def evaluation(
        self, snapshot: "Snapshot", targets: "Targets", past: Past, histories: Histories, seen: "CandidateCounts"
    ) -> tuple[Histories, "CandidateCounts"]:
        """What a model reads and knows of candidates when it is asked for targets, B of each.

        Args:
            past: the histories of the targets' users. histories, seen: as the rules of this house have them.
        """
        end = snapshot.offsets[targets.user.astype(np.int64) + 1]
        if self.final:
            histories = replace(histories, hbi=_counts(past, histories.row, histories.item, end))
        if self.mirrored:
            histories = replace(histories, hbi=histories.hbi[mirror(histories)])
        if self.candidates:
            row, item = torch.arange(len(targets)), torch.from_numpy(targets.item.astype(np.int64))
            counts = _counts(past, row, item, end)
            counts[row, histories.asked] -= 1  # a model adds it, to this candidate as to all others
            seen = type(seen)(row=row, item=item, counts=counts)
        return histories, seen


def mirror(histories: Histories) -> Tensor:
    """int64 [T]: for every token the one that stands as far from the other end of its row."""
    return histories.offsets[:-1][histories.row] + histories.from_end


def _counts(past: Past, row: Tensor, item: Tensor, end: NDArray[np.int64]) -> Tensor:
    """The counts of chosen (row, item) in whole files, float32 [N, R]."""
    rows = row.numpy()
    return torch.from_numpy(past.lookup(rows, item.numpy(), end[rows]).astype(np.float32))
