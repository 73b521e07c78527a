"""Logarithmic loss of labels: what DIN, DIEN, ATRank, DFN, FeedRec and DFAR train on."""

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from hmar.data.impressions import ImpressionBatch


class LogLoss:
    """mean( -y log sigma(z) - (1 - y) log(1 - sigma(z)) ) over the real candidates; 0 where there are none."""

    def __call__(self, logits_BN: Tensor, batch: ImpressionBatch) -> Tensor:
        narrow = logits_BN.dtype in (torch.bfloat16, torch.float16)
        logits_BN = logits_BN.float() if narrow else logits_BN
        losses_BN = binary_cross_entropy_with_logits(logits_BN, batch.labels.to(logits_BN.dtype), reduction="none")
        return losses_BN.masked_fill(~batch.real, 0.0).sum() / batch.real.sum().clamp(min=1)
