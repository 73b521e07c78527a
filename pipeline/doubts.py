"""What a run that succeeded should not be quiet about: nothing in it is of use to anybody."""

from typing import TYPE_CHECKING

from pipeline.results import Evaluated

if TYPE_CHECKING:
    from rich.console import Console


def doubts(evaluated: list[Evaluated], metric: str, users: int | None) -> list[str]:
    """A sentence per doubt; none where all is in order.

    Args:
        metric: that chose among the models on the validation targets.
        users: with recommendations; None where it is not known.
    """
    found: list[str] = []
    values = [one.metrics["validation"][metric] for one in evaluated if metric in one.metrics.get("validation", {})]
    if values and not any(values):
        found.append(
            f"validation {metric} is 0 for every model: no target was found, and the choice among them is a tie"
        )
    if users == 0:
        found.append(
            "recommendations were written for 0 users: nothing is left to recommend "
            "(snapshot.repeats is false and everything is used up)"
        )
    return found


def warn(doubts: list[str], console: "Console") -> None:
    """A line for each."""
    for doubt in doubts:
        console.print(f"warning: {doubt}", style="yellow", highlight=False, markup=False, soft_wrap=True)
