"""``hmar tune``: search better settings for one model in this terminal."""

from typing import TYPE_CHECKING, Any

from pipeline.commands.options import parse
from pipeline.tune_settings import TuneSettings

if TYPE_CHECKING:
    from hmar.tune.study import Study, Tried
    from pipeline.results import Planned, Tuned

SHOWN = 10
"""Trials in the table at the end."""


class TuneCommand(TuneSettings):
    __doc__ = TuneSettings.__doc__

    dry_run: bool = False
    """Check the search space and show it, do nothing."""


def main(arguments: list[str]) -> int:
    command = parse(TuneCommand, arguments, "hmar tune")
    if command is None:
        return 0
    from hmar.errors import Interrupted
    from pipeline import preflight, tuning
    from pipeline.commands import screen, stages
    from pipeline.stages.tune import attempt, conclude, plan

    s = _plain(command)
    tuning.check(s)
    if command.dry_run:
        return _dry_run(s)
    preflight.check_device(s, (s.model,))
    preflight.check_home(s)
    preflight.check_mlflow(s)
    built = stages.built(s)
    planned = plan(s, built)
    study = _study(planned)
    screen.console.print(_where_it_stands(s, planned, study), markup=False, soft_wrap=True)
    try:
        attempt(s, built, planned, tell=lambda one: _told(study, one), relay=lambda line: None)
    except (Interrupted, KeyboardInterrupt):
        screen.console.print(f"to go on: hmar tune --study {planned.study} and the same flags", soft_wrap=True)
        raise
    result = conclude(s, built, planned)
    screen.console.print()
    _table(study, result)
    _summary(s, result)
    return 0


def _plain(command: TuneCommand) -> TuneSettings:
    """The search's settings without the command's own."""
    values: dict[str, Any] = {name: getattr(command, name) for name in TuneSettings.model_fields}
    return TuneSettings.model_construct(_fields_set=command.model_fields_set & values.keys(), **values)


def _study(planned: "Planned") -> "Study":
    from hmar.tune.study import Study

    return Study.load(planned.file)


def _where_it_stands(s: TuneSettings, planned: "Planned", study: "Study") -> str:
    over = sum(one.over for one in study.trials()[: planned.trials])
    told = f", {over} of them over" if over else ""
    return f"study {planned.study}: {s.model}, {planned.trials} trials{told}, in {planned.directory}"


def _told(study: "Study", one: "Tried") -> None:
    """One line when a trial is over."""
    from pipeline.commands.screen import console

    if not one.over:
        return
    mark = {"complete": "[green]✓[/green]", "pruned": "[yellow]✂[/yellow]", "failed": "[red]✗[/red]"}[one.state]
    line = f"{mark} trial {one.number:<4} {_value(one):>7}  {one.epochs:>3} epochs {one.seconds:7.1f} s  "
    console.print(line, end="")
    console.print(one.reason or _shown(study, one), markup=False, soft_wrap=True)


def _table(study: "Study", result: "Tuned") -> None:
    """The best trials, one dimension a column where they fit, else in words."""
    from rich.table import Table

    from hmar.tune.study import importances
    from pipeline.commands.screen import console

    tried = study.trials()
    ranked = sorted(
        (one for one in tried if one.state == "complete"), key=lambda one: (-(one.value or 0.0), one.number)
    )
    console.print(f"[bold]Trials[/bold]    the best by validation {study.metric}; test targets were not read")
    table = Table()
    table.add_column("trial", justify="right", no_wrap=True)
    table.add_column(study.metric, justify="right", no_wrap=True)
    table.add_column("epoch", justify="right", no_wrap=True)
    table.add_column("seconds", justify="right", no_wrap=True)
    table.add_column("settings")
    for one in ranked[:SHOWN]:
        name = f"{one.number} *" if one.number == result.trial else str(one.number)
        table.add_row(name, _value(one), str(one.best_epoch or ""), f"{one.seconds:.1f}", _shown(study, one))
    console.print(table)
    found = importances(study)
    if found:
        words = ", ".join(f"{name} {share:.0%}" for name, share in found.items() if share >= 0.01)
        console.print(f"what tells good trials from the rest: {words}", style="dim", soft_wrap=True)


def _summary(s: TuneSettings, result: "Tuned") -> None:
    from pipeline.commands.screen import console

    cost = f"{result.trials} trials, {result.epochs:,} epochs, {result.seconds:,.0f} s of training and validation"
    for name, text in {
        "budget": cost,
        "best": f"trial {result.trial}, {result.value:.4f}",
        "settings": result.best,
        "MLflow": f"{s.mlflow_uri}, run {result.mlflow_run}",
        "train with them": f"hmar retrain --settings {result.best} --dataset {s.dataset} ...",
    }.items():
        console.print(f"{name:<16} {text}", markup=False, soft_wrap=True)


def _dry_run(s: TuneSettings) -> int:
    from rich.table import Table

    from pipeline import tuning
    from pipeline.commands.screen import console

    base, space = tuning.common(s), tuning.space(s)
    held = space.holds(base.model_dump(mode="json"))
    told = f"{s.trials} trials of at most {base.max_epochs} epochs, pruning {s.pruning.kind}"
    console.print(f"nothing was done; a search of {s.model} would take {told}, among", markup=False, soft_wrap=True)
    table = Table("setting", "values", "now", box=None, header_style="bold", padding=(0, 2, 0, 2))
    for name, found in space.dimensions.items():
        table.add_row(name, str(found), _short(held[name]) if name in held else "")
    console.print(table)
    return 0


def _value(one: "Tried") -> str:
    return "" if one.value is None else f"{one.value:.4f}"


def _shown(study: "Study", one: "Tried") -> str:
    return ", ".join(f"{name.removeprefix('config.')} {_short(one.values[name])}" for name in study.space.dimensions)


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
