"""Does a state tell the next event's item from another one? (DIEN's auxiliary loss, equation 6.)"""

from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from hmar.data.impressions import ImpressionBatch


def other_items(batch: ImpressionBatch, items: int) -> Tensor:
    """For every event an item that is not its own, int64 [T], all the others equally likely.

    Chance without a generator: it follows from the user, the moment, and the event, so that a batch in another order,
    or in parts, has the same. An event that is in the histories of several moments has another item in each.

    Args:
        items: V, two at least.
    """
    histories = batch.histories
    moment_B = _scattered(_scattered(batch.user) ^ histories.now)
    drawn_T = _scattered(_scattered(moment_B[histories.row] ^ histories.time) + histories.position)
    drawn_T = (drawn_T & (2**63 - 1)) % (items - 1)
    return drawn_T + (drawn_T >= histories.item)


def next_item_losses(states_TD: Tensor, table: nn.Embedding, batch: ImpressionBatch) -> Tensor:
    """[B]: per history the mean, over events t + 1 after the first, of

        -log sigma( <h_t, E[v_{t+1}]> ) - log( 1 - sigma( <h_t, E[n_{t+1}]> ) ),  n by :func:`other_items`;

    zero for a history of one event.
    """
    histories = batch.histories
    followed = (histories.from_end > 0).nonzero()[:, 0]
    true, other = histories.item[followed + 1], other_items(batch, table.num_embeddings)[followed + 1]
    states = states_TD[followed]
    losses = -logsigmoid((states * table(true)).sum(-1)) - logsigmoid(-(states * table(other)).sum(-1))
    pairs_B = (histories.lengths - 1).clamp(min=1).to(losses.dtype)
    return losses.new_zeros(len(histories)).index_add(0, histories.row[followed], losses) / pairs_B


def _scattered(x: Tensor) -> Tensor:
    """int64 to int64, one to one, so that neighbors end far apart (the finisher of SplitMix64, but for its shifts of
    signed numbers)."""
    for shift, factor in ((30, -0x40A7B892E31B1A47), (27, -0x6B2FB644ECCEEE15)):
        x = (x ^ (x >> shift)) * factor
    return x ^ (x >> 31)
