"""Figures of an evaluation, drawn without a display."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hmar.atomic import storage_errors
from hmar.evaluate.names import CANDIDATES, LENGTH_STRATA, RANK_METRICS, full_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SHOWN = ("hr@10", "ndcg@10", "mrr")


def hr_by_length(summary: Mapping[str, float], part: str, metric: str = "hr@10", candidates: str = "full") -> "Figure":
    """The metric by history length, with intervals and the number of targets, or of impressions.

    Args:
        candidates: full, or for a metric of labelled impressions impressions or impressions_<task>.
    """
    counted, among = ("targets", "full ranking")
    if candidates.startswith("impressions"):
        counted, among = "impressions", "labelled " + candidates.replace("_", " of ", 1)
    figure, axes = _figure()
    names = [name for name in LENGTH_STRATA if full_name(part, candidates, name, metric) in summary]
    for place, stratum in enumerate(names):
        name = full_name(part, candidates, stratum, metric)
        _point(axes, place, summary, name)
        count = int(summary[full_name(part, candidates, stratum, counted)])
        axes.annotate(f"n={count}", (place, summary[name]), textcoords="offset points", xytext=(8, 4), fontsize=8)
    labels = [name.removeprefix("length_").replace("-up", "+") for name in names]
    axes.set_xticks(range(len(names)), labels)
    axes.set_xlabel("events before")
    axes.set_ylabel(f"{metric.upper()}, {among}")
    axes.set_xlim(-0.5, max(len(names), 1) - 0.5)
    axes.set_ylim(bottom=0)
    axes.set_title(f"{metric.upper()} by history length ({part})")
    return figure


def metric_bars(summary: Mapping[str, float], part: str) -> "Figure":
    """Full against sampled candidates, and repeat against new targets, side by side."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    _bars(left, summary, {name: (part, name, "all") for name in CANDIDATES})
    left.set_title(f"All targets by candidates ({part})")
    _bars(right, summary, {name: (part, "full", name) for name in ("repeat", "new")})
    right.set_title(f"Full ranking by kind of target ({part})")
    return figure


def behavior_mix(counts: Mapping[str, int]) -> "Figure":
    """Events per behavior, in funnel order."""
    figure, axes = _figure()
    names = list(counts)
    bars = axes.bar(names, [counts[name] for name in names])
    total = max(sum(counts.values()), 1)
    axes.bar_label(bars, [f"{count:,} ({count / total:.1%})" for count in counts.values()], fontsize=8)
    axes.set_ylabel("events")
    axes.set_title("Behavior mix of the snapshot")
    return figure


def write(figure: "Figure", path: Path) -> Path:
    """The figure as PNG; equal figures give equal bytes."""
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=120, metadata={"Software": None})
    return path


def _figure() -> "tuple[Figure, Axes]":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    axes.grid(alpha=0.3)
    axes.set_axisbelow(True)
    return figure, axes


def _error(summary: Mapping[str, float], name: str) -> list[list[float]]:
    """How far the interval reaches below and above; a skewed resampling can leave the value itself outside."""
    value = summary[name]
    below, above = value - summary.get(f"{name}/low", value), summary.get(f"{name}/high", value) - value
    return [[max(below, 0.0)], [max(above, 0.0)]]


def _point(axes: Any, place: float, summary: Mapping[str, float], name: str) -> None:
    axes.errorbar([place], [summary[name]], yerr=_error(summary, name), fmt="o", capsize=4, color="tab:blue")


def _bars(axes: Any, summary: Mapping[str, float], groups: Mapping[str, tuple[str, str, str]]) -> None:
    shown: Sequence[str] = [metric for metric in RANK_METRICS if metric in SHOWN]
    present = {label: key for label, key in groups.items() if full_name(*key, shown[0]) in summary}
    width = 0.8 / max(len(present), 1)
    for number, (label, key) in enumerate(present.items()):
        names = [full_name(*key, metric) for metric in shown]
        errors = [_error(summary, name) for name in names]
        axes.bar(
            [place + (number - (len(present) - 1) / 2) * width for place in range(len(names))],
            [summary[name] for name in names],
            width,
            label=label,
            yerr=[[low[0] for low, _ in errors], [high[0] for _, high in errors]],
            capsize=3,
        )
    axes.set_xticks(range(len(shown)), [metric.upper() for metric in shown])
    axes.grid(alpha=0.3, axis="y")
    axes.set_axisbelow(True)
    if present:
        axes.legend(frameon=False)
