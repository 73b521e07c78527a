"""What the layers of latent spaces say that they look at is what they compute with."""

import pytest
import torch

from hmar.layers.latent_spaces import CandidateAttention, Score, SpaceAttention
from tests.support.models import pack_rows

D, SPACES = 12, 3
HISTORY = pack_rows([[(t, t % 2, 10 * t) for t in range(7)]], behaviors=2)


@pytest.mark.parametrize("score", ["bilinear", "dot"])
def test_events(score: Score) -> None:
    torch.manual_seed(0)
    layer = SpaceAttention(D, SPACES, score, dropout=0.0).double()
    u_TD = torch.randn(7, D, dtype=torch.float64)
    looked = layer.attention_weights(u_TD, HISTORY)
    assert (looked.maps, looked.queries, looked.read) == (("space 1", "space 2", "space 3"), "events", "all")
    v_TKE = layer.queries_keys_values(u_TD)[:, 2]
    c_TD = torch.einsum("kts,ske->tke", looked.weights, v_TKE).reshape(u_TD.shape)
    x_TD = layer.attention_norm(u_TD + c_TD)
    expected = layer.feed_forward_norm(x_TD + layer.outer(layer.inner(x_TD).relu()))
    torch.testing.assert_close(layer(u_TD, HISTORY), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("score", ["bilinear", "dot"])
def test_candidates(score: Score) -> None:
    torch.manual_seed(0)
    layer = CandidateAttention(D, SPACES, score).double()
    y_TD, h_BND = torch.randn(7, D, dtype=torch.float64), torch.randn(1, 4, D, dtype=torch.float64)
    keys, values = layer.keys(y_TD, HISTORY)
    looked = layer.attention_weights(keys, values, h_BND, HISTORY)
    assert (looked.maps, looked.queries) == (("space 1", "space 2", "space 3"), "candidates")
    v_TKE = layer.value(y_TD).view(7, SPACES, D // SPACES)
    expected = torch.einsum("knl,lke->nke", looked.weights, v_TKE).reshape(1, 4, D)
    torch.testing.assert_close(layer(keys, values, h_BND, HISTORY), expected, rtol=1e-10, atol=1e-10)
