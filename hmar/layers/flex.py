"""Attention by FlexAttention: a compiled kernel that skips the blocks which a document and causal mask excludes.

On a GPU the kernel is made by Triton at its first use and for each new size (:class:`hmar.layers.segments.Blocks` has
few). On the CPU torch has it without gradients only; here it serves to prove the mask.
"""

import math
from functools import cache
from typing import Any

from torch import Tensor
from torch.nn.functional import pad

from hmar.layers.segments import BLOCK, Blocks

NARROWEST = 16
"""Width of the narrowest head that the kernel takes; narrower ones are filled with zeros."""

SIZES = 64
"""Sizes for which the kernel may be made; one more is an error, because without it the memory is quadratic."""


def flex_attention(qkv_T3HK: Tensor, blocks: Blocks) -> Tensor:
    """See :func:`hmar.layers.attention.causal_attention`; T is at least 1."""
    width = qkv_T3HK.shape[-1]
    widened = (0, max(0, NARROWEST - width), 0, 0, 0, 0, 0, blocks.padded - blocks.tokens)
    q, k, v = pad(qkv_T3HK, widened).permute(1, 2, 0, 3)[:, None]
    kernel = _compiled() if qkv_T3HK.is_cuda else _plain()
    out: Tensor = kernel(q, k, v, block_mask=block_mask(blocks), scale=1 / math.sqrt(width))
    return out[0].transpose(0, 1)[: blocks.tokens, :, :width]


def block_mask(blocks: Blocks) -> Any:
    """torch's BlockMask of what ``blocks`` says, where its tensors are."""
    from torch.nn.attention.flex_attention import BlockMask

    segment = blocks.segment

    def same_segment_and_not_later(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
        return (segment[q] == segment[k]) & (k <= q)

    return BlockMask.from_kv_blocks(
        blocks.partial_count[None, None],
        blocks.partial[None, None],
        blocks.full_count[None, None],
        blocks.full[None, None],
        BLOCK_SIZE=BLOCK,
        mask_mod=same_segment_and_not_later,
        seq_lengths=(blocks.padded, blocks.padded),
    )


@cache
def _compiled() -> Any:
    import torch

    compile_: Any = torch.compile  # its stub does not know every argument
    return compile_(_plain(), dynamic=False, fullgraph=True, recompile_limit=SIZES)


@cache
def _plain() -> Any:
    from torch.nn.attention.flex_attention import flex_attention as function

    return function
