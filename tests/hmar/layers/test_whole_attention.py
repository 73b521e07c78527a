"""Attention over whole segments against the definition, one segment and one head at a time, in float64."""

import pytest
import torch
from torch import Tensor

from hmar.layers.segments import Segments
from hmar.layers.whole_attention import whole_attention
from tests.hmar.layers.test_attention import LENGTHS


def plain(qkv_T3HK: Tensor, lengths: list[int], scale: float) -> Tensor:
    outputs, start = [], 0
    for length in lengths:
        q, k, v = qkv_T3HK[start : start + length].unbind(1)
        start += length
        outputs.append(torch.einsum("hts,shk->thk", (scale * torch.einsum("thk,shk->hts", q, k)).softmax(-1), v))
    return torch.cat(outputs)


@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("scale", [None, 1.0])
def test_forward_and_gradient_equal_the_definition(lengths: list[int], scale: float | None) -> None:
    torch.manual_seed(0)
    qkv = torch.randn(sum(lengths), 3, 2, 5, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(sum(lengths), 2, 5, dtype=torch.float64)

    found = whole_attention(qkv, Segments.of(torch.tensor(lengths)), scale)
    expected = plain(qkv, lengths, scale or 5**-0.5)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)

    (gradient,) = torch.autograd.grad((found * weights).sum(), qkv)
    (expected_gradient,) = torch.autograd.grad((expected * weights).sum(), qkv)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("lengths", [[], [0, 0]])
def test_nothing_to_attend_to(lengths: list[int]) -> None:
    segments = Segments.of(torch.tensor(lengths, dtype=torch.int64))
    assert whole_attention(torch.zeros(0, 3, 2, 4), segments).shape == (0, 2, 4)
