"""Bayesian personalized ranking (Rendle et al., UAI 2009, BPR-Opt), averaged over several negatives as in GRU4Rec
(Hidasi et al., ICLR 2016)."""

from torch import Tensor
from torch.nn.functional import softplus

from hmar.losses.scores import negative_scores, positive_scores, positive_weighted
from hmar.models.base import Encoder, TrainingBatch


class BPR:
    """mean_t( w_t / N sum_n -log sigma(s_+ - s_n) ).

    A pair has no positive term of its own, so w_t weighs the pairs of a position. A shared negative that is the true
    item counts as no loss.
    """

    uses_negatives = True

    def __call__(self, encoder: Encoder, queries_TD: Tensor, batch: TrainingBatch) -> Tensor:
        gap_TN = negative_scores(encoder, queries_TD, batch) - positive_scores(encoder, queries_TD, batch)[:, None]
        return positive_weighted(encoder, batch, softplus(gap_TN).mean(-1)).mean()
