"""Figures of the report as inline SVG that takes the page's text color, so that it reads in light and in dark."""

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLORS = ("#3b82f6", "#f97316", "#10b981", "#a855f7", "#ec4899", "#eab308", "#06b6d4", "#94a3b8")
"""One per model, in the order of the run; mid tones, legible on white and on near-black."""

_TEXT = "#010203"
"""Drawn instead of the text color and replaced by ``currentColor``: matplotlib knows no such thing."""


def curves(series: Mapping[str, Sequence[tuple[float, float]]], label: str) -> str:
    """One line per model over epochs; empty where there is nothing to draw."""
    from matplotlib.ticker import MaxNLocator

    if not any(series.values()):
        return ""
    figure, axes = _canvas(5.6, 3.2)
    for place, (name, points) in enumerate(series.items()):
        if points:
            x, y = zip(*points, strict=True)
            axes.plot(x, y, color=COLORS[place % len(COLORS)], marker="." if len(x) < 40 else None, label=name)
    axes.set_xlabel("epoch")
    axes.set_ylabel(label)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return _svg(figure, axes, label)


def by_length(
    series: Mapping[str, Mapping[str, tuple[float, float, float]]], buckets: Sequence[str], label: str
) -> str:
    """A metric with its interval (value, low, high) by history length, one line per model."""
    shown = [bucket for bucket in buckets if any(bucket in values for values in series.values())]
    if not shown:
        return ""
    figure, axes = _canvas(5.6, 3.2)
    width = 0.6 / max(len(series), 1)
    for place, (name, values) in enumerate(series.items()):
        x = [index + (place - (len(series) - 1) / 2) * width for index, bucket in enumerate(shown) if bucket in values]
        present = [values[bucket] for bucket in shown if bucket in values]
        y = [value for value, _, _ in present]
        below = [max(value - low, 0) for value, low, _ in present]
        above = [max(high - value, 0) for value, _, high in present]
        color = COLORS[place % len(COLORS)]
        axes.errorbar(x, y, yerr=[below, above], fmt="o", markersize=4, color=color, elinewidth=1, label=name)
    axes.set_xticks(range(len(shown)), shown)
    axes.set_xlabel("events in the history")
    axes.set_ylabel(label)
    axes.set_ylim(bottom=0)
    return _svg(figure, axes, label)


def bars(counts: Mapping[str, float]) -> str:
    """Horizontal bars with their numbers, for the behavior mix."""
    if not counts:
        return ""
    figure, axes = _canvas(5.6, 0.5 + 0.42 * len(counts))
    names = list(counts)[::-1]
    values = [counts[name] for name in names]
    drawn = axes.barh(names, values, color=COLORS[0], height=0.6)
    total = sum(values) or 1
    axes.bar_label(drawn, [f"{value:,.0f}  ({value / total:.1%})" for value in values], padding=4, color=_TEXT)
    axes.set_xlim(0, max(values) * 1.35 or 1)
    axes.xaxis.set_visible(False)
    axes.grid(visible=False)
    for side in ("top", "right", "bottom"):
        axes.spines[side].set_visible(False)
    return _svg(figure, None, "behavior mix")


def stacked(counts: Mapping[str, Mapping[str, int]], names: Sequence[str]) -> str:
    """One column per key of ``counts``, in its order, of the numbers by name; for events over time."""
    if not counts:
        return ""
    figure, axes = _canvas(5.6, 3.2)
    below = [0] * len(counts)
    for place, name in enumerate(names):
        heights = [column.get(name, 0) for column in counts.values()]
        axes.bar(range(len(counts)), heights, bottom=below, color=COLORS[place % len(COLORS)], width=0.8, label=name)
        below = [low + height for low, height in zip(below, heights, strict=True)]
    step = max(1, len(counts) // 6)
    shown = range(0, len(counts), step)
    labels = list(counts)
    axes.set_xticks(list(shown), [labels[place] for place in shown], rotation=30, ha="right")
    axes.yaxis.set_major_formatter("{x:,.0f}")
    return _svg(figure, axes, "over time")


def _canvas(width: float, height: float) -> "tuple[Figure, Axes]":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    axes.tick_params(colors=_TEXT, labelsize=9)
    for spine in axes.spines.values():
        spine.set_color(_TEXT)
        spine.set_alpha(0.4)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.xaxis.label.set_color(_TEXT)
    axes.yaxis.label.set_color(_TEXT)
    axes.grid(color=_TEXT, alpha=0.12, linewidth=0.6)
    return figure, axes


def _svg(figure: "Figure", axes: "Axes | None", name: str) -> str:
    import matplotlib as mpl

    if axes is not None:
        place = {"loc": "lower left", "bbox_to_anchor": (0, 1), "ncols": 4}  # above the plot: it never hides a point
        legend = axes.legend(frameon=False, fontsize=9, **place)
        for text in legend.get_texts():
            text.set_color(_TEXT)
    options: dict[str, Any] = {"svg.hashsalt": name, "svg.fonttype": "none", "font.family": "sans-serif"}
    stream = io.StringIO()
    with mpl.rc_context(options):
        figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = stream.getvalue()
    return svg[svg.index("<svg") :].replace(_TEXT, "currentColor")
