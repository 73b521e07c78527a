"""One pass for all behaviors against the plain form: one masked pass over the padded batch per behavior."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import linear

from hmar.layers.behavior_encoder import BehaviorEncoder
from hmar.layers.grouped import BehaviorGroups
from hmar.layers.permute import permute
from tests.support.models import pack_rows

D, HEADS, BEHAVIORS = 12, 3, 4


def plain(encoder: BehaviorEncoder, x_BLD: Tensor, behavior_BL: Tensor) -> Tensor:
    """sum over b of mask_b * encoder_b(x), every encoder over the whole padded batch. Padding has behavior -1."""
    batch, length, _ = x_BLD.shape
    causal = torch.ones(length, length, dtype=torch.bool).tril()
    total = torch.zeros_like(x_BLD)
    for b in range(BEHAVIORS):
        own_BL = behavior_BL == b
        q, k, v = linear(x_BLD, encoder.qkv.weight[b], encoder.qkv.bias[b]).chunk(3, dim=-1)
        q, k, v = (part.view(batch, length, HEADS, -1).transpose(1, 2) for part in (q, k, v))
        allowed = causal & own_BL[:, None, None, :]
        # Rows that see nothing (their token is not of this behavior) may see themselves; they are masked out below.
        allowed = allowed | torch.eye(length, dtype=torch.bool)
        logits = (q @ k.transpose(-1, -2) / math.sqrt(D // HEADS)).masked_fill(~allowed, -torch.inf)
        a = (logits.softmax(-1) @ v).transpose(1, 2).reshape(batch, length, D)
        inner = linear(a, encoder.inner.weight[b], encoder.inner.bias[b]).relu()
        z = a + linear(inner, encoder.outer.weight[b], encoder.outer.bias[b]) + encoder.rho[b] * x_BLD
        total = total + own_BL[..., None] * z
    return total


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 2e-5)])
def test_forward_and_gradient_equal_the_plain_form(dtype: torch.dtype, tolerance: float) -> None:
    torch.manual_seed(1)
    lengths = [9, 1, 0, 17, 4, 30]
    rows = [[(0, int(torch.randint(BEHAVIORS - 1, ())), t) for t in range(n)] for n in lengths]  # behavior 3 is absent
    histories = pack_rows(rows, behaviors=BEHAVIORS)
    encoder = BehaviorEncoder(BEHAVIORS, D, HEADS, dropout=0.0).to(dtype)
    torch.nn.init.normal_(encoder.rho)
    x_TD = torch.randn(sum(lengths), D, dtype=dtype, requires_grad=True)
    weights_TD = torch.randn(sum(lengths), D, dtype=dtype)

    groups = BehaviorGroups.of(histories, BEHAVIORS)
    packed = permute(encoder(permute(x_TD, groups.order, groups.place), groups), groups.place, groups.order)

    cell = (histories.row, histories.position)
    x_BLD = torch.zeros(len(lengths), max(lengths), D, dtype=dtype).index_put(cell, x_TD)
    behavior_BL = torch.full((len(lengths), max(lengths)), -1).index_put(cell, histories.behavior)
    expected = plain(encoder, x_BLD, behavior_BL)[cell]
    torch.testing.assert_close(packed, expected, rtol=tolerance, atol=tolerance)

    inputs = [x_TD, *encoder.parameters()]
    for got, wanted in zip(
        torch.autograd.grad((packed * weights_TD).sum(), inputs),
        torch.autograd.grad((expected * weights_TD).sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(got, wanted, rtol=10 * tolerance, atol=10 * tolerance)
