"""A transformer layer over the events of one type at a time, with weights of each type's own; or over all events."""

import torch
from torch import Tensor, nn

from hmar.data.histories import Histories
from hmar.layers.dropout import Dropout
from hmar.layers.grouped import BehaviorGroups, GroupedLinear
from hmar.layers.segments import Segments
from hmar.layers.whole_attention import FORM, whole_attention


class TypedTransformer(nn.Module):
    """For every event x:  y = LN( x + SA(x) );  z = LN( y + Drop( W_2 Drop( ReLU( W_1 y + b_1 ) ) + b_2 ) ),

    SA multi-head attention, not causal, among a row's events of the same type (``types`` of them, the behaviors), or of
    all types where ``types`` is 1. Types share only the layer norms.
    """

    def __init__(self, types: int, d: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.types, self.heads = types, heads
        self.qkv = GroupedLinear(types, d, 3 * d)
        self.inner = GroupedLinear(types, d, d)
        self.outer = GroupedLinear(types, d, d)
        self.first_norm, self.last_norm = nn.LayerNorm(d), nn.LayerNorm(d)
        self.dropout = Dropout(dropout)

    def plan(self, histories: Histories) -> None:
        """As :meth:`hmar.models.base.Encoder.plan`."""
        segments = Segments.of_rows(histories)
        if self.types > 1:
            segments = BehaviorGroups.of(histories, self.types).segments
        segments.form(FORM)

    def forward(self, x_TD: Tensor, histories: Histories) -> Tensor:
        """[T, D] from [T, D]."""
        if self.types == 1:
            return self._layer(x_TD, (len(x_TD),), Segments.of_rows(histories))
        groups = BehaviorGroups.of(histories, self.types)
        return self._layer(x_TD[groups.order], groups.sizes, groups.segments)[groups.place]

    def _layer(self, x_TD: Tensor, sizes: tuple[int, ...], segments: Segments) -> Tensor:
        qkv_T3HK = self.qkv(x_TD, sizes).view(len(x_TD), 3, self.heads, x_TD.shape[1] // self.heads)
        y_TD = self.first_norm(x_TD + whole_attention(qkv_T3HK, segments).reshape(x_TD.shape))
        inner_TD = self.dropout(torch.relu(self.inner(y_TD, sizes)))
        z_TD: Tensor = self.last_norm(y_TD + self.dropout(self.outer(inner_TD, sizes)))
        return z_TD
