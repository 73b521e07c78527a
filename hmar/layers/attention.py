"""Causal self-attention over the segments of a packed tensor.

For every segment (a run of consecutive tokens: one row's history, or one row's events of one behavior) and every
token t in it, in each head:

    out_t = sum_{s <= t} softmax_s( <q_t, k_s> / sqrt(K) ) v_s ,  s in the same segment.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from hmar.layers.kernels import attend, choose
from hmar.layers.segments import Segments


def causal_attention(qkv_T3HK: Tensor, segments: Segments, dropout: float = 0.0) -> Tensor:
    """Attention outputs [T, H, K] for queries, keys and values stacked as [T, 3, H, K].

    Args:
        dropout: probability of dropping an attention weight; give 0 outside training.
    """
    return _kernel(qkv_T3HK, segments, dropout)


def _attention(qkv_T3HK: Tensor, segments: Segments, dropout: float) -> Tensor:
    tokens, _, heads, width = qkv_T3HK.shape
    if tokens == 0:
        return qkv_T3HK.new_zeros(0, heads, width)
    kernel = choose(qkv_T3HK.device, qkv_T3HK.dtype, width, dropout, torch.is_grad_enabled())
    return attend(kernel, qkv_T3HK, segments, dropout)


_kernel: Callable[[Tensor, Segments, float], Tensor] = _attention


def leave_out_of_compilation() -> None:
    """From now on a compiled step calls the kernels as they are: they follow lengths, which differ in every batch."""
    global _kernel
    _kernel = torch.compiler.disable(_attention)
