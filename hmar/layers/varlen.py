"""Attention on the packed tokens as they are, by a kernel that reads where each segment begins (CUDA, half precision).

The kernel is FlashAttention behind torch.nn.attention.varlen: no padding, no mask, no dropout, heads a multiple of 8
wide. A narrower head is filled with zeros, which change neither a product of queries and keys nor the values' columns.
"""

import math

from torch import Tensor
from torch.nn.functional import pad

from hmar.layers.segments import Ends

MULTIPLE = 8


def varlen_attention(qkv_T3HK: Tensor, ends: Ends) -> Tensor:
    """See :func:`hmar.layers.attention.causal_attention`; T is at least 1, bfloat16 or float16 on CUDA."""
    from torch.nn.attention.varlen import varlen_attn

    width = qkv_T3HK.shape[-1]
    if width % MULTIPLE:
        qkv_T3HK = pad(qkv_T3HK, (0, -width % MULTIPLE))
    q, k, v = qkv_T3HK.unbind(1)
    out = varlen_attn(
        q,
        k,
        v,
        ends.cumulative,
        ends.cumulative,
        ends.longest,
        ends.longest,
        scale=1 / math.sqrt(width),
        window_size=(-1, 0),  # causal
    )
    assert isinstance(out, Tensor)  # not a pair, which is for those who ask for more
    return out[..., :width]
