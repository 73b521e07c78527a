"""Generalized binary cross-entropy (gSASRec: Petrov and Macdonald, RecSys 2023, arXiv 2308.07192).

Sampling negatives shows a model far more positives than there are, so BCE learns probabilities that are too high;
raising the positive's probability to the power beta undoes it. With V items, k negatives and the sampling rate
alpha = k / (V - 1),

    beta = alpha ( t (1 - 1/alpha) + 1/alpha ) = 1 - t (1 - alpha)

where the calibration t in [0, 1] is chosen: t = 0 is BCE as it is, t = 1 calibrates fully.
"""

from torch import Tensor
from torch.nn.functional import softplus

from hmar.losses.scores import negative_scores, positive_scores, positive_weighted
from hmar.models.base import Encoder, TrainingBatch


class GBCE:
    """mean_t( -w_t log sigma(s_+)^beta - sum_n log(1 - sigma(s_n)) ) / (k + 1).

    For negatives drawn uniformly. Where a small catalog is oversampled, alpha is 1.
    """

    uses_negatives = True

    def __init__(self, t: float = 0.75) -> None:
        self.t = t

    def beta(self, negatives: int, items: int) -> float:
        """The exponent for ``negatives`` of a catalog of ``items``."""
        alpha = min(1.0, negatives / (items - 1))
        return 1 - self.t * (1 - alpha)

    def __call__(self, encoder: Encoder, queries_TD: Tensor, batch: TrainingBatch) -> Tensor:
        drawn = batch.negatives.shape[-1]
        beta = self.beta(drawn, encoder.vocabulary.items)
        losses_T = positive_weighted(encoder, batch, beta * softplus(-positive_scores(encoder, queries_TD, batch)))
        return (losses_T + softplus(negative_scores(encoder, queries_TD, batch)).sum(-1)).mean() / (drawn + 1)
