"""The events of a history apart by what they say of their item: yes, no, or neither."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from hmar.data.histories import Histories

SAID = (1, -1, 0)
"""What an event may say, in the order of the parts: yes, no, neither (a view, a tag)."""


@dataclass(frozen=True)
class FeedbackPart:
    """The events that say the same.

    Attributes:
        token: int64 [S], which of the histories' tokens. histories: these events only, row by row; a row may be empty.
    """

    token: Tensor
    histories: Histories

    @classmethod
    def of(cls, histories: Histories, said: Sequence[int]) -> tuple["FeedbackPart", "FeedbackPart", "FeedbackPart"]:
        """The parts in the order of ``SAID``, planned once for these histories.

        Args:
            said: of each behavior, 1 yes, -1 no, 0 neither.
        """
        yes, no, neither = histories.planned(f"said {tuple(said)}", lambda: cls._of(histories, said))
        return yes, no, neither

    @classmethod
    def _of(cls, histories: Histories, said: Sequence[int]) -> tuple["FeedbackPart", ...]:
        said_T = torch.tensor(said, device=histories.behavior.device)[histories.behavior]
        tokens = [(said_T == one).nonzero()[:, 0] for one in SAID]
        return tuple(cls(token, chosen(histories, token)) for token in tokens)


def chosen(histories: Histories, token: Tensor) -> Histories:
    """Some events only, row by row; a row may be empty.

    Args:
        token: int64 [S], ascending.
    """
    lengths = torch.bincount(histories.row[token], minlength=len(histories))
    return Histories(
        item=histories.item[token],
        behavior=histories.behavior[token],
        time=histories.time[token],
        hbi=histories.hbi[token],
        offsets=pad(lengths.cumsum(0), (1, 0)),
        asked=histories.asked,
        now=histories.now,
    )
