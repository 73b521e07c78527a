"""Cross-entropy over the whole catalog, exact, without ever holding the T x V matrix of logits.

Positions go through in chunks, and the gradient of a chunk is taken while its probabilities are at hand, so that
nothing of size V per position outlives its chunk and nothing is computed twice.

Where an item's vector depends on how often the user has done what with it, o_j(c) = o_j(0) + c C (HMAR's step 4, the
asked behavior's one included), the score of item j at position t is

    <h_t, o_j(c_tj + 1_b)> = <h_t, o_j(0)> + <C h_t, c_tj> + <C h_t, 1_b>

The first term is the dense product, the second is zero except for the items of the user's own history, which are
corrected in place, and the third is the same for all items, so that the softmax does not see it. Where evidence adds
<g_t, phi_tj> to the score (:class:`hmar.models.base.Encoder`), that is the second term, and there is no third.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from hmar.data.count_runs import CountRuns
from hmar.losses.scores import cells
from hmar.models.base import Encoder, TrainingBatch

CPU_CHUNK_BYTES = 2**20
"""Logits of one chunk: what a core's cache holds, which the passes over them are two to three times faster for."""
CUDA_CHUNK_BYTES = 2**28
MIN_ROWS = 64
"""Positions of a chunk at least, so that the products stay products of matrices where the catalog is large..."""
MOST_BYTES = 2**28
"""...unless so many logits take more than this."""
CUDA_MIN_ROWS = 512
"""The same on a GPU, where every chunk reads all items from memory and writes the gradients of all..."""
CUDA_SHARE = 32
"""...unless so many logits take more than this part of the GPU's memory."""
BLOCK_BYTES = 2**28
"""Where products are narrow, items' gradients are made in blocks of so many bytes, because they are added by hand."""


class CrossEntropy:
    """mean_t( -w_t log softmax_j(s_j) at the next item )."""

    uses_negatives = False

    def __init__(self, chunk_mb: float | None = None) -> None:
        """
        Args:
            chunk_mb: logits held at once, MiB, but one position's at least; None chooses by device.
        """
        self.chunk_mb = chunk_mb

    def __call__(self, encoder: Encoder, queries_TD: Tensor, batch: TrainingBatch) -> Tensor:
        catalog = torch.arange(encoder.vocabulary.items, device=queries_TD.device)
        weights_T = encoder.position_weights(batch)
        if weights_T is None:
            weights_T = queries_TD.new_ones(len(queries_TD))
        never_R = evidence_TF = None
        if encoder.uses_hbi:
            never_R = queries_TD.new_zeros(1, len(encoder.vocabulary.behaviors))
        if encoder.uses_counts:
            assert batch.count_runs is not None, "an encoder that uses counts needs the batch's count runs"
            evidence_TF = encoder.evidence_weights(queries_TD)
        vectors_VD = encoder.item_vectors(catalog, never_R)
        loss: Tensor = _fused(
            queries_TD,
            vectors_VD,
            evidence_TF,
            batch.next_item,
            _wide(weights_T) / len(queries_TD),
            batch.count_runs,
            self.rows(len(vectors_VD) * max(vectors_VD.element_size(), 4), gpu_memory(vectors_VD.device)),
            partial(cells, encoder, batch),
        )
        return loss

    def rows(self, each: int, memory: int | None) -> int:
        """Positions of one chunk.

        Args:
            each: bytes of one position's logits. memory: of the GPU, bytes; None on the CPU.
        """
        if self.chunk_mb is not None:
            return max(1, int(self.chunk_mb * 2**20) // each)
        if memory is None:
            return max(1, CPU_CHUNK_BYTES // each, min(MIN_ROWS, MOST_BYTES // each))
        return max(1, CUDA_CHUNK_BYTES // each, min(CUDA_MIN_ROWS, memory // CUDA_SHARE // each))


def gpu_memory(device: torch.device) -> int | None:
    """All that the GPU has, in use or not, in bytes: the last bits of a loss must not depend on who else computes."""
    return int(torch.cuda.get_device_properties(device).total_memory) if device.type == "cuda" else None


class _Fused(torch.autograd.Function):
    """sum_t w_t ( logsumexp_j l_tj - l_t,target ), l_tj = <h_t, o_j> + <g_t, phi_tj>, with its gradients made in the
    forward pass; ``of_cells`` gives phi of cells, and which are left out of the sum, from runs, positions of the batch
    and indices of the runs. In float32 at least; under bfloat16 autocast on CUDA the products take bfloat16 and give
    float32."""

    @staticmethod
    def forward(
        ctx: Any,
        queries_TD: Tensor,
        vectors_VD: Tensor,
        evidence_TF: Tensor | None,
        target_T: Tensor,
        weights_T: Tensor,
        runs: CountRuns | None,
        rows: int,
        of_cells: Callable[[CountRuns, Tensor, Tensor], tuple[Tensor, Tensor | None]],
    ) -> Tensor:
        device = queries_TD.device.type
        narrow = (
            device == "cuda"
            and torch.is_autocast_enabled(device)
            and torch.get_autocast_dtype(device) == torch.bfloat16
        )
        wanted = any(ctx.needs_input_grad[:3])
        ctx.dtypes = [None if x is None else x.dtype for x in (queries_TD, vectors_VD, evidence_TF)]
        with torch.autocast(device, enabled=False):
            h_TD, o_VD = _wide(queries_TD), _wide(vectors_VD)
            g_TF = None if evidence_TF is None else _wide(evidence_TF)
            weights_T = weights_T.to(h_TD.dtype)
            product = _narrow_product if narrow else torch.mm
            o_factor_VD = o_VD.bfloat16() if narrow else o_VD
            total = h_TD.new_zeros(())
            grad_h_TD = torch.empty_like(h_TD) if wanted else None
            grad_o_VD = torch.zeros_like(o_VD) if wanted else None
            grad_g_TF = None if g_TF is None or not wanted else torch.zeros_like(g_TF)
            # Known ahead, because a GPU would be waited for in every chunk.
            sizes = runs.sizes(len(h_TD), rows) if g_TF is not None and runs is not None and h_TD.is_cuda else None
            for start in range(0, len(h_TD), rows):
                part = slice(start, start + rows)
                h, target, weight = h_TD[part], target_T[part], weights_T[part]
                logits = product(h, o_factor_VD.T)
                if g_TF is not None and runs is not None:
                    live, count = (None, None) if sizes is None else sizes[start // rows]
                    near = runs.positions(start, start + len(h), live)
                    row, run = near.cells(count)
                    cell = row * len(o_VD) + near.item[run]
                    phi_PF, left_out_P = of_cells(near, row + start, run)
                    phi_PF = phi_PF.to(h.dtype)
                    added_P = (g_TF[part][row] * phi_PF).sum(-1)
                    if left_out_P is not None:
                        added_P = added_P.masked_fill(left_out_P, -torch.inf)
                    logits.view(-1).index_add_(0, cell, added_P)
                of_target = logits.gather(1, target[:, None])[:, 0]
                highest = logits.amax(-1)
                odds = logits.sub_(highest[:, None]).exp_()
                norm = odds.sum(-1)
                total += (weight * (norm.log() + highest - of_target)).sum()
                if grad_h_TD is None or grad_o_VD is None:
                    continue
                # The gradient of the logits is scale * odds, less the weight at the target.
                scale = weight / norm
                odds_factor = odds.bfloat16() if narrow else odds
                grad_h_TD[part] = product(odds_factor, o_factor_VD) * scale[:, None] - weight[:, None] * o_VD[target]
                _add_product(grad_o_VD, odds_factor.T, h * scale[:, None], narrow)
                grad_o_VD.index_add_(0, target, h * weight[:, None], alpha=-1)
                if grad_g_TF is not None:
                    here = odds.view(-1)[cell] * scale[row] - weight[row] * (near.item[run] == target[row])
                    grad_g_TF[part].index_add_(0, row, here[:, None] * phi_PF)
        ctx.save_for_backward(grad_h_TD, grad_o_VD, grad_g_TF)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor | None, ...]:
        (scale,) = outputs
        made = zip(ctx.saved_tensors, ctx.dtypes, strict=True)
        return (*(None if gradient is None else (scale * gradient).to(dtype) for gradient, dtype in made), *[None] * 5)


_fused: Callable[..., Any] = _Fused.apply


def leave_out_of_compilation() -> None:
    """From now on a compiled step calls the loss as it is: it is chunked by hand and makes its own gradients."""
    global _fused
    _fused = torch.compiler.disable(_Fused.apply)


def _wide(x: Tensor) -> Tensor:
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


def _narrow_product(a: Tensor, b: Tensor) -> Tensor:
    return torch.mm(a.bfloat16(), b.bfloat16(), out_dtype=torch.float32)


def _add_product(total: Tensor, a: Tensor, b: Tensor, narrow: bool) -> None:
    if not narrow:
        total.addmm_(a, b)
        return
    items = max(1, BLOCK_BYTES // (total.shape[1] * total.element_size()))
    for start in range(0, len(total), items):
        total[start : start + items] += _narrow_product(a[start : start + items], b)
