"""Packed histories parted by what their events say of the item: the events that say no, and all others."""

from dataclasses import dataclass

import torch
from torch import Tensor

from hmar.data.histories import Histories


@dataclass(frozen=True)
class Half:
    """The events of one feedback, packed by themselves.

    Attributes:
        token: int64 [T'], their places among all events. histories: these events only, of the same B rows, of which
            some may be empty now.
    """

    token: Tensor
    histories: Histories

    @classmethod
    def of(cls, histories: Histories, chosen: Tensor) -> "Half":
        """
        Args:
            chosen: bool [T].
        """
        token = chosen.nonzero()[:, 0]
        before = torch.nn.functional.pad(chosen.cumsum(0), (1, 0))
        only = Histories(
            item=histories.item[token],
            behavior=histories.behavior[token],
            time=histories.time[token],
            hbi=histories.hbi[token],
            offsets=before[histories.offsets],
            asked=histories.asked,
            now=histories.now,
        )
        return cls(token, only)


def halves(histories: Histories, liked: Tensor) -> tuple[Half, Half]:
    """The events that say no and the others, in this order: ``halves(...)[y]`` are those of label y. Planned once for
    these histories.

    Args:
        liked: int64 [T], 0 or 1.
    """
    both: tuple[Half, Half] = histories.planned(
        "halves", lambda: (Half.of(histories, liked == 0), Half.of(histories, liked == 1))
    )
    return both
