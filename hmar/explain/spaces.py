"""What each map of a model's attention (a head, a latent semantic space) looks at on average: which behaviors, and how
long ago, as in ATRank's case study."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hmar.explain.looks import Look
from hmar.layers.event_inputs import BUCKETS, time_buckets

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DAYS = tuple(2**power - 1 for power in range(BUCKETS))
"""Of each time bucket: its events are at least so many days old."""


@dataclass(frozen=True)
class MeanAttention:
    """Means over the events of many histories.

    Attributes:
        maps: M names. behaviors: R names.
        weight: float64 [M, R, BUCKETS], an event's attention times the length of its history: 1 is its even share; NaN
            where there are no events. events: int64 [R, BUCKETS], how many.
    """

    maps: tuple[str, ...]
    behaviors: tuple[str, ...]
    weight: NDArray[np.float64]
    events: NDArray[np.int64]

    def describe(self) -> dict[str, Any]:
        """JSON; None where there are no events."""
        weight = np.where(np.isnan(self.weight), np.array(None), self.weight)
        maps, behaviors = list(self.maps), list(self.behaviors)
        return {"maps": maps, "behaviors": behaviors, "weight": weight.tolist(), "events": self.events.tolist()}


def mean_attention(looked: Iterable[Look], behaviors: tuple[str, ...]) -> dict[str, MeanAttention]:
    """By layer, over what a model looked at in many histories; empty if there was nothing.

    An event's attention is a mean over the candidates of the moment, or, where events look at each other, over those
    that the model goes on from (:class:`hmar.layers.attention_weights.Attention`).

    Args:
        behaviors: names, in the order of their codes.
    """
    shape = (len(behaviors), BUCKETS)
    sums: dict[str, NDArray[np.float64]] = {}
    names: dict[str, tuple[str, ...]] = {}
    events = np.zeros(shape, np.int64)
    for history, layers in looked:
        cells = (history.behavior * BUCKETS + time_buckets(history)).cpu().numpy()
        events += np.bincount(cells, minlength=events.size).reshape(shape)
        for layer, found in layers.items():
            newest = found.queries == "events" and found.read == "newest"
            weights = found.weights[:, -1:] if newest else found.weights
            share = (weights.mean(1) * len(cells)).double().cpu().numpy()
            names[layer] = found.maps
            total = sums.setdefault(layer, np.zeros((len(found.maps), events.size)))
            for one, own in zip(total, share, strict=True):
                one += np.bincount(cells, weights=own, minlength=events.size)
    with np.errstate(invalid="ignore"):
        return {
            layer: MeanAttention(names[layer], behaviors, total.reshape(-1, *shape) / events, events)
            for layer, total in sums.items()
        }


def picture(found: dict[str, MeanAttention], title: str) -> "Figure":
    """A row per layer, in it a matrix of behaviors and time buckets per map, at most eight."""
    from matplotlib.figure import Figure

    wide = min(max((len(one.maps) for one in found.values()), default=1), 8)
    figure = Figure(figsize=(1 + 3 * wide, 1 + 1.9 * max(len(found), 1)), layout="constrained")
    axes = figure.subplots(max(len(found), 1), wide, squeeze=False)
    for place in axes.flat:
        place.set_axis_off()
    image = None
    for row, (layer, one) in zip(axes, found.items(), strict=False):
        for column, (place, name, weight) in enumerate(zip(row, one.maps, one.weight, strict=False)):
            place.set_axis_on()
            image = place.imshow(weight, aspect="auto", cmap="Blues", vmin=0, vmax=3, interpolation="nearest")
            place.set_yticks(range(len(one.behaviors)), [] if column else one.behaviors, fontsize=7)
            place.set_xticks(range(BUCKETS), [str(days) for days in DAYS], fontsize=6, rotation=60)
            place.set_title(f"{layer}, {name}", fontsize=8)
            place.set_xlabel("days ago, at least", fontsize=7)
    if image is not None:
        figure.colorbar(image, ax=axes, label="attention, times an even share", extend="max")
    figure.suptitle(title, fontsize=9, wrap=True)
    return figure
