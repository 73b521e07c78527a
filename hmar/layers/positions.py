"""Learned positions of the tokens in a history."""

from torch import Tensor, nn

from hmar.data.histories import Histories
from hmar.errors import SettingsError


class LearnedPositions(nn.Module):
    """P_t, one learned vector per place in the window that is read, 0 for its oldest event.

    The place is counted from the start. Counted from the newest event, as where windows are padded on the left, it
    tells every training position how many events are still to come, and appending an event changes all states before
    it.
    """

    def __init__(self, positions: int, d: int, from_newest: bool = False) -> None:
        super().__init__()
        self.from_newest = from_newest
        self.table = nn.Embedding(positions, d)
        nn.init.normal_(self.table.weight, std=0.02)

    def plan(self, histories: Histories) -> None:
        """Look ahead at what :meth:`forward` checks."""
        histories.longest()

    def forward(self, histories: Histories) -> Tensor:
        """[T, D].

        Raises:
            SettingsError: a history is longer than the table.
        """
        longest = histories.longest()
        if longest > self.table.num_embeddings:
            raise SettingsError(
                f"a history of {longest} events, but the model has {self.table.num_embeddings} positions; "
                "set config.positions to max_length or more"
            )
        places: Tensor = self.table(histories.from_end if self.from_newest else histories.position)
        return places
