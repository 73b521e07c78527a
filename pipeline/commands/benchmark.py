"""``hmar benchmark``: rows x datasets x splits x seeds in this terminal."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.benchmark.settings import BenchmarkSettings
from pipeline.commands.options import parse
from pipeline.results import Built, Concluded

if TYPE_CHECKING:
    from rich.progress import Progress

    from pipeline.benchmark.work import Teller


class BenchmarkCommand(BenchmarkSettings):
    __doc__ = BenchmarkSettings.__doc__

    dry_run: bool = False
    """Check all settings, show what would be run, do nothing."""


def main(arguments: list[str]) -> int:
    b = parse(BenchmarkCommand, arguments, "hmar benchmark")
    if b is None:
        return 0
    from hmar.errors import DataError
    from pipeline import preflight
    from pipeline.benchmark import cells
    from pipeline.benchmark.conclude import conclude
    from pipeline.commands import screen
    from pipeline.registry import quiet_client

    cells.check(b)
    if not b.tables_only:
        cells.check_logs(b)
    wanted = cells.chosen(b, cells.plan(b))
    if b.dry_run:
        return _dry_run(b, len(wanted))
    preflight.check_directory(b.paths.root)
    quiet_client(b.mlflow_uri)
    failures = {} if b.tables_only else _work(b)
    filtered = b.only_datasets or b.only_rows or b.only_splits
    try:
        told = conclude(b, _command(arguments), failures)
    except DataError as error:
        if filtered and not failures and not b.partial:  # what was asked for is done
            screen.console.print(f"no tables yet: {error}", markup=False, soft_wrap=True)
            return 0
        raise
    _show(b, told)
    return 1 if failures else 0


def _work(b: BenchmarkSettings) -> dict[str, str]:
    """Prepare, search, run; what failed, and why."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from pipeline.benchmark import cells, work
    from pipeline.commands.screen import console
    from pipeline.stages.benchmark import measured, prepare

    wanted = cells.chosen(b, cells.plan(b))
    built: dict[str, Built] = {}
    for name in dict.fromkeys(one.dataset for one in wanted):
        built[name] = prepare(b, name).built
        console.print(f"[green]✓[/green] {name}: snapshot {built[name].id}", soft_wrap=True)
    todo = [one for one in wanted if measured(b, one, built[one.dataset]) is None]
    console.print(f"{len(wanted) - len(todo)} of {len(wanted)} runs are there", markup=False)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        return work.do(b, built, todo, _shown(progress, len(todo)))


def _shown(progress: "Progress", runs: int) -> "Teller":
    """A bar on a terminal, a line for everything that is over."""
    from pipeline.benchmark.work import Teller

    bar = progress.add_task("", total=runs)
    running: dict[str, int] = {}

    def describe() -> None:
        told = (what + (f" ({trials} trials)" if trials else "") for what, trials in list(running.items()))
        progress.update(bar, description="; ".join(told)[:100])

    class Shown(Teller):
        def began(self, what: str) -> None:
            running[what] = 0
            describe()

        def tried(self, what: str) -> None:
            running[what] += 1
            describe()

        def ended(self, what: str, outcome: str, good: bool) -> None:
            del running[what]
            progress.console.print("[green]✓[/green] " if good else "[red]✗[/red] ", end="")
            progress.console.print(f"{what}: {outcome}", markup=False, soft_wrap=True)
            progress.advance(bar, good and not what.startswith("search "))
            describe()

    return Shown()


def _show(b: BenchmarkSettings, told: Concluded) -> None:
    from rich.markdown import Markdown

    from pipeline.commands.screen import console

    text = told.markdown.read_text(encoding="utf-8")
    console.print(Markdown(text)) if console.is_terminal else print(text)
    for name, where in {"tables": told.markdown, "MLflow": f"{b.mlflow_uri}, experiment {b.experiment}"}.items():
        console.print(f"{name:<10} {where}", markup=False, soft_wrap=True)


def _dry_run(b: BenchmarkSettings, wanted: int) -> int:
    from pipeline.benchmark import cells
    from pipeline.commands.screen import console

    searches = [row for row in b.rows.values() if cells.trials(b, row)]
    seeds = ", ".join(map(str, b.seeds))
    told = f"{len(b.rows)} rows, {len(b.datasets)} datasets, splits {', '.join(b.splits)}, seeds {seeds}"
    console.print(f"nothing was done; {told}: {wanted} runs", markup=False, soft_wrap=True)
    if searches:
        times = len(b.datasets) * len(b.splits)
        trials = sum(cells.trials(b, row) for row in searches) * times
        console.print(f"before them {len(searches) * times} searches, {trials:,} trials in all", markup=False)
    for label, row in b.rows.items():
        console.print(f"  {label}: {row.model}, {cells.trials(b, row)} trials", markup=False, soft_wrap=True)
    return 0


def _command(arguments: list[str]) -> str:
    """What makes the tables again: not how and where it was run, nor which part of it."""
    kept: list[str] = []
    skip = False
    for word in arguments:
        if skip:
            skip = False
            continue
        flag = word.split("=")[0]
        if flag in ("--home", "--data", "--out", "--jobs", "--tracking-uri") or flag.startswith("--only-"):
            skip = "=" not in word
            continue
        if flag in ("--partial", "--tables-only"):
            continue
        kept.append(Path(word).name if Path(word).is_absolute() else word)
    return shlex.join(["hmar", "benchmark", *kept])
