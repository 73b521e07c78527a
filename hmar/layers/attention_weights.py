"""Attention weights, for explanations. The kernels that train and serve do not return them, so they are worked out once
more, plainly, for one history."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Attention:
    """What one layer looks at in one history of L events.

    Attributes:
        weights: float [M, Q, L], for each map and query the weight of every event, oldest first; 0 where a query sees
            nothing. After a softmax a row sums to 1.
        maps: the names of the M maps: heads, semantic spaces, pairs of heads.
        queries: events: Q is L, the events look at each other; candidates: Q is N, the items asked about look at the
            history.
        read: of events that look at each other, those from which the model goes on: the newest, or all.
        looking: bool [Q], the queries that the layer had; None means all of them.
    """

    weights: Tensor
    maps: tuple[str, ...]
    queries: Literal["events", "candidates"] = "events"
    read: Literal["newest", "all"] = "newest"
    looking: Tensor | None = None

    def of_events(self, candidate: int = 0) -> Tensor:
        """How much each event is looked at where the score comes from, [L]: the mean over the maps of the weights of
        the newest event, of all events, or of that candidate (its place among the items asked about)."""
        mean_QL = self.weights.mean(0)
        if self.queries == "candidates":
            return mean_QL[candidate]
        if self.looking is not None:
            mean_QL = mean_QL[self.looking]
        return mean_QL[-1] if self.read == "newest" else mean_QL.mean(0)

    def each(self) -> "list[Attention]":
        """Every map by itself."""
        return [replace(self, weights=self.weights[m : m + 1], maps=(name,)) for m, name in enumerate(self.maps)]

    def among(self, known: Tensor) -> "Attention":
        """The same in a history in which the events ``known``, bool [L'], are these L: the others weigh nothing, and
        look at nothing."""
        maps, queries, _ = self.weights.shape
        weights = self.weights.new_zeros(maps, queries, len(known))
        weights[:, :, known] = self.weights
        if self.queries == "events":
            rows = weights.new_zeros(maps, len(known), len(known))
            rows[:, known] = weights
            return replace(self, weights=rows, looking=known)
        return replace(self, weights=weights)


@runtime_checkable
class Attending(Protocol):
    """A layer that can say what it looks at, given what its forward pass is given."""

    def attention_weights(self, *args: Any, **kwargs: Any) -> Attention: ...


def recorded(model: nn.Module, run: Callable[[], object]) -> dict[str, Attention]:
    """What the attending layers of a model look at during ``run``, by their names in the model, first to last. A layer
    that is called again is numbered, "blocks.0.attention 2".

    Args:
        run: a forward pass of the model for one history.
    """
    found: dict[str, Attention] = {}
    calls: Counter[str] = Counter()
    hooks = []

    def note(name: str, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], _: object) -> None:
        assert isinstance(layer, Attending)
        calls[name] += 1
        found[name if calls[name] == 1 else f"{name} {calls[name]}"] = layer.attention_weights(*args, **kwargs)

    layer: nn.Module
    for name, layer in model.named_modules():
        if isinstance(layer, Attending):
            hooks.append(layer.register_forward_hook(partial(note, name), with_kwargs=True))
    try:
        with torch.inference_mode():
            run()
    finally:
        for hook in hooks:
            hook.remove()
    return found


def causal_weights(qkv_T3HK: Tensor, lengths: Tensor) -> Tensor:
    """The weights of :func:`hmar.layers.attention.causal_attention`, [H, T, T]: row t those of the tokens that t sees.

    Args:
        lengths: int64 [S], of the segments.
    """
    q_THK, k_THK, _ = qkv_T3HK.unbind(1)
    scores_HTT = torch.einsum("thk,shk->hts", q_THK, k_THK) * q_THK.shape[-1] ** -0.5
    segment_T = torch.repeat_interleave(lengths)
    place_T = torch.arange(len(segment_T), device=segment_T.device)
    seen_TT = (segment_T[:, None] == segment_T) & (place_T[:, None] >= place_T)
    weights_HTT: Tensor = scores_HTT.masked_fill(~seen_TT, -torch.inf).softmax(-1)
    return weights_HTT


def heads(count: int) -> tuple[str, ...]:
    """head 1, head 2, ..."""
    return tuple(f"head {number + 1}" for number in range(count))
