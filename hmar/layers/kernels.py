"""Which attention kernel serves a call: a function of device, number format, head width and dropout, nothing else.

    bucketed    scaled_dot_product_attention over padded buckets: everywhere, for everything
    varlen      FlashAttention on packed tokens: CUDA from compute capability 8.0 on, bfloat16 and float16
    flex        FlexAttention under a block mask: CUDA where Triton can compile, for training in float32

What a table promises a machine may not keep (no compiler, another build of torch), so before a kernel is used it must
show, once per process and kind of call, that it gives what the bucketed form gives, outputs and gradients; if it does
not, the log says so and the bucketed form it is. (An evaluation in float32 takes the bucketed form, because making the
other kernel takes longer than its attention.)
"""

import logging
from functools import cache
from typing import Literal

import torch
from torch import Tensor

from hmar.layers.bucketed import bucketed_attention
from hmar.layers.flex import flex_attention
from hmar.layers.segments import Segments
from hmar.layers.varlen import varlen_attention

LOGGER = logging.getLogger(__name__)

Kernel = Literal["bucketed", "varlen", "flex"]

WIDEST = 256
"""Width of the widest head of the kernels for packed tokens..."""
WIDEST_SMALL = 192
"""...and on GPUs with the smaller shared memory, where FlashAttention has no gradient beyond it."""
LARGE_SHARED_MEMORY = ((8, 0), (9, 0), (10, 0), (10, 3))
"""Compute capabilities of data center GPUs."""


def choose(
    device: torch.device, dtype: torch.dtype, width: int, dropout: float = 0.0, gradients: bool = True
) -> Kernel:
    """The kernel for heads of ``width`` on ``device``.

    Args:
        dtype: of queries, keys and values. dropout: of attention weights. gradients: whether they will be asked for.
    """
    if device.type != "cuda":
        return "bucketed"
    wanted = suited(torch.cuda.get_device_capability(device), dtype, width, dropout, gradients)
    return wanted if wanted == "bucketed" or works(wanted, device, dtype, width) else "bucketed"


def suited(capability: tuple[int, int], dtype: torch.dtype, width: int, dropout: float, gradients: bool) -> Kernel:
    """What fits a CUDA device of this compute capability, going by what the kernels are made for."""
    if dropout > 0:
        return "bucketed"
    if dtype in (torch.bfloat16, torch.float16):
        widest = WIDEST if capability in LARGE_SHARED_MEMORY else WIDEST_SMALL
        return "varlen" if capability >= (8, 0) and width <= widest else "bucketed"
    return "flex" if dtype == torch.float32 and gradients and capability >= (7, 0) and width <= WIDEST else "bucketed"


def attend(kernel: Kernel, qkv_T3HK: Tensor, segments: Segments, dropout: float = 0.0) -> Tensor:
    """The attention of :func:`hmar.layers.attention.causal_attention` by one kernel; T is at least 1."""
    if kernel == "varlen":
        return varlen_attention(qkv_T3HK, segments.form("varlen"))
    if kernel == "flex":
        return flex_attention(qkv_T3HK, segments.form("flex"))
    return bucketed_attention(qkv_T3HK, segments.form("bucketed"), dropout)


@cache
def works(kernel: Kernel, device: torch.device, dtype: torch.dtype, width: int) -> bool:
    """Whether a kernel agrees with the bucketed form on a small example; if not, the log says why."""
    lengths = torch.tensor([1, 3, 0, 150, 40])
    tokens = int(lengths.sum())
    tolerance = 2e-3 if dtype == torch.float32 else 3e-2
    try:
        with torch.inference_mode(False), torch.enable_grad(), torch.autocast(device.type, enabled=False):
            waves = torch.arange(tokens * 3 * 2 * width, dtype=torch.float64).sin().view(tokens, 3, 2, width)
            weights = waves[:, 0].cos().to(device, dtype)
            segments = Segments.of(lengths.to(device))
            found = []
            for one in (kernel, "bucketed"):
                qkv = waves.to(device, dtype).requires_grad_()
                out = attend(one, qkv, segments)
                (gradient,) = torch.autograd.grad(out, qkv, weights)
                found.append((out.detach().float(), gradient.float()))
            off = max(float((got - expected).abs().max()) for got, expected in zip(*found, strict=True))
    except Exception as error:  # whatever a compiler, a driver or another build of torch comes up with
        reason = " ".join(str(error).split())[:300]
        LOGGER.warning("attention kernel %s does not work here (%s: %s)", kernel, type(error).__name__, reason)
        return False
    if not off <= tolerance:
        LOGGER.warning("attention kernel %s is off by %.2g here, which is too much", kernel, off)
        return False
    LOGGER.info("attention kernel %s for %s heads of width %d", kernel, dtype, width)
    return True
