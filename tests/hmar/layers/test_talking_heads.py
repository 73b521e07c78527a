"""What heads reach together and not alone."""

import itertools

import torch

from hmar.layers.segments import Segments
from hmar.layers.self_attention import SelfAttention
from hmar.layers.talking_heads import TalkingHeads

PLACES = (-1.0, 0.0, 1.0)
"""Three events stand on a line, and a fourth one asks for one of them."""


def asked(place: float) -> torch.Tensor:
    """[4, 4]: place and its square of the events; place and one of what is asked."""
    events = [[at, at**2, 0.0, 0.0] for at in PLACES]
    return torch.tensor([*events, [0.0, 0.0, place, 1.0]])


def chosen(layer: TalkingHeads | SelfAttention) -> list[list[int]]:
    """Per head the event that has most weight when each of the three places is asked for."""
    maps = [
        layer.attention_weights(asked(place), Segments(torch.tensor([4]))).weights[:, -1, :3].argmax(-1).tolist()
        for place in PLACES
    ]
    return [list(head) for head in zip(*maps, strict=True)]


@torch.no_grad()
def test_heads_of_width_one_find_any_event_on_a_line_if_they_speak() -> None:
    """The logit -(x - a)^2 is the sum of two products, 2 a x and -x^2. A head alone has one of them: it puts its events
    in one order, or in the reverse, and never has the most weight on the one in between."""
    layer = TalkingHeads(4, 4)
    layer.qkv.bias.zero_()
    layer.qkv.weight.zero_()
    q, k, _ = layer.qkv.weight.view(3, 4, 4)
    q[0, 2], k[0, 0] = 10.0, 2.0
    q[1, 3], k[1, 1] = 10.0, -1.0
    layer.logits[0] = torch.tensor([1.0, 1.0, 0.0, 0.0])
    assert chosen(layer)[0] == [0, 1, 2]
    layer.logits.copy_(torch.eye(4))
    assert [0, 1, 2] not in chosen(layer)


@torch.no_grad()
def test_heads_of_width_one_do_not_find_it_alone() -> None:
    torch.manual_seed(0)
    found: set[tuple[int, ...]] = set()
    for _ in range(300):
        layer = SelfAttention(4, 4)
        layer.qkv.weight.normal_(std=3)
        layer.qkv.bias.normal_(std=3)
        found |= {tuple(head) for head in chosen(layer)}
    assert not found & set(itertools.permutations(range(3)))
    assert len(found) > 10
