"""Sampled softmax with the logQ correction (Bengio and Senecal, IEEE Transactions on Neural Networks 2008; Jean et al.,
ACL 2015; for recommenders Yi et al., RecSys 2019).

The sum over the catalog in cross-entropy's normalizer is estimated from N negatives drawn from q by weighing each with
1 / (N q_n), which is to take log(N q_n) from its score:

    Z = exp(s_+) + sum_n exp(s_n - log(N q_n))

The true item is in Z with certainty and not by a draw, so its score is not corrected (Khrylchenko et al., RecSys 2025,
arXiv 2507.09331, point to what goes wrong where it is). Then Z is unbiased: per position, q is the distribution over
the other items; per batch, q is that over all items, and draws of the true item count as nothing.
"""

import math

import torch
from torch import Tensor

from hmar.losses.scores import negative_scores, positive_scores, positive_weighted
from hmar.models.base import Encoder, TrainingBatch


class SampledSoftmax:
    """mean_t( w_t (log Z_t - s_+) )."""

    uses_negatives = True

    def __call__(self, encoder: Encoder, queries_TD: Tensor, batch: TrainingBatch) -> Tensor:
        positive_T = positive_scores(encoder, queries_TD, batch)
        assert batch.negative_log_q is not None, "the correction needs the batch's log q"
        log_expected = batch.negative_log_q + math.log(batch.negatives.shape[-1])
        corrected_TN = negative_scores(encoder, queries_TD, batch) - log_expected
        log_z_T = torch.cat([positive_T[:, None], corrected_TN], dim=1).logsumexp(1)
        return positive_weighted(encoder, batch, log_z_T - positive_T).mean()
