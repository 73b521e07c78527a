"""``hmar retrain``: the whole run in this terminal."""

from pathlib import Path

from pipeline.commands.options import new_run, parse, plain
from pipeline.home import run_key
from pipeline.settings import RetrainSettings


class RetrainCommand(RetrainSettings):
    """Everything in order: ingest, validate, snapshot, train, evaluate, register, promote, recommend, report.

    What is there already is reused. An interrupted run goes on with the same --run.
    """

    run: str = ""
    """Key of the run; a new one if empty."""
    dry_run: bool = False
    """Check everything that can be checked, show what would be done, do nothing."""


def main(arguments: list[str]) -> int:
    command = parse(RetrainCommand, arguments, "hmar retrain")
    if command is None:
        return 0
    s = plain(command)
    run = run_key(command.run) or new_run(s.name)
    if command.dry_run:
        return _dry_run(s, run)
    from hmar.errors import Interrupted
    from pipeline.commands import screen
    from pipeline.doubts import doubts, warn
    from pipeline.retrain import retrain

    screen.console.print(f"run {run}", markup=False)
    try:
        done = retrain(s, run, screen.told)
    except (Interrupted, KeyboardInterrupt):
        screen.console.print(f"to go on: hmar retrain --run {run} and the same flags", markup=False, soft_wrap=True)
        raise
    screen.console.print()
    screen.accounts(done.published.accounts)
    screen.snapshot(done.built)
    screen.console.print()
    screen.models(s, done.built, done.evaluated, done.registered.model)
    screen.console.print()
    screen.decision(done.promoted)
    screen.console.print()
    screen.recommendations(done.recommended.path, limit=10)
    warn(doubts(done.evaluated, s.promote.metric, done.recommended.users), screen.console)
    docs = done.published.data_docs or s.paths.data_docs(s.name)
    for name, path in _places(s, done.reported.path, done.recommended.path, docs).items():
        screen.console.print(f"{name:<16} {path}", markup=False, soft_wrap=True)
    return 0


def _places(s: RetrainSettings, report: Path, recommended: Path, docs: Path) -> dict[str, Path | str]:
    return {
        "report": report,
        "recommendations": recommended,
        "data docs": docs,
        "quarantine": s.paths.quarantine(s.name),
        "MLflow": s.mlflow_uri,
    }


def _dry_run(s: RetrainSettings, run: str) -> int:
    from pipeline import preflight
    from pipeline.commands import screen
    from pipeline.training import training_settings

    preflight.check(s, trains_here=True)
    home = s.paths
    screen.console.print("nothing was done; a run would", markup=False)
    for line in (
        f"read {s.raw} as {s.source}",
        f"publish events to {home.events(s.name)}",
        f"build a snapshot in {home.snapshots(s.name)}",
        *(_described(training_settings(s, model, Path("snapshot"), run)) for model in s.models),
        f"judge them on split {s.split} and register the best on validation {s.promote.metric} as hmar-{s.name}",
        f"promote it if its gain is above {s.promote.min_gain:g} with {s.promote.confidence:.0%} confidence",
        f"write {s.recommend.k} items per user to {home.recommendations(s.name)}",
        f"write {home.report(run) / 'report.html'}",
    ):
        screen.console.print(f"  {line}", markup=False, soft_wrap=True)
    return 0


def _described(training: object) -> str:
    from hmar.models import model_class
    from hmar.train.settings import TrainSettings

    assert isinstance(training, TrainSettings)
    config = ", ".join(f"{key} {value}" for key, value in training.config.items())
    if not model_class(training.model).trainable:
        return f"make {training.model}: a rule, nothing of it is trained" + (f" ({config})" if config else "")
    told = f"at most {training.max_epochs} epochs, loss {training.loss}, lr {training.lr:g}"
    return f"train {training.model}: {told} ({config})"
