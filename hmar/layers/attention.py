"""Causal self-attention over the segments of a packed tensor, without padding outside the kernel.

For every segment (a run of consecutive tokens: one row's history, or one row's events of one behavior) and every
token t in it, in each head:

    out_t = sum_{s <= t} softmax_s( <q_t, k_s> / sqrt(K) ) v_s ,  s in the same segment.

Segments are put into buckets of similar length and padded at the end to the longest of their bucket. Under a causal
mask a real token comes before all padding of its segment, so no mask is needed and the result is exact. Bucket bounds
grow by half at most, hence at most a third of a bucket is padding.
"""

from dataclasses import dataclass
from itertools import count
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention


@dataclass(frozen=True)
class Bucket:
    """Segments of similar length, as a grid [n, length].

    Attributes:
        token: int64 [n * length], the token in every cell; padding repeats the segment's last token.
        kept: int64 [tokens], the cells that are no padding; None where all are.
    """

    length: int
    token: Tensor
    kept: Tensor | None


@dataclass(frozen=True)
class Segments:
    """How T packed tokens fall into segments, planned once per batch for any number of layers.

    Attributes:
        order: int64 [T], the tokens as they stand in the buckets, end to end and without padding.
        place: int64 [T], its inverse.
    """

    buckets: tuple[Bucket, ...]
    order: Tensor
    place: Tensor

    @classmethod
    def of(cls, lengths: Tensor) -> "Segments":
        """The plan for consecutive segments of ``lengths`` int64 [S], zeros allowed; T is their sum."""
        device = lengths.device
        start = lengths.cumsum(0) - lengths
        lengths, by_length = lengths.sort(stable=True)
        start = start[by_length]
        longest = int(lengths[-1]) if len(lengths) else 0
        bounds = torch.tensor([0, *_bounds(longest)], device=device)
        first, *ends = torch.searchsorted(lengths, bounds, right=True).tolist()
        buckets, tokens = [], []
        for end in ends:
            if end == first:
                continue
            sizes = lengths[first:end, None]
            length = int(sizes[-1])
            steps = torch.arange(length, device=device)
            token = (start[first:end, None] + torch.minimum(steps, sizes - 1)).view(-1)
            kept = None if int(sizes[0]) == length else (steps < sizes).view(-1).nonzero()[:, 0]
            buckets.append(Bucket(length, token, kept))
            tokens.append(token if kept is None else token[kept])
            first = end
        order = torch.cat(tokens) if tokens else torch.zeros(0, dtype=torch.int64, device=device)
        place = torch.empty_like(order)
        place[order] = torch.arange(len(order), device=device)
        return cls(tuple(buckets), order, place)


def _bounds(longest: int) -> list[int]:
    """1, 2, 3, 4, 6, 8, 12, 16, 24, ... up to the first that reaches ``longest``."""
    bounds = [1]
    for power in count(1):
        if bounds[-1] >= longest:
            break
        bounds += [2**power] if power == 1 else [3 * 2 ** (power - 2), 2**power]
    return bounds


def causal_attention(qkv_T3HK: Tensor, segments: Segments, dropout: float = 0.0) -> Tensor:
    """Attention outputs [T, H, K] for queries, keys and values stacked as [T, 3, H, K].

    Args:
        dropout: probability of dropping an attention weight; give 0 outside training.
    """
    tokens, _, heads, width = qkv_T3HK.shape
    if tokens == 0:
        return qkv_T3HK.new_zeros(0, heads, width)
    outputs = []
    grids = _Pad.apply(qkv_T3HK.reshape(tokens, -1), segments)
    for bucket, grid in zip(segments.buckets, grids, strict=True):
        q, k, v = grid.view(-1, bucket.length, 3, heads, width).permute(2, 0, 3, 1, 4)
        if bucket.length == 1 and dropout == 0:
            out = v
        else:
            out = scaled_dot_product_attention(q, k, v, is_causal=True, dropout_p=dropout)
        outputs.append(out.transpose(1, 2).reshape(-1, heads * width))
    packed: Tensor = _Unpad.apply(segments, *outputs)
    return packed.view(tokens, heads, width)


class _Pad(torch.autograd.Function):
    """Packed [T, F] to one grid [n * length, F] per bucket. No gradient comes from padding: nothing real reads it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, segments: Segments) -> tuple[Tensor, ...]:
        ctx.segments = segments
        return tuple(x.index_select(0, bucket.token) for bucket in segments.buckets)

    @staticmethod
    def backward(ctx: Any, *grids: Tensor) -> tuple[Tensor, None]:
        return _collect(ctx.segments, grids), None


class _Unpad(torch.autograd.Function):
    """The inverse: grids to packed tokens. The gradient of padding is zero."""

    @staticmethod
    def forward(ctx: Any, segments: Segments, *grids: Tensor) -> Tensor:
        ctx.segments = segments
        return _collect(segments, grids)

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor | None, ...]:
        segments: Segments = ctx.segments
        grids, start = [], 0
        for bucket in segments.buckets:
            size = len(bucket.token) if bucket.kept is None else len(bucket.kept)
            real = outputs[0].index_select(0, segments.order[start : start + size])
            start += size
            if bucket.kept is not None:
                real = real.new_zeros(len(bucket.token), real.shape[1]).index_copy_(0, bucket.kept, real)
            grids.append(real)
        return None, *grids


def _collect(segments: Segments, grids: tuple[Tensor, ...]) -> Tensor:
    real = [
        grid if bucket.kept is None else grid.index_select(0, bucket.kept)
        for bucket, grid in zip(segments.buckets, grids, strict=True)
    ]
    return torch.cat(real).index_select(0, segments.place)
