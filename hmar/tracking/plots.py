"""Figures of a training, drawn without a display."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def loss_curve(epochs: Sequence[int], losses: Sequence[float]) -> "Figure":
    """Mean training loss per epoch."""
    figure = _curve(epochs, losses, "training loss")
    figure.axes[0].set_title("Loss")
    return figure


def validation_curve(
    epochs: Sequence[int],
    values: Sequence[float],
    best_epoch: int,
    metric: str,
    part: str = "validation",
    among: str = "full",
) -> "Figure":
    """The metric per evaluated epoch, on ``part``'s targets ``among`` which candidates; the chosen epoch is marked."""
    figure = _curve(epochs, values, f"{part} {metric}")
    axes = figure.axes[0]
    if best_epoch in epochs:
        axes.axvline(best_epoch, linestyle="--", linewidth=1, color="gray", label=f"best: epoch {best_epoch}")
        axes.legend(frameon=False)
    axes.set_title(f"{metric} on the {part} targets, {among} ranking")
    return figure


def _curve(x: Sequence[int], y: Sequence[float], label: str) -> "Figure":
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(x, y, marker="." if len(x) < 60 else None)
    axes.set_xlabel("epoch")
    axes.set_ylabel(label)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    return figure
