"""Factorization-heads attention: every form pair by pair, causality, the layout of heads, nothing to attend to."""

import numpy as np
import pytest
import torch
from torch import Tensor

from hmar.layers.factorized_heads import FactorizedHeads, Mask
from hmar.layers.segments import Segments

D, H, K = 12, 4, 3
LENGTHS = [5, 0, 1, 7]
MASKS: list[Mask] = ["inside", "product", "after", "none"]


def layer(mask: Mask, heads: int = H) -> FactorizedHeads:
    torch.manual_seed(3)
    made = FactorizedHeads(D, heads, mask).double()
    with torch.no_grad():
        made.qkv.weight.mul_(3)
    return made


def tokens() -> tuple[Tensor, Tensor, Segments]:
    generator = torch.Generator().manual_seed(5)
    x_TD = torch.randn(sum(LENGTHS), D, generator=generator, dtype=torch.float64)
    liked = torch.tensor([1, 1, 0, 1, 0, 0, 0, 0, 1, 0, 1, 1, 0])
    return x_TD, liked, Segments.of(torch.tensor(LENGTHS))


def pair_by_pair(made: FactorizedHeads, x: np.ndarray, y: list[int]) -> np.ndarray:
    """One history, one token, one pair at a time."""
    weight, bias = made.qkv.weight.detach().numpy(), made.qkv.bias.detach().numpy()
    q, k, v = ((x @ weight.T + bias)[:, place * D : (place + 1) * D].reshape(len(x), H, K) for place in range(3))
    feedback = [0, 0, 1, 1]
    rows = []
    for t in range(len(x)):
        outputs = []
        for h1 in range(H):
            for h2 in range(H):
                alive = [feedback[h1] == y[t] and feedback[h2] == y[s] for s in range(t + 1)]
                logits = [q[t, h1] @ k[s, h2] / np.sqrt(D) for s in range(t + 1)]
                if made.mask == "product":
                    logits = [logit * one for logit, one in zip(logits, alive, strict=True)]
                odds = [np.exp(logit) for logit in logits]
                if made.mask == "inside":
                    odds = [odd * one for odd, one in zip(odds, alive, strict=True)]
                weights = [odd / sum(odds) if sum(odds) > 0 else 0.0 for odd in odds]
                if made.mask == "after":
                    weights = [share * one for share, one in zip(weights, alive, strict=True)]
                outputs.append(sum(share * v[s, h2] for s, share in enumerate(weights)))
        rows.append(made.out.weight.detach().numpy() @ np.concatenate(outputs) + made.out.bias.detach().numpy())
    return np.array(rows).reshape(-1, D)


@pytest.mark.parametrize("mask", MASKS)
def test_every_pair_is_what_the_equations_say(mask: Mask) -> None:
    made, (x_TD, liked, segments) = layer(mask), tokens()
    got = made(x_TD, liked, segments).detach().split(LENGTHS)
    for out, x, y in zip(got, x_TD.split(LENGTHS), liked.split(LENGTHS), strict=True):
        np.testing.assert_allclose(out.numpy(), pair_by_pair(made, x.numpy(), y.tolist()), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("mask", MASKS)
def test_the_weights_told_are_those_computed_with(mask: Mask) -> None:
    made, (x_TD, liked, _) = layer(mask), tokens()
    alone = Segments.of(torch.tensor([len(x_TD)]))
    told = made.attention_weights(x_TD, liked, alone)
    weights_PTT = told.weights
    assert weights_PTT.shape == (H * H, len(x_TD), len(x_TD))
    assert not weights_PTT.triu(1).any()
    v_THK = made.qkv(x_TD).view(-1, 3, H, K)[:, 2]
    outputs = [weights_PTT[h1 * H + h2] @ v_THK[:, h2] for h1 in range(H) for h2 in range(H)]
    expected = made.out(torch.cat(outputs, dim=1))
    torch.testing.assert_close(made(x_TD, liked, alone), expected, rtol=1e-9, atol=1e-12)
    assert len(told.maps) == H * H
    assert told.maps[1] == ("head 1 > head 2" if mask == "none" else "no 1 > no 2")
    assert told.maps[-2] == ("head 4 > head 3" if mask == "none" else "yes 2 > yes 1")


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("place", range(7))
def test_a_changed_event_moves_nothing_before_it(mask: Mask, place: int) -> None:
    """Its vector and its label; it does move its own output. The order inside heads plays no part."""
    made, (x_TD, liked, segments) = layer(mask), tokens()
    first = sum(LENGTHS[:-1])
    before = made(x_TD, liked, segments)
    changed_TD, other = x_TD.clone(), liked.clone()
    changed_TD[first + place] += 1
    other[first + place] = 1 - other[first + place]
    for after in (made(changed_TD, liked, segments), made(changed_TD, other, segments)):
        moved = (after - before).abs().amax(1) > 1e-12
        assert moved.tolist()[: first + place] == [False] * (first + place)
        assert moved[first + place]


def permuted(made: FactorizedHeads, order: list[int]) -> FactorizedHeads:
    """Head h of the new layer is head order[h] of the old; the pairs go along."""
    other = layer(made.mask)
    rows = torch.cat([part * D + head * K + torch.arange(K) for part in range(3) for head in order])
    columns = torch.cat([(h1 * H + h2) * K + torch.arange(K) for h1 in order for h2 in order])
    with torch.no_grad():
        other.qkv.weight.copy_(made.qkv.weight[rows])
        other.qkv.bias.copy_(made.qkv.bias[rows])
        other.out.weight.copy_(made.out.weight[:, columns])
        other.out.bias.copy_(made.out.bias)
    return other


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("order", [[1, 0, 2, 3], [1, 0, 3, 2]])
def test_permuted_heads_permute_the_pairs(mask: Mask, order: list[int]) -> None:
    """Within a feedback, where it masks; the outputs stay."""
    made, (x_TD, liked, segments) = layer(mask), tokens()
    other = permuted(made, order)
    torch.testing.assert_close(other(x_TD, liked, segments), made(x_TD, liked, segments), rtol=1e-9, atol=1e-12)
    alone = Segments.of(torch.tensor([len(x_TD)]))
    pairs = [h1 * H + h2 for h1 in order for h2 in order]
    before, after = (one.attention_weights(x_TD, liked, alone).weights for one in (made, other))
    torch.testing.assert_close(after, before[pairs], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("mask", ["inside", "product", "after"])
def test_the_first_half_of_the_heads_is_negative_feedback(mask: Mask) -> None:
    """The halves swapped, and all labels turned round, nothing changes; the halves alone do."""
    made, (x_TD, liked, segments) = layer(mask), tokens()
    other = permuted(made, [2, 3, 0, 1])
    expected = made(x_TD, liked, segments)
    torch.testing.assert_close(other(x_TD, 1 - liked, segments), expected, rtol=1e-9, atol=1e-12)
    assert (other(x_TD, liked, segments) - expected).abs().max() > 1e-3


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("mask", MASKS)
def test_nothing_to_attend_to_is_zero_and_finite(mask: Mask, dtype: torch.dtype) -> None:
    """Events of one label only leave the pairs with the other without anything: gradients stay finite, too."""
    made = layer(mask).to(dtype)
    x_TD, _, segments = tokens()
    for label in (0, 1):
        x = x_TD.to(dtype).requires_grad_()
        out = made(x, torch.full((len(x_TD),), label), segments)
        out.square().sum().backward()
        assert x.grad is not None
        assert out.isfinite().all()
        assert x.grad.isfinite().all()
    if mask == "inside":
        with torch.no_grad():
            # What is left of the projection is that of the positive pairs.
            made.out.weight.view(D, H, H, K)[:, 2:, 2:].zero_()
            out = made(x_TD.to(dtype), torch.ones(len(x_TD), dtype=torch.int64), segments)
        torch.testing.assert_close(out, made.out.bias.expand_as(out))


def test_plain_heads_are_plain_multi_head_attention() -> None:
    x_TD, liked, segments = tokens()
    torch.manual_seed(3)
    made = FactorizedHeads(D, H, "none", pairs="own").double()
    for x, out in zip(x_TD.split(LENGTHS), made(x_TD, liked, segments).split(LENGTHS), strict=True):
        if len(x) == 0:
            continue
        q, k, v = made.qkv(x).view(len(x), 3, H, K).permute(1, 2, 0, 3)
        seen = torch.ones(len(x), len(x), dtype=torch.bool).tril()
        weights = (q @ k.transpose(1, 2) / D**0.5).masked_fill(~seen, -torch.inf).softmax(-1)
        torch.testing.assert_close(out, made.out((weights @ v).transpose(0, 1).reshape(len(x), D)))
        told = made.attention_weights(x, liked[: len(x)], Segments.of(torch.tensor([len(x)])))
        torch.testing.assert_close(told.weights, weights)
        assert told.maps == ("head 1", "head 2", "head 3", "head 4")
