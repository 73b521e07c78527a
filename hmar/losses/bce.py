"""Binary cross-entropy with sampled negatives: the papers' loss (SASRec, equation 7; HMAR, the ranking part)."""

import torch
from torch import Tensor
from torch.nn.functional import softplus

from hmar.models.base import Encoder, TrainingBatch


class BCE:
    """mean_t( -w_t log sigma(<h_t, o_next>) - sum_n log(1 - sigma(<h_t, o_n>)) ), w from ``position_weights``."""

    uses_negatives = True

    def __call__(self, encoder: Encoder, states_TD: Tensor, batch: TrainingBatch) -> Tensor:
        hbi = (batch.next_hbi, batch.negative_hbi) if encoder.uses_hbi else (None, None)
        positive_T = (states_TD * encoder.item_vectors(batch.next_item, hbi[0])).sum(-1)
        negative_TN = torch.einsum("td,tnd->tn", states_TD, encoder.item_vectors(batch.negatives, hbi[1]))
        losses_T = softplus(-positive_T)
        weights_T = encoder.position_weights(batch)
        if weights_T is not None:
            losses_T = weights_T * losses_T
        return (losses_T + softplus(negative_TN).sum(-1)).mean()
