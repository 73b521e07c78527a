"""Pictures of explanations, drawn without a display."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hmar.explain.explanation import Explanation
from hmar.explain.sample import Sample
from hmar.explain.screen import Name

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NAMED = 5
"""Events whose item is written beside the bar."""
MOST_MAPS = 16
"""Maps of one layer that are rows of their own; of more, the mean is."""
_BAR = 0.24
"""Height of a bar with its name beside it, inches."""


def carried(found: Explanation, name: Name, behaviors: Sequence[str], title: str) -> "Figure":
    """What each event, each behavior and each term carried, and what the layers look at, event by event."""
    from matplotlib.figure import Figure

    rows = _maps(found)
    bars = max(2.0, 0.5 + _BAR * max(len(found.terms), len(found.of_behavior)))
    heights = [3.0, bars, *([0.4 + 0.16 * len(rows)] if rows else [])]
    figure = Figure(figsize=(11, 0.5 + sum(heights)), layout="constrained")
    grid = figure.add_gridspec(len(heights), 2, height_ratios=heights)
    _events(figure.add_subplot(grid[0, :]), found, name, behaviors)
    by_behavior = {behaviors[code]: value for code, value in found.of_behavior.items()}
    _bars(figure.add_subplot(grid[1, 0]), by_behavior, "Lost without all events of a behavior")
    _bars(figure.add_subplot(grid[1, 1]), found.terms, f"What the margin of {found.margin:.3f} is the sum of")
    if rows:
        _heat(figure.add_subplot(grid[2, :]), found, rows)
    figure.suptitle(title)
    return figure


def sampled(sample: Sample) -> "Figure":
    """Share of the margins lost by behavior, terms by name, and each layer's attention by behavior."""
    from matplotlib.figure import Figure

    layers = list(sample.attention)
    height = max(4.5, 1.5 + _BAR * max(len(sample.terms), len(sample.lost)))
    figure = Figure(figsize=(5.5 * (2 + len(layers)), height), layout="constrained")
    axes = figure.subplots(1, 2 + len(layers), squeeze=False)[0]
    shares = {name: value for name, value in sample.lost.items() if value is not None}
    _bars(axes[0], shares, "Share of the margin lost\nwithout all events of a behavior")
    _bars(axes[1], sample.terms, f"Mean margin {sample.margin:.3f} by terms")
    for place, layer in zip(axes[2:], layers, strict=True):
        _matrix(place, sample, layer)
    figure.suptitle(f"What carries the first recommendation of {sample.users:,} users")
    return figure


def _events(axes: "Axes", found: Explanation, name: Name, behaviors: Sequence[str]) -> None:
    codes = found.past.behavior[found.events]
    heights = np.nan_to_num(found.of_event)
    for code in np.unique(codes):
        own = np.flatnonzero(codes == code)
        axes.bar(own, heights[own], width=0.9, color=f"C{code}", label=behaviors[code])
    for place in np.argsort(-np.abs(heights), kind="stable")[:NAMED]:
        if heights[place]:
            item = str(name(int(found.past.item[found.events[place]])))
            offset = (0, 3) if heights[place] > 0 else (0, -3)
            up = "bottom" if heights[place] > 0 else "top"
            axes.annotate(
                item, (place, heights[place]), xytext=offset, textcoords="offset points", ha="center", va=up, fontsize=7
            )
    axes.axhline(0, color="black", linewidth=0.6)
    axes.set_title("Lost without one event")
    axes.set_xlabel("events that are read, oldest first")
    axes.set_ylabel("margin")
    axes.margins(y=0.15)
    if len(codes):
        axes.legend(frameon=False, fontsize=8)


def _bars(axes: "Axes", values: "dict[str, float]", title: str) -> None:
    names = list(values)
    heights = np.nan_to_num(np.array([values[name] for name in names], float))
    bars = axes.barh(names, heights, color=["C0" if height >= 0 else "C3" for height in heights])
    axes.bar_label(bars, ["all" if np.isnan(values[name]) else f"{values[name]:.3f}" for name in names], fontsize=8)
    axes.axvline(0, color="black", linewidth=0.6)
    axes.invert_yaxis()
    axes.margins(x=0.2)
    axes.set_title(title, fontsize=10)


def _maps(found: Explanation) -> dict[str, NDArray[np.float64]]:
    """What each map of each layer gives the events, by a name for its row."""
    rows: dict[str, NDArray[np.float64]] = {}
    for layer, one in found.attention.items():
        if 1 < len(one.maps) <= MOST_MAPS:
            rows |= {f"{layer}, {of.maps[0]}": of.of_events().double().cpu().numpy() for of in one.each()}
        else:
            rows[layer] = one.of_events().double().cpu().numpy()
    return rows


def _heat(axes: "Axes", found: Explanation, rows: "dict[str, NDArray[np.float64]]") -> None:
    image = axes.imshow(np.stack(list(rows.values())), aspect="auto", cmap="Blues", vmin=0, interpolation="nearest")
    axes.set_yticks(range(len(rows)), list(rows), fontsize=7)
    axes.set_xlim(-0.5, len(found.events) - 0.5)
    axes.set_title("Attention", fontsize=10)
    axes.figure.colorbar(image, ax=axes)


def _matrix(axes: "Axes", sample: Sample, layer: str) -> None:
    matrix = np.array([[np.nan if cell is None else cell for cell in row] for row in sample.attention[layer]])
    axes.imshow(matrix, cmap="Blues", vmin=0, vmax=max(1.0, float(np.nanmax(matrix, initial=0.0))))
    labels = [f"{name}\n({share:.0%})" for name, share in zip(sample.behaviors, sample.read, strict=True)]
    axes.set_xticks(range(len(labels)), labels, fontsize=8)
    axes.set_yticks(range(len(matrix)), sample.queries[layer], fontsize=8)
    for (y, x), value in np.ndenumerate(matrix):
        if not np.isnan(value):
            axes.text(x, y, f"{value:.2f}", ha="center", va="center", fontsize=8, color="w" if value > 0.6 else "k")
    axes.set_xlabel("looked at (share of the events)")
    axes.set_title(f"Attention by behavior\n{layer}", fontsize=10)
