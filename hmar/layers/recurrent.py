"""Recurrent layers of torch over packed histories: no padding, and no history's state reaches another's."""

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from hmar.data.histories import Histories
from hmar.layers.time_steps import TimeSteps


def run(layer: nn.GRU | nn.LSTM, x_TD: Tensor, histories: Histories) -> Tensor:
    """The outputs at every token, [T, H], or [T, 2 H] where the layer runs in both directions, the forward ones first.

    The forward outputs of a row's last token, and the backward ones of its first, have read the whole row.
    """
    steps = TimeSteps.of(histories)
    if not steps.active:
        return x_TD.new_zeros(0, layer.hidden_size * (2 if layer.bidirectional else 1))
    packed = PackedSequence(x_TD[steps.token], torch.tensor(steps.active))
    outputs_TH: Tensor = layer(packed)[0].data
    return outputs_TH[steps.place]


def whole_rows(outputs_TH: Tensor, histories: Histories) -> Tensor:
    """What both directions know at their ends of each row, [B, 2 H], of a bidirectional layer's outputs; zeros where a
    row is empty."""
    width = outputs_TH.shape[1] // 2
    if len(outputs_TH) == 0:
        return outputs_TH.new_zeros(len(histories), 2 * width)
    first = histories.offsets[:-1].clamp(max=len(outputs_TH) - 1)
    last = (histories.offsets[1:] - 1).clamp(min=0)
    ends_BH = torch.cat([outputs_TH[last, :width], outputs_TH[first, width:]], dim=1)
    return torch.where((histories.lengths > 0)[:, None], ends_BH, torch.zeros_like(ends_BH))
