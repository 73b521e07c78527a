"""
### Search better settings for a model

`check` refuses bad settings and search spaces that cannot be trained; `snapshot` builds sequences from the published
events (`hmar_ingest` or `hmar_retrain` publishes them); `plan` begins the study, or finds it again; `trial` is one
training each, in the pool `gpu`, cut short where the others do better; `best` writes the best settings down and tells
MLflow. Everything is judged on validation targets; test targets are not read.

**Run it**: *Trigger* above, or `airflow dags trigger hmar_tune --conf '{"dataset": "movielens", "trials": 20}'`.

**Go on with it**: trigger it with the same study and more `trials`, or clear tasks. Trials that are over are not
repeated, those that were cut off go on from their last checkpoint.

**Use it**: `best` returns the settings file, for `hmar retrain --settings`; in a scheduled run, copy its `overrides`.
"""

from datetime import timedelta

from airflow.sdk import Param, dag
from steps import POOL, RETRIES, conf, label, step

from pipeline import form
from pipeline.results import Attempted, Built, Planned, Tuned
from pipeline.tune_settings import TuneSettings

FIELDS = (
    "dataset", "model", "study", "trials", "max_epochs", "timeout", "search", "pruning",
    "name", "source", "table", "split", "seed", "train", "overrides", "snapshot", "engine",
)  # fmt: skip


@step(timeout=timedelta(minutes=10))
def check() -> TuneSettings:
    from pipeline import tuning
    from pipeline.preflight import check_home, check_mlflow

    s = TuneSettings.resolve(form.values(conf(), FIELDS))
    tuning.check(s)
    check_home(s)
    check_mlflow(s)
    return s


@step(timeout=timedelta(hours=6))
def snapshot(s: TuneSettings) -> Built:
    from pipeline.commands.stages import built

    return built(s)


@step(timeout=timedelta(minutes=30))
def plan(s: TuneSettings, built: Built) -> Planned:
    from pipeline.stages.tune import plan

    return plan(s, built)


@step(timeout=timedelta(minutes=10))
def numbers(planned: Planned) -> list[int]:
    return list(range(planned.trials))


@step(timeout=timedelta(hours=24), pool=POOL, map_index_template="{{ label }}")
def trial(s: TuneSettings, built: Built, planned: Planned, number: int) -> Attempted:
    from pipeline.stages.tune import attempt

    label(f"trial {number}")
    (tried,) = attempt(s, built, planned, [number])
    label(f"trial {number}: {tried.state}")
    return tried


@step(timeout=timedelta(minutes=30))
def best(s: TuneSettings, built: Built, planned: Planned, tried: list[Attempted]) -> Tuned:
    from pipeline.stages.tune import conclude

    return conclude(s, built, planned)


@dag(
    dag_id="hmar_tune",
    schedule=None,
    catchup=False,
    max_active_runs=1,
    default_args=RETRIES,
    params={name: Param(**field) for name, field in form.fields(FIELDS, TuneSettings).items()},
    tags=["hmar"],
    doc_md=__doc__,
)
def hmar_tune() -> None:
    s = check()
    built = snapshot(s)
    planned = plan(s, built)
    tried = trial.partial(s=s, built=built, planned=planned).expand(number=numbers(planned))
    best(s, built, planned, tried)


hmar_tune()
