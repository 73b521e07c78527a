"""Binary cross-entropy with sampled negatives: the papers' loss (SASRec, equation 7; HMAR, the ranking part)."""

from torch import Tensor
from torch.nn.functional import softplus

from hmar.losses.scores import negative_scores, positive_scores, positive_weighted
from hmar.models.base import Encoder, TrainingBatch


class BCE:
    """mean_t( -w_t log sigma(s_+) - sum_n log(1 - sigma(s_n)) )."""

    uses_negatives = True

    def __call__(self, encoder: Encoder, queries_TD: Tensor, batch: TrainingBatch) -> Tensor:
        losses_T = positive_weighted(encoder, batch, softplus(-positive_scores(encoder, queries_TD, batch)))
        return (losses_T + softplus(negative_scores(encoder, queries_TD, batch)).sum(-1)).mean()
