"""What an evaluation shows in a terminal."""

from collections.abc import Mapping

from rich.table import Table

from hmar.evaluate.names import STRATA, full_name

COLUMNS = (
    ("full", "ndcg@10"),
    ("full", "hr@10"),
    ("full", "mrr"),
    ("sampled", "ndcg@10"),
    ("sampled", "hr@10"),
)


def part_table(title: str, metrics: Mapping[str, float], part: str) -> Table:
    """One row per stratum that has targets; full ranking's NDCG@10 with its interval."""
    table = Table(title=title)
    table.add_column("stratum")
    table.add_column("targets", justify="right")
    for candidates, metric in COLUMNS:
        table.add_column(f"{metric.upper()}\n{candidates}", justify="right")
    for stratum in STRATA:
        count = int(metrics.get(full_name(part, "full", stratum, "targets"), 0))
        if count:
            cells = [_cell(metrics, full_name(part, candidates, stratum, metric)) for candidates, metric in COLUMNS]
            table.add_row(stratum, f"{count:,}", *cells)
    return table


def _cell(metrics: Mapping[str, float], name: str) -> str:
    if name not in metrics:
        return "-"
    bounds = ""
    if name.endswith("/ndcg@10") and f"{name}/low" in metrics:
        bounds = f" [{metrics[f'{name}/low']:.4f}, {metrics[f'{name}/high']:.4f}]"
    return f"{metrics[name]:.4f}{bounds}"
