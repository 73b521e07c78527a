"""Cross-entropy over the whole catalog, exact, without ever holding the T x V matrix of logits.

Tokens go through in chunks, and the gradient of a chunk is taken while its probabilities are at hand, so that nothing
of size V per token outlives its chunk and nothing is computed twice.
"""

from typing import Any

import torch
from torch import Tensor

from hmar.errors import SettingsError
from hmar.models.base import Encoder, TrainingBatch

CHUNK_BYTES = 2**20
"""Logits of one chunk: what a core's cache holds, which the passes over them are two to three times faster for."""
MIN_ROWS = 64
"""Tokens of a chunk at least, so that the products stay products of matrices where the catalog is large."""


class CrossEntropy:
    """mean_t( -w_t log softmax_j(<h_t, o_j>) at the next item ), w from ``position_weights``."""

    uses_negatives = False

    def __call__(self, encoder: Encoder, states_TD: Tensor, batch: TrainingBatch) -> Tensor:
        if encoder.uses_hbi:
            raise SettingsError(
                f"loss: cross_entropy needs item vectors that are the same at every position, and those of "
                f"{type(encoder).__name__} depend on each user's counts; use bce"
            )
        catalog = torch.arange(encoder.vocabulary.items, device=states_TD.device)
        weights_T = encoder.position_weights(batch)
        if weights_T is None:
            weights_T = states_TD.new_ones(len(states_TD))
        vectors_VD = encoder.item_vectors(catalog, None)
        loss: Tensor = _Fused.apply(states_TD, vectors_VD, batch.next_item, weights_T / len(states_TD))
        return loss


class _Fused(torch.autograd.Function):
    """sum_t w_t ( logsumexp_j <h_t, o_j> - <h_t, o_target> ) with its gradients made in the forward pass."""

    @staticmethod
    def forward(ctx: Any, states_TD: Tensor, vectors_VD: Tensor, target_T: Tensor, weights_T: Tensor) -> Tensor:
        rows = max(MIN_ROWS, CHUNK_BYTES // (vectors_VD.element_size() * len(vectors_VD)))
        wanted = ctx.needs_input_grad[0] or ctx.needs_input_grad[1]
        states_gradient = torch.empty_like(states_TD) if wanted else None
        vectors_gradient = torch.zeros_like(vectors_VD) if wanted else None
        total = states_TD.new_zeros(())
        for start in range(0, len(states_TD), rows):
            part = slice(start, start + rows)
            h, target, weight = states_TD[part], target_T[part, None], weights_T[part, None]
            logits = h @ vectors_VD.T
            norm = logits.logsumexp(-1, keepdim=True)
            total += (weight * (norm - logits.gather(1, target))).sum()
            if states_gradient is None or vectors_gradient is None:
                continue
            gradient = logits.sub_(norm).exp_()
            gradient.scatter_add_(1, target, torch.full_like(weight, -1.0))
            gradient *= weight
            states_gradient[part] = gradient @ vectors_VD
            vectors_gradient.addmm_(gradient.T, h)
        ctx.save_for_backward(states_gradient, vectors_gradient)
        return total

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        states_gradient, vectors_gradient = ctx.saved_tensors
        (scale,) = outputs
        return scale * states_gradient, scale * vectors_gradient, None, None
