"""The whole run without Airflow: the same stages, in the same order, in this process."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from pipeline import preflight
from pipeline.results import (
    Accounts,
    Built,
    Evaluated,
    Landed,
    Promoted,
    Published,
    Recommended,
    Registered,
    Reported,
    Trained,
)
from pipeline.settings import RetrainSettings

T = TypeVar("T")

Tell = Callable[[str, str, float], None]
"""Called when a stage ends: its name, what came of it, seconds."""


@dataclass(frozen=True)
class Retrained:
    """What every stage returned."""

    run: str
    landed: Landed
    published: Published
    built: Built
    trained: list[Trained]
    evaluated: list[Evaluated]
    registered: Registered
    promoted: Promoted
    recommended: Recommended
    reported: Reported


def retrain(s: RetrainSettings, run: str, tell: Tell | None = None) -> Retrained:
    """Raw log to decided registry and written recommendations. With the same ``run`` it goes on where it was stopped.

    Raises:
        HmarError: of the stage that failed; what was published before it stays as it is.
    """
    from pipeline.kept import keep
    from pipeline.stages.evaluate import evaluate
    from pipeline.stages.ingest import land
    from pipeline.stages.inspect import inspect
    from pipeline.stages.promote import promote
    from pipeline.stages.recommend import recommend
    from pipeline.stages.register import register
    from pipeline.stages.report import report
    from pipeline.stages.snapshot import build
    from pipeline.stages.suited import suited
    from pipeline.stages.train import train
    from pipeline.stages.validate import validate

    step = _Steps(tell)
    step("check", lambda: preflight.check(s, trains_here=True), lambda _: "settings, raw log, data directory, MLflow")
    landed = step("ingest", lambda: land(s), lambda r: accounted(r.accounts) + _reused(r.reused))
    published = step("validate", lambda: validate(s, landed), lambda r: "published" if r.changed else "unchanged")
    built = step("snapshot", lambda: suited(s, inspect(s, build(s, published))), lambda r: r.id + _reused(r.reused))
    keep(s, run, built)
    trained: list[Trained] = []
    evaluated: list[Evaluated] = []
    for model in s.models:
        trained.append(step(f"train {model}", partial(train, s, built, model, run), lambda r: str(r.directory)))
        evaluated.append(step(f"evaluate {model}", partial(evaluate, s, built, trained[-1]), partial(_headline, s)))
    registered = step("register", lambda: register(s, built, evaluated), lambda r: f"{r.name} {r.version}, {r.model}")
    promoted = step("promote", lambda: promote(s, built, registered), lambda r: f"champion is version {r.champion}")
    recommended = step("recommend", lambda: recommend(s, built, promoted), lambda r: f"{r.users:,} users")
    reported = step("report", lambda: report(s, run, built, evaluated, promoted), lambda r: str(r.path))
    return Retrained(run, landed, published, built, trained, evaluated, registered, promoted, recommended, reported)


def accounted(accounts: Accounts) -> str:
    """The row accounts in one line."""
    return (
        f"{accounts.rows:,} rows = {accounts.events:,} events + {accounts.duplicates:,} duplicates "
        f"+ {accounts.quarantined:,} quarantined"
    )


class _Steps:
    def __init__(self, tell: Tell | None) -> None:
        self.tell = tell

    def __call__(self, name: str, work: Callable[[], T], outcome: Callable[[T], str]) -> T:
        started = time.monotonic()
        result = work()
        if self.tell is not None:
            self.tell(name, outcome(result), time.monotonic() - started)
        return result


def _reused(reused: bool) -> str:
    return " (reused)" if reused else ""


def _headline(s: RetrainSettings, evaluated: Evaluated) -> str:
    parts = [
        f"{part} {s.promote.metric} {metrics[s.promote.metric]:.4f}"
        for part, metrics in evaluated.metrics.items()
        if s.promote.metric in metrics
    ]
    return ", ".join(parts) or "no targets"
