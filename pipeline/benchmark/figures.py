"""Figures of one dataset and split: quality with intervals, and quality against cost."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pipeline.benchmark.outcome import METRIC

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_FIRST = f"test/full/all/{METRIC}"


def quality(t: Mapping[str, Any]) -> "Figure":
    """A dot and an interval per row, best above; overall and, where the split has both, by kind of target."""
    from matplotlib.figure import Figure

    shown = [s for s in ("all", "repeat", "new") if t["targets"][s] and (s == "all" or _both(t))]
    order = sorted(t["rows"], key=lambda label: t["rows"][label]["mean"][_FIRST])
    figure = Figure(figsize=(4 + 3 * len(shown), 1.2 + 0.3 * len(order)), layout="constrained")
    for axes, stratum in zip(figure.subplots(1, len(shown), sharey=True, squeeze=False)[0], shown, strict=True):
        for place, label in enumerate(order):
            told = t["rows"][label]["interval"].get(f"{METRIC} {stratum}")
            if told is None:
                continue
            low, high = (told["mean"] if told[end] is None else told[end] for end in ("low", "high"))
            error = [[max(told["mean"] - low, 0.0)], [max(high - told["mean"], 0.0)]]
            axes.errorbar([told["mean"]], [place], xerr=error, fmt="o", capsize=3, color="tab:blue")
        axes.set_title(f"{stratum}, n={t['targets'][stratum]:,}")
        axes.set_xlabel("NDCG@10, full ranking")
        axes.grid(alpha=0.3)
        axes.set_axisbelow(True)
        axes.set_yticks(range(len(order)), order)
    figure.suptitle(f"{t['about']['dataset']}, {t['about']['split']}: test targets")
    return figure


def against_cost(t: Mapping[str, Any]) -> "Figure":
    """NDCG@10 over the milliseconds of scoring and over the processor seconds of training, both logarithmic."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 5), layout="constrained")
    for axes, key, name in zip(
        figure.subplots(1, 2, sharey=True),
        ("milliseconds_per_1000", "cpu_seconds"),
        ("ms per 1,000 scored candidates", "processor seconds of training"),
        strict=True,
    ):
        for label, row in t["rows"].items():
            cost = row["cost"][key]
            if not cost:  # a rule is not trained
                continue
            axes.plot([cost], [row["mean"][_FIRST]], "o", color="tab:blue")
            axes.annotate(label, (cost, row["mean"][_FIRST]), textcoords="offset points", xytext=(5, 3), fontsize=7)
        axes.set_xscale("log")
        axes.set_xlabel(name)
        axes.grid(alpha=0.3)
        axes.set_axisbelow(True)
    figure.axes[0].set_ylabel("NDCG@10, full ranking")
    figure.suptitle(f"{t['about']['dataset']}, {t['about']['split']}: quality against cost")
    return figure


def _both(t: Mapping[str, Any]) -> bool:
    return bool(t["targets"]["repeat"] and t["targets"]["new"])
