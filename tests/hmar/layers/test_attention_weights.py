"""What a layer says that it looks at is what it has computed with."""

import pytest
import torch
from torch import Tensor, nn

from hmar.layers.attention_weights import Attention, recorded
from hmar.layers.behavior_encoder import BehaviorEncoder
from hmar.layers.grouped import BehaviorGroups
from hmar.layers.permute import permute
from hmar.layers.segments import Segments
from hmar.layers.self_attention import SelfAttention
from hmar.layers.target_attention import TargetAttention
from tests.support.models import pack_rows

D, HEADS, BEHAVIORS = 12, 3, 4
ROW = [(t, t * t % 3, 10 * t) for t in range(11)]  # behavior 3 is absent


def close(got: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-10)


@pytest.fixture(name="x_TD")
def inputs() -> Tensor:
    torch.manual_seed(0)
    return torch.randn(len(ROW), D, dtype=torch.float64)


def test_self_attention(x_TD: Tensor) -> None:
    layer = SelfAttention(D, HEADS).double()
    segments = Segments.of_rows(pack_rows([ROW], BEHAVIORS))
    weights_HTT = layer.attention_weights(x_TD, segments).weights
    v_THK = layer.qkv(x_TD).view(len(ROW), 3, HEADS, -1)[:, 2]
    close(torch.einsum("hts,shk->thk", weights_HTT, v_THK).reshape(x_TD.shape), layer(x_TD, segments))
    close(weights_HTT.sum(-1), torch.ones(HEADS, len(ROW), dtype=torch.float64))


def test_behavior_encoder(x_TD: Tensor) -> None:
    """The weights are in the order of the events, though the layer has grouped them."""
    layer = BehaviorEncoder(BEHAVIORS, D, HEADS, dropout=0.0).double()
    torch.nn.init.normal_(layer.rho)
    histories = pack_rows([ROW], BEHAVIORS)
    groups = BehaviorGroups.of(histories, BEHAVIORS)
    grouped_TD = permute(x_TD, groups.order, groups.place)
    weights_HTT = layer.attention_weights(grouped_TD, groups).weights
    other = histories.behavior[:, None] != histories.behavior
    assert not weights_HTT[:, other].any()
    assert not weights_HTT.triu(1).any()

    v_TD = torch.stack([
        x @ layer.qkv.weight[b, 2 * D :].T + layer.qkv.bias[b, 2 * D :]
        for x, b in zip(x_TD, histories.behavior.tolist(), strict=True)
    ])  # fmt: skip
    a_TD = torch.einsum("hts,shk->thk", weights_HTT, v_TD.view(len(ROW), HEADS, -1)).reshape(x_TD.shape)
    a_TD = permute(a_TD, groups.order, groups.place)
    y_TD = a_TD + layer.outer(layer.inner(a_TD, groups.sizes).relu(), groups.sizes)
    close(y_TD + layer.rho[groups.behavior, None] * grouped_TD, layer(grouped_TD, groups))


@pytest.mark.parametrize("normalize", ["softmax", "sum"])
def test_target_attention(x_TD: Tensor, normalize: str) -> None:
    layer = TargetAttention(D, [5], normalize).double()  # type: ignore[arg-type]
    histories = pack_rows([ROW], BEHAVIORS)
    queries = torch.randn(1, 7, D, dtype=torch.float64)
    found = layer.attention_weights(layer.keys(x_TD), queries, histories)
    assert found.weights.shape == (1, 7, len(ROW))
    close(found.weights @ x_TD, layer(layer.keys(x_TD), queries, histories))


def test_what_is_read_of_the_weights() -> None:
    weights = torch.arange(2 * 3 * 3.0).view(2, 3, 3)
    mean = weights.mean(0)
    close(Attention(weights, ("a", "b")).of_events(), mean[2])
    close(Attention(weights, ("a", "b"), read="all").of_events(), mean.mean(0))
    close(Attention(weights, ("a", "b"), "candidates").of_events(1), mean[1])


def test_events_that_are_not_known_look_at_nothing() -> None:
    """And what is read of the weights is what was read without them."""
    weights = torch.rand(2, 3, 3)
    known = torch.tensor([True, False, True, True, False])
    for read in ("newest", "all"):
        one = Attention(weights, ("a", "b"), read=read)  # type: ignore[arg-type]
        among = one.among(known)
        assert among.weights.shape == (2, 5, 5)
        close(among.of_events()[known], one.of_events())
        assert among.of_events()[~known].tolist() == [0, 0]
    asked = Attention(weights, ("a", "b"), "candidates")
    close(asked.among(known).of_events(1)[known], asked.of_events(1))


def test_layers_are_named_numbered_and_left_as_they_were(x_TD: Tensor) -> None:
    layers = nn.ModuleDict({"first": SelfAttention(D, 1), "second": nn.ModuleList([SelfAttention(D, 2)])}).double()
    segments = Segments.of_rows(pack_rows([ROW], BEHAVIORS))
    second = layers["second"][0]  # type: ignore[index]
    found = recorded(layers, lambda: second(second(layers["first"](x_TD, segments), segments), segments))
    assert list(found) == ["first", "second.0", "second.0 2"]
    assert [one.maps for one in found.values()] == [("head 1",), ("head 1", "head 2"), ("head 1", "head 2")]
    assert not second._forward_hooks

    def fails() -> None:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        recorded(layers, fails)
    assert not second._forward_hooks
