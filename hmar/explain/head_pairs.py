"""How much attention each pair of heads passes from one feedback to another (DFAR, figure 4)."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hmar.explain.looks import Look
from hmar.models.ranker import Ranker

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SAID = ("no", "yes")


@dataclass(frozen=True)
class PairMass:
    """Means over the events of many histories.

    Attributes:
        pairs: P names. mass: float64 [P, 2, 2], of the attention of an event that says no (0) or not (1), the share
            that goes to events that say no and to others; rows add up to 1 where a pair attends to all it sees; NaN
            where no event says so. events: int64 [2], how many.
    """

    pairs: tuple[str, ...]
    mass: NDArray[np.float64]
    events: NDArray[np.int64]

    def describe(self) -> dict[str, Any]:
        """JSON; None where no event says so."""
        mass = np.where(np.isnan(self.mass), np.array(None), self.mass)
        return {"pairs": list(self.pairs), "mass": mass.tolist(), "events": self.events.tolist()}


def pair_mass(looked: Iterable[Look], ranker: Ranker, layer: str = "block.attention") -> PairMass:
    """Over what a ranker looked at in many histories.

    Args:
        ranker: knows which events say no. layer: one in which events look at each other.
    """
    pairs: tuple[str, ...] = ()
    mass: NDArray[np.float64] | float = 0.0
    events = np.zeros(2, np.int64)
    for history, layers in looked:
        found = layers[layer]
        said_T2 = np.eye(2)[ranker.liked(history).cpu().numpy()]
        pairs = found.maps
        mass = mass + np.einsum("ta,pts,sb->pab", said_T2, found.weights.double().cpu().numpy(), said_T2)
        events += said_T2.sum(0).astype(np.int64)
    with np.errstate(invalid="ignore"):
        return PairMass(pairs, mass / events[:, None], events)


def picture(found: PairMass, title: str) -> "Figure":
    """A matrix per pair: rows who looks, columns what is looked at."""
    from matplotlib.figure import Figure

    wide = max(int(len(found.pairs) ** 0.5), 1)
    high = -(-len(found.pairs) // wide)
    figure = Figure(figsize=(1 + 2.2 * wide, 0.8 + 2 * high), layout="constrained")
    axes = figure.subplots(high, wide, squeeze=False)
    for place in axes.flat:
        place.set_axis_off()
    image = None
    for place, name, mass in zip(axes.flat, found.pairs, found.mass, strict=False):
        place.set_axis_on()
        image = place.imshow(mass, cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
        for (row, column), value in np.ndenumerate(mass):
            shade = "white" if value > 0.6 else "black"
            told = "" if np.isnan(value) else f"{value:.2f}"
            place.text(column, row, told, ha="center", va="center", color=shade, fontsize=8)
        place.set_xticks(range(2), SAID, fontsize=7)
        place.set_yticks(range(2), SAID, fontsize=7)
        place.set_title(name, fontsize=8)
    if image is not None:
        figure.colorbar(image, ax=axes, label="share of an event's attention")
    figure.suptitle(title, fontsize=9, wrap=True)
    return figure
