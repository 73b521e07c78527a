"""Self-attention over whole segments of a packed tensor, without a causal mask.

For every segment (one row's history) and every token t in it, in each head:

    out_t = sum_s softmax_s( scale <q_t, k_s> ) v_s ,  s in the same segment, earlier or later.

It is for rankers, whose histories end before the moment of asking. As in :mod:`hmar.layers.bucketed`, segments of
similar length are padded to grids; here a mask keeps what is real from seeing the padding.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from hmar.layers.bucketed import Pad, Unpad
from hmar.layers.segments import Buckets, Segments

FORM = "bucketed"
"""Of the segments, for :meth:`hmar.layers.segments.Segments.form`."""


def whole_attention(qkv_T3HK: Tensor, segments: Segments, scale: float | None = None) -> Tensor:
    """Attention outputs [T, H, K] for queries, keys and values stacked as [T, 3, H, K].

    Args:
        scale: what products are multiplied by; 1 / sqrt(K) if None.
    """
    return _attend(qkv_T3HK, segments, scale)


def _attention(qkv_T3HK: Tensor, segments: Segments, scale: float | None) -> Tensor:
    tokens, _, heads, width = qkv_T3HK.shape
    if tokens == 0:
        return qkv_T3HK.new_zeros(0, heads, width)
    buckets: Buckets = segments.form(FORM)
    real_C = torch.ones(len(buckets.token), dtype=torch.bool, device=qkv_T3HK.device)
    masks = real_C.index_fill_(0, buckets.padding, False).split(buckets.cells)
    grids = Pad.apply(qkv_T3HK.reshape(tokens, -1), buckets)
    outputs = []
    for (rows, length), grid, mask in zip(buckets.shapes, grids, masks, strict=True):
        q, k, v = grid.view(rows, length, 3, heads, width).permute(2, 0, 3, 1, 4)
        if length > 1:
            v = scaled_dot_product_attention(q, k, v, attn_mask=mask.view(rows, 1, 1, length), scale=scale)
        outputs.append(v.transpose(1, 2).reshape(-1, heads * width))
    packed: Tensor = Unpad.apply(buckets, *outputs)
    return packed.view(tokens, heads, width)


_attend: Callable[[Tensor, Segments, float | None], Tensor] = _attention


def leave_out_of_compilation() -> None:
    """As :func:`hmar.layers.attention.leave_out_of_compilation`."""
    global _attend
    _attend = torch.compiler.disable(_attention)
