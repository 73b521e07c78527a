"""HMAR as one would write it down from its equations: padded to L, one masked attention pass per behavior.

What benchmarks/train_step.py measures the packed form against. It shares the packed form's weights, so that loss and
gradients can be compared.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, dropout, linear, relu, scaled_dot_product_attention, softplus

from hmar.layers.behavior_encoder import BehaviorEncoder
from hmar.models.base import TrainingBatch
from hmar.models.hmar import HMAR, _SequenceBlock


@dataclass(frozen=True)
class PaddedBatch:
    """A batch as grids; padding is at the end of a row.

    Attributes:
        item, behavior, next_item, next_behavior, negative: int64 [B, L].
        hbi, next_hbi, negative_hbi: float32 [B, L, R].
        real: bool [B, L]. causal: bool [B, 1, L, L], what a position sees; padding sees itself.
        own: bool [R, B, 1, L, L], the same among the events of one behavior; others see themselves.
    """

    item: Tensor
    behavior: Tensor
    hbi: Tensor
    next_item: Tensor
    next_behavior: Tensor
    next_hbi: Tensor
    negative: Tensor
    negative_hbi: Tensor
    real: Tensor
    causal: Tensor
    own: Tensor


def padded(batch: TrainingBatch, length: int) -> PaddedBatch:
    """The batch on grids of ``length`` columns, one negative per position; masks are made here, outside of the step."""
    histories = batch.histories
    cell = histories.row, histories.position
    shape = len(histories), length

    def grid(packed: Tensor) -> Tensor:
        return packed.new_zeros(*shape, *packed.shape[1:]).index_put(cell, packed)

    real = grid(torch.ones_like(histories.item)).bool()
    behavior = grid(histories.behavior)
    before = torch.ones(length, length, dtype=torch.bool).tril()
    itself = torch.eye(length, dtype=torch.bool)
    own = [(before & (real & (behavior == code))[:, None, None, :]) | itself for code in range(histories.hbi.shape[1])]
    return PaddedBatch(
        item=grid(histories.item),
        behavior=behavior,
        hbi=grid(histories.hbi),
        next_item=grid(batch.next_item),
        next_behavior=grid(batch.next_behavior),
        next_hbi=grid(batch.next_hbi),
        negative=grid(batch.negatives[:, 0]),
        negative_hbi=grid(batch.negative_hbi[:, 0]),
        real=real,
        causal=(before & real[:, None, None, :]) | itself,
        own=torch.stack(own),
    )


class PlainHMAR(nn.Module):
    """The BCE loss of a padded batch, with the weights of ``model``."""

    def __init__(self, model: HMAR) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: PaddedBatch) -> Tensor:
        """The scalar loss, behavior head included."""
        model = self.model
        config = model.config
        length = batch.item.shape[1]
        s_BLD = self._fuse(math.sqrt(config.d) * model.items(batch.item), batch.hbi)
        s_BLD = self._dropout(s_BLD + model.positions.table.weight[:length])
        x_BLD = s_BLD
        for block in model.behavior_blocks:
            assert isinstance(block, BehaviorEncoder)
            x_BLD = self._behaviors(block, x_BLD, batch)
        for block in model.sequence_blocks:
            assert isinstance(block, _SequenceBlock)
            qkv, net = block.attention.qkv, block.feed_forward
            x_BLD = block.norm(self._attention(x_BLD, qkv.weight, qkv.bias, batch.causal) + s_BLD)
            x_BLD = x_BLD + self._feed_forward(
                x_BLD, net.inner.weight, net.inner.bias, net.outer.weight, net.outer.bias
            )
        real_BL = batch.real.to(x_BLD.dtype)
        next_BLD = self._fuse(model.items(batch.next_item), batch.next_hbi)
        negative_BLD = self._fuse(model.items(batch.negative), batch.negative_hbi)
        positive_BL = softplus(-(x_BLD * next_BLD).sum(-1))
        if config.alpha:
            positive_BL = model.alpha[batch.next_behavior] * positive_BL
        loss_BL = positive_BL + softplus((x_BLD * negative_BLD).sum(-1))
        if model.head is not None:
            logits_BLR = model.head(torch.cat([next_BLD, x_BLD], dim=-1))
            of_behavior_BL = cross_entropy(logits_BLR.transpose(1, 2), batch.next_behavior, reduction="none")
            loss_BL = loss_BL + config.theta * of_behavior_BL
        return (loss_BL * real_BL).sum() / real_BL.sum()

    def _fuse(self, item_BLD: Tensor, hbi_BLR: Tensor) -> Tensor:
        model = self.model
        assert model.counts is not None
        fused: Tensor = model.fuse(torch.cat([item_BLD, model.counts(hbi_BLR)], dim=-1))
        return fused

    def _behaviors(self, block: BehaviorEncoder, x_BLD: Tensor, batch: PaddedBatch) -> Tensor:
        total_BLD = torch.zeros_like(x_BLD)
        for b, mask in enumerate(batch.own):
            a_BLD = self._attention(x_BLD, block.qkv.weight[b], block.qkv.bias[b], mask)
            y_BLD = a_BLD + self._feed_forward(
                a_BLD, block.inner.weight[b], block.inner.bias[b], block.outer.weight[b], block.outer.bias[b]
            )
            of_b_BL1 = (batch.real & (batch.behavior == b))[..., None].to(x_BLD.dtype)
            total_BLD = total_BLD + of_b_BL1 * (y_BLD + block.rho[b] * x_BLD)
        return total_BLD

    def _attention(self, x_BLD: Tensor, weight: Tensor, bias: Tensor, mask: Tensor) -> Tensor:
        users, length, d = x_BLD.shape
        heads = self.model.config.heads
        q, k, v = linear(x_BLD, weight, bias).view(users, length, 3, heads, d // heads).permute(2, 0, 3, 1, 4)
        out: Tensor = scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return out.transpose(1, 2).reshape(x_BLD.shape)

    def _feed_forward(self, x: Tensor, w_1: Tensor, b_1: Tensor, w_2: Tensor, b_2: Tensor) -> Tensor:
        return self._dropout(linear(self._dropout(relu(linear(x, w_1, b_1))), w_2, b_2))

    def _dropout(self, x: Tensor) -> Tensor:
        return dropout(x, self.model.config.dropout, self.training)
