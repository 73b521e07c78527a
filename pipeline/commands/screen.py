"""What the commands show: row accounts, the table of models, the decision, one user's items."""

import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from pipeline.judged import number, read_report
from pipeline.report.tables import on_screen
from pipeline.results import Accounts, Built, Evaluated, Promoted
from pipeline.retrain import accounted
from pipeline.settings import RetrainSettings

WITH_INTERVAL = ("NDCG@10", "HR@10")

_LOG_WIDTH = 140

console = Console(highlight=False, width=None if sys.stdout.isatty() else _LOG_WIDTH)


def told(name: str, outcome: str, seconds: float) -> None:
    """One line when a stage ends."""
    console.print(f"[green]✓[/green] {name:<20} {seconds:7.1f} s  {outcome}", soft_wrap=True)


def accounts(found: Accounts) -> None:
    """Where every raw row went."""
    console.print(f"[bold]Rows[/bold]      {accounted(found)}", soft_wrap=True)
    for reason, n in found.reasons.items():
        console.print(f"          quarantined {n:,}: {reason}", markup=False, soft_wrap=True)


def snapshot(built: Built) -> None:
    """The snapshot's card in two lines."""
    from hmar.data.snapshot import Snapshot

    manifest = Snapshot(built.snapshot).manifest
    mix = ", ".join(f"{name} {manifest.behavior_counts.get(name, 0):,}" for name in manifest.behaviors)
    size = f"{manifest.users:,} users, {manifest.items:,} items, {manifest.events:,} events ({mix})"
    console.print(f"[bold]Snapshot[/bold]  {built.id}: {size}", soft_wrap=True)


def models(s: RetrainSettings, built: Built, evaluated: list[Evaluated], best: str) -> None:
    """The honest table: test targets, full and sampled ranking, repeat and new apart, with intervals."""
    console.print(f"[bold]Models[/bold]    test targets of split {s.split}, snapshot {built.id}", soft_wrap=True)
    table = Table()
    columns = {
        "NDCG@10": "test/full/all/ndcg@10",
        "HR@10": "test/full/all/hr@10",
        "repeat": "test/full/repeat/ndcg@10",
        "new": "test/full/new/ndcg@10",
        f"HR@10 of {s.snapshot.candidates + 1}": "test/sampled/all/hr@10",
        "validation": f"validation/full/all/{s.promote.metric}",
    }
    reports = {one.model: read_report(one.directory, built.id, s.split)["metrics"] for one in evaluated}
    shown = {column: name for column, name in columns.items() if any(name in found for found in reports.values())}
    table.add_column("model", no_wrap=True)
    for column in shown:
        table.add_column(column, justify="right")
    for model, found in reports.items():
        cells = [on_screen(number(found, name), wide=column in WITH_INTERVAL) for column, name in shown.items()]
        table.add_row(f"{model} *" if model == best else model, *cells)
    console.print(table)
    intervals = f"{s.promote.confidence:.0%} bootstrap intervals over users"
    console.print(
        f"{intervals}; * best on validation {s.promote.metric}, hence registered", style="dim", soft_wrap=True
    )


def decision(promoted: Promoted) -> None:
    """Who is champion, and why."""
    verb = "[green]promoted[/green]" if promoted.promoted else "[yellow]not promoted[/yellow]"
    console.print(f"[bold]Registry[/bold]  {promoted.name}: {verb}; champion is version {promoted.champion}")
    console.print(f"          {promoted.reason}", markup=False, soft_wrap=True)


def recommendations(path: Path, user: str | None = None, limit: int | None = None) -> int:
    """One user's items as a table; the first user of the file if none is named. The number of rows shown."""
    import pyarrow.parquet as pq

    from pipeline.stages.recommend import of_user

    if user is None:
        first = next(pq.ParquetFile(path).iter_batches(batch_size=1, columns=["user_id"]), None)
        if first is None or not len(first):
            return 0
        user = str(first.column(0)[0].as_py())
    rows: list[dict[str, Any]] = of_user(path, user).to_pylist()[:limit]
    if not rows:
        return 0
    about = rows[0]
    told = f"For user {user}, by version {about['model_version']} on snapshot {about['snapshot']}"
    console.print(told, markup=False, soft_wrap=True)
    table = Table()
    table.add_column("rank", justify="right")
    table.add_column("item")
    table.add_column("score", justify="right")
    for row in rows:
        table.add_row(str(row["rank"]), str(row["item_id"]), f"{row['score']:.4f}")
    console.print(table)
    return len(rows)
