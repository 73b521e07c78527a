"""Attention by scaled_dot_product_attention, which needs grids: similar segments are padded to the same length.

Under a causal mask a real token comes before all padding of its segment, so no mask is needed and the result is exact.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import scaled_dot_product_attention

from hmar.layers.segments import Buckets


def bucketed_attention(qkv_T3HK: Tensor, buckets: Buckets, dropout: float = 0.0) -> Tensor:
    """See :func:`hmar.layers.attention.causal_attention`; T is at least 1."""
    tokens, _, heads, width = qkv_T3HK.shape
    if dropout == 0 and qkv_T3HK.device.type == "cpu" and not torch.is_autocast_enabled("cpu"):
        whole: Tensor = _OnCPU.apply(qkv_T3HK.reshape(tokens, -1), buckets, heads)
        return whole.view(tokens, heads, width)
    outputs = []
    grids = Pad.apply(qkv_T3HK.reshape(tokens, -1), buckets)
    for (_, length), grid in zip(buckets.shapes, grids, strict=True):
        q, k, v = grid.view(-1, length, 3, heads, width).permute(2, 0, 3, 1, 4)
        if length == 1 and dropout == 0:
            out = v
        else:
            out = scaled_dot_product_attention(q, k, v, is_causal=True, dropout_p=dropout)
        outputs.append(out.transpose(1, 2).reshape(-1, heads * width))
    packed: Tensor = Unpad.apply(buckets, *outputs)
    return packed.view(tokens, heads, width)


_flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_flash_gradients = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


class _OnCPU(torch.autograd.Function):
    """All buckets in one: what scaled_dot_product_attention calls on a CPU, forward and backward, with every tensor
    written once. (Left to autograd, each bucket's queries, keys and values are gathered, split, stacked and collected
    by operations of their own, which together take longer than the attention.)"""

    @staticmethod
    def forward(ctx: Any, x_TF: Tensor, buckets: Buckets, heads: int) -> Tensor:
        grids = x_TF.index_select(0, buckets.token)
        made, outputs = [], []
        for q, k, v in _heads(grids, buckets, heads):
            out, sums = (v, v) if q.shape[2] == 1 else _flash(q, k, v, 0.0, True)
            made += [out, sums]
            outputs.append(_rows(out))
        ctx.buckets, ctx.heads = buckets, heads
        ctx.save_for_backward(grids, *made)
        return torch.cat(outputs).index_select(0, buckets.cell)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        buckets: Buckets = ctx.buckets
        grids, *made = ctx.saved_tensors
        outer = _spread(gradients[0], buckets)
        grid_gradients, start = torch.empty_like(grids), 0
        for place, (q, k, v) in enumerate(_heads(grids, buckets, ctx.heads)):
            users, heads, length, width = q.shape
            stop = start + users * length
            of_out = outer[start:stop].view(users, length, heads, width).transpose(1, 2)
            if length == 1:
                parts = (torch.zeros_like(of_out), torch.zeros_like(of_out), of_out)
            else:
                parts = _flash_gradients(of_out, q, k, v, made[2 * place], made[2 * place + 1], 0.0, True)
            torch.cat([_rows(part) for part in parts], dim=1, out=grid_gradients[start:stop])
            start = stop
        return grid_gradients.index_select(0, buckets.cell), None, None


def _heads(grids: Tensor, buckets: Buckets, heads: int) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Queries, keys and values [n, H, length, K] of each bucket, views of all cells [C, 3 H K]."""
    width = grids.shape[1] // (3 * heads)
    return [
        tuple(part.view(-1, length, 3, heads, width).permute(2, 0, 3, 1, 4))
        for (_, length), part in zip(buckets.shapes, grids.split(buckets.cells), strict=True)
    ]


def _rows(x: Tensor) -> Tensor:
    """[n, H, length, K] as [n length, H K]."""
    users, heads, length, width = x.shape
    return x.transpose(1, 2).reshape(users * length, heads * width)


def _spread(gradients_TF: Tensor, buckets: Buckets) -> Tensor:
    """Gradients of tokens in their cells, [C, F]. Padding sees real keys, so what flows back from it is nothing."""
    return gradients_TF.index_select(0, buckets.token).index_fill_(0, buckets.padding, 0)


class Pad(torch.autograd.Function):
    """Packed [T, F] to one grid [n * length, F] per bucket. No gradient comes from padding: nothing real reads it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, buckets: Buckets) -> tuple[Tensor, ...]:
        ctx.buckets = buckets
        grids: tuple[Tensor, ...] = x.index_select(0, buckets.token).split(buckets.cells)
        return grids

    @staticmethod
    def backward(ctx: Any, *grids: Tensor) -> tuple[Tensor, None]:
        return torch.cat(grids).index_select(0, ctx.buckets.cell), None


class Unpad(torch.autograd.Function):
    """The inverse: grids to packed tokens."""

    @staticmethod
    def forward(ctx: Any, buckets: Buckets, *grids: Tensor) -> Tensor:
        ctx.buckets = buckets
        return torch.cat(grids).index_select(0, buckets.cell)

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor | None, ...]:
        buckets: Buckets = ctx.buckets
        return None, *_spread(outputs[0], buckets).split(buckets.cells)
