"""An explanation in a terminal."""

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime

import numpy as np
from rich.box import SIMPLE
from rich.console import Group
from rich.table import Table
from rich.text import Text

from hmar.explain.explanation import Explanation

Name = Callable[[int], object]
"""The source id of an item."""


def shown(found: Explanation, name: Name, behaviors: Sequence[str], events: int = 10) -> Group:
    """The events that carried the item, most first, its behaviors, and the sum that its margin is.

    Args:
        events: at most so many; those that moved the margin most.
    """
    told = f"score {found.score:.4f}, {found.margin:.4f} above the mean of items the user never had"
    parts: list[Text | Table] = [Text(told)]
    if found.terms:
        parts.append(Text(f"= {_sum(found)}", style="dim"))
    if len(found.events) == 0:
        parts.append(Text("the model reads none of the user's events: this is what everyone gets", style="dim"))
        return Group(*parts)
    layer = next(reversed(found.attention), "")
    parts += [Text("Without all events of a behavior"), _of_behaviors(found, behaviors)]
    parts += [Text(f"Without one event{f'; attention of {layer}' if layer else ''}")]
    parts += [_of_events(found, layer, name, behaviors, events)]
    return Group(*parts)


def _sum(found: Explanation) -> str:
    ordered = sorted(found.terms.items(), key=lambda term: -abs(term[1]))
    return " + ".join(f"{value:.4f} {name}" for name, value in ordered if value).replace("+ -", "- ")


def _of_behaviors(found: Explanation, behaviors: Sequence[str]) -> Table:
    table = Table(box=SIMPLE)
    table.add_column("behavior")
    table.add_column("events", justify="right")
    table.add_column("carried", justify="right")
    layers = {layer: found.attention_by_behavior(layer) for layer in found.attention}
    for layer in layers:
        table.add_column(f"attention\n{layer}", justify="right")
    for code, lost in found.of_behavior.items():
        count = int((found.past.behavior == code).sum())
        shares = [f"{share[code]:.1%}" for share in layers.values()]
        table.add_row(behaviors[code], f"{count:,}", _number(lost), *shares)
    return table


def _of_events(found: Explanation, layer: str, name: Name, behaviors: Sequence[str], events: int) -> Table:
    past, table = found.past, Table(box=SIMPLE)
    for column in ("time (UTC)", "behavior", "item", "events ago", "carried", *(["attention"] if layer else [])):
        table.add_column(column, justify="left" if column in ("time (UTC)", "behavior", "item") else "right")
    weights = found.attention[layer].of_events().tolist() if layer else []
    for place in _heaviest(found, events):
        event = int(found.events[place])
        cells = [
            f"{datetime.fromtimestamp(past.time[event] / 1e6, UTC):%Y-%m-%d %H:%M:%S}",
            behaviors[past.behavior[event]],
            str(name(int(past.item[event]))),
            str(len(past.item) - event),
            _number(found.of_event[place]),
        ]
        table.add_row(*cells, *([f"{weights[place]:.1%}"] if layer else []))
    return table


def _heaviest(found: Explanation, events: int) -> Iterator[int]:
    """Places in ``events`` of those that moved the margin most, the newest first among equals."""
    weight = np.nan_to_num(np.abs(found.of_event), nan=np.inf)
    yield from np.lexsort((-found.events, -weight))[:events].tolist()


def _number(value: float) -> str:
    return "all there is" if np.isnan(value) else f"{value:+.4f}"
