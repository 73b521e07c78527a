"""What an evaluation shows in a terminal."""

from collections.abc import Mapping

from rich.box import SIMPLE
from rich.table import Table

from hmar.evaluate.names import STRATA, full_name

INTERVAL = ("full", "ndcg@10")
COLUMNS = (
    ("full", "ndcg@10"),
    ("full", "hr@10"),
    ("full", "mrr"),
    ("sampled", "ndcg@10"),
    ("sampled", "hr@10"),
)


def part_table(title: str, metrics: Mapping[str, float], part: str) -> Table:
    """One row per stratum that has targets (n); the interval is NDCG@10's under full ranking. Fits 80 columns."""
    table = Table(title=title, box=SIMPLE, padding=(0, 1, 0, 0))
    table.add_column("stratum", no_wrap=True)
    table.add_column("n", justify="right", no_wrap=True)
    for candidates, metric in COLUMNS:
        table.add_column(f"{candidates}\n{metric.upper()}", justify="right", no_wrap=True)
        if (candidates, metric) == INTERVAL:
            table.add_column("interval", no_wrap=True)
    for stratum in STRATA:
        count = int(metrics.get(full_name(part, "full", stratum, "targets"), 0))
        if not count:
            continue
        cells = [stratum, f"{count:,}"]
        for candidates, metric in COLUMNS:
            name = full_name(part, candidates, stratum, metric)
            cells.append(f"{metrics[name]:.4f}" if name in metrics else "-")
            if (candidates, metric) == INTERVAL:
                bounds = [metrics.get(f"{name}/{bound}") for bound in ("low", "high")]
                cells.append("-" if None in bounds else f"{bounds[0]:.3f} to {bounds[1]:.3f}")
        table.add_row(*cells)
    return table
