"""
### From a raw log to a promoted model

`check` refuses bad settings before anything is done; `ingest` reads and accounts for every raw row; `validate` judges
and publishes the events; `snapshot` builds point-in-time correct sequences; `train` and `evaluate` run once per model,
one at a time in the pool `gpu`; `register` adds the best of them to the registry; `promote` makes it champion if it is
better than the one before; `recommend` writes the champion's recommendations; `report` sums it all up.

**Run it**: *Trigger* above, `hmar trigger --dataset movielens --raw DIR --follow`, or
`airflow dags trigger hmar_retrain --conf '{"dataset": "movielens", "raw": "/path/ml-100k"}'`.

**Run it every night**: a YAML file per dataset in `HMAR_HOME/schedules` with the same keys and `schedule: "30 2 * * *"`
(or `schedule: events`: whenever an ingest has published other events) becomes a DAG of its own,
`hmar_retrain_<file name>`. If the file has an `ingest_schedule`, too, a DAG `hmar_ingest_<file name>` takes in the raw
files day by day, and this one begins with what that has published.

**When it fails**: bad data and bad settings fail at once, with one line at the end of the task's log; anything else is
retried. A training that was interrupted goes on from its last checkpoint. What is already there is reused.
"""

from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, CronTriggerTimetable, Param, dag
from assets import events
from steps import POOL, RETRIES, conf, label, run, step

from hmar.errors import SettingsError
from pipeline import form, schedules
from pipeline.results import (
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


@step(timeout=timedelta(minutes=10))
def check(defaults: dict[str, Any], problem: str, fed: bool) -> RetrainSettings:
    from pipeline.preflight import check

    if problem:
        raise SettingsError(problem)
    s = form.resolve(conf(), defaults)
    check(s, reads_raw=not fed)
    return s


@step(timeout=timedelta(minutes=10))
def models(s: RetrainSettings) -> list[str]:
    return list(s.models)


@step(timeout=timedelta(hours=6))
def ingest(s: RetrainSettings) -> Landed:
    from pipeline.stages.ingest import land

    return land(s)


@step(timeout=timedelta(hours=1))
def validate(s: RetrainSettings, landed: Landed) -> Published:
    from pipeline.stages.validate import validate

    return validate(s, landed)


@step(timeout=timedelta(minutes=10))
def published(s: RetrainSettings) -> Published:
    from pipeline.commands.stages import published

    return published(s)


@step(timeout=timedelta(hours=6))
def snapshot(s: RetrainSettings, published: Published) -> Built:
    from pipeline.kept import keep
    from pipeline.stages.inspect import inspect
    from pipeline.stages.snapshot import build
    from pipeline.stages.suited import suited

    built = suited(s, inspect(s, build(s, published)))
    keep(s, run(), built)
    return built


@step(timeout=timedelta(hours=24), pool=POOL, map_index_template="{{ label }}")
def train(s: RetrainSettings, built: Built, model: str) -> Trained:
    from pipeline.stages.train import train

    label(model)
    return train(s, built, model, run())


@step(timeout=timedelta(hours=6), pool=POOL, map_index_template="{{ label }}")
def evaluate(s: RetrainSettings, built: Built, trained: Trained) -> Evaluated:
    from pipeline.stages.evaluate import evaluate

    label(trained.model)
    return evaluate(s, built, trained)


@step(timeout=timedelta(minutes=30))
def register(s: RetrainSettings, built: Built, evaluated: list[Evaluated]) -> Registered:
    from pipeline.stages.register import register

    return register(s, built, evaluated)


@step(timeout=timedelta(hours=2), pool=POOL)
def promote(s: RetrainSettings, built: Built, registered: Registered) -> Promoted:
    from pipeline.stages.promote import promote

    return promote(s, built, registered)


@step(timeout=timedelta(hours=6), pool=POOL)
def recommend(s: RetrainSettings, built: Built, promoted: Promoted) -> Recommended:
    from pipeline.stages.recommend import recommend

    return recommend(s, built, promoted)


@step(timeout=timedelta(minutes=30))
def report(s: RetrainSettings, built: Built, evaluated: list[Evaluated], promoted: Promoted) -> Reported:
    from pipeline.stages.report import report

    return report(s, run(), built, evaluated, promoted)


def retrain(dag_id: str, defaults: dict[str, Any], problem: str = "", fed: bool = False, **options: Any) -> DAG:
    """One DAG over these tasks; a run's conf wins over ``defaults``. If ``fed``, another DAG publishes the events."""

    @dag(dag_id=dag_id, catchup=False, max_active_runs=1, default_args=RETRIES, **options)
    def flow() -> None:
        s = check(defaults, problem, fed)
        built = snapshot(s, published(s) if fed else validate(s, ingest(s)))
        trained = train.partial(s=s, built=built).expand(model=models(s))
        evaluated = evaluate.partial(s=s, built=built).expand(trained=trained)
        promoted = promote(s, built, register(s, built, evaluated))
        recommend(s, built, promoted) >> report(s, built, evaluated, promoted)

    return flow()


hmar_retrain = retrain(
    "hmar_retrain",
    {},
    schedule=None,
    params={name: Param(**field) for name, field in form.fields().items()},
    tags=["hmar"],
    doc_md=__doc__,
)

for due in schedules.read():
    problem = due.problem
    when: Any = schedules.NIGHTLY
    try:
        if due.when == schedules.ON_EVENTS:
            when = [events(due.dataset)]
        else:
            when = CronTriggerTimetable(due.when, timezone=due.timezone)
            when.validate()
    except Exception as error:
        problem = f"settings file {due.file}: schedule {due.when!r}: {error}"
        when = schedules.NIGHTLY
    name = f"hmar_retrain_{due.name}"
    about = f"`hmar_retrain` on a schedule, with the settings of `{due.file}`."
    fed = bool(due.ingest_when)
    globals()[name] = retrain(name, due.values, problem, fed, schedule=when, tags=["hmar", "nightly"], doc_md=about)
