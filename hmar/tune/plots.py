"""Figures of a study, drawn without a display."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from hmar.tune.study import Tried

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SHOWN = 20
"""Dimensions in the plot of importances."""


def history(tried: Sequence[Tried], metric: str) -> "Figure":
    """The value of every trial in order, and the best so far."""
    figure, axes = _axes()
    for state, marker in (("complete", "o"), ("pruned", "x")):
        of = [one for one in tried if one.state == state and one.value is not None]
        axes.scatter([one.number for one in of], [one.value or 0.0 for one in of], marker=marker, label=state, s=24)
    complete = [one for one in tried if one.state == "complete" and one.value is not None]
    best = [max(one.value or 0.0 for one in complete[: place + 1]) for place in range(len(complete))]
    axes.step([one.number for one in complete], best, where="post", label="best so far", linewidth=1, color="gray")
    axes.set_xlabel("trial")
    axes.set_ylabel(f"validation {metric}")
    axes.set_title("Trials")
    axes.legend(frameon=False)
    return figure


def curves(tried: Sequence[Tried], best: int | None, metric: str) -> "Figure":
    """The validation metric by epoch of every trial, pruned ones dashed, the best one thick."""
    figure, axes = _axes()
    for one in tried:
        style = "--" if one.state == "pruned" else "-"
        chosen = one.number == best
        label = f"trial {one.number}, the best" if chosen else None
        axes.plot(
            list(one.curve),
            list(one.curve.values()),
            style,
            linewidth=2.5 if chosen else 0.8,
            alpha=1 if chosen else 0.6,
            label=label,
        )
    axes.set_xlabel("epoch")
    axes.set_ylabel(f"validation {metric}")
    axes.set_title("Validation by epoch; dashed: cut short")
    if best is not None:
        axes.legend(frameon=False)
    return figure


def importances(found: Mapping[str, float]) -> "Figure":
    """How much each dimension matters, as bars."""
    figure, axes = _axes()
    names = list(found)[:_SHOWN]
    axes.barh(names[::-1], [found[name] for name in names[::-1]])
    axes.set_xlabel("importance (PED-ANOVA)")
    axes.set_title("What tells good trials from the rest")
    return figure


def _axes() -> "tuple[Figure, Axes]":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    axes.grid(alpha=0.3)
    return figure, axes
