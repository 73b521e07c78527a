"""Packed attention against the definition, one segment and one head at a time, in float64."""

import math

import pytest
import torch
from torch import Tensor

from hmar.layers.attention import causal_attention
from hmar.layers.segments import Buckets, Segments

LENGTHS = [
    pytest.param([5], id="one"),
    pytest.param([1, 1, 1], id="ones"),
    pytest.param([0, 3, 0, 0, 1, 4, 0], id="with-empty"),
    pytest.param([7, 8, 9, 15, 16, 17, 33, 2, 1, 0, 120], id="many-buckets"),
]


def plain(qkv_T3HK: Tensor, lengths: list[int]) -> Tensor:
    outputs, start = [], 0
    for length in lengths:
        q, k, v = qkv_T3HK[start : start + length].unbind(1)
        start += length
        for t in range(length):
            logits = torch.einsum("hk,shk->hs", q[t], k[: t + 1]) / math.sqrt(q.shape[-1])
            outputs.append(torch.einsum("hs,shk->hk", logits.softmax(-1), v[: t + 1]))
    return torch.stack(outputs) if outputs else qkv_T3HK.new_zeros(0, *qkv_T3HK.shape[2:])


@pytest.mark.parametrize("lengths", LENGTHS)
def test_forward_and_gradient_equal_the_definition(lengths: list[int]) -> None:
    torch.manual_seed(0)
    qkv = torch.randn(sum(lengths), 3, 2, 5, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(sum(lengths), 2, 5, dtype=torch.float64)
    segments = Segments.of(torch.tensor(lengths))

    packed = causal_attention(qkv, segments)
    expected = plain(qkv, lengths)
    torch.testing.assert_close(packed, expected, rtol=1e-10, atol=1e-10)

    (gradient,) = torch.autograd.grad((packed * weights).sum(), qkv)
    (expected_gradient,) = torch.autograd.grad((expected * weights).sum(), qkv)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("lengths", [[], [0, 0]])
def test_nothing_to_attend_to(lengths: list[int]) -> None:
    segments = Segments.of(torch.tensor(lengths, dtype=torch.int64))
    assert causal_attention(torch.zeros(0, 3, 2, 4), segments).shape == (0, 2, 4)


def test_padding_is_at_most_a_third() -> None:
    lengths = torch.arange(1, 300)
    plan = Buckets.of(lengths)
    cells = sum(plan.cells)
    assert cells == len(plan.token)
    assert cells <= 1.5 * int(lengths.sum())
    assert plan.token[plan.cell].tolist() == list(range(int(lengths.sum())))


def test_dropped_attention_weights_keep_the_mean() -> None:
    torch.manual_seed(0)
    qkv = torch.randn(12, 3, 1, 4, dtype=torch.float64)
    segments = Segments.of(torch.tensor([4, 8]))
    draws = torch.stack([causal_attention(qkv, segments, dropout=0.3) for _ in range(4000)])
    assert draws.std(0).max() > 0.1
    torch.testing.assert_close(draws.mean(0), causal_attention(qkv, segments), rtol=0, atol=0.12)
