"""
### Publish a dataset's events

Reads the raw log, accounts for every row, judges the result and publishes it, as the first half of `hmar_retrain`
does. If the events are others than before, `announce` updates the asset `hmar://events/<name>`, with the row accounts
and the digest of the events: a retraining with `schedule: events` starts on it. If nothing has changed, `announce` is
skipped, and nothing starts.

**Every day**: a file in `HMAR_HOME/schedules` with `ingest_schedule: "0 1 * * *"` becomes a DAG of its own,
`hmar_ingest_<file name>`. Each run is for one day, the one of its logical date, and fills it into `raw`.
"""

from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, Asset, CronDataIntervalTimetable, Param, dag, get_current_context
from airflow.sdk.exceptions import AirflowSkipException
from assets import PUBLISHED, events, partitions
from steps import RETRIES, RETRY_PAUSE, conf, moment, step

from hmar.errors import DataError, SettingsError
from pipeline import form, schedules
from pipeline.results import Changes, Landed, Published
from pipeline.settings import RetrainSettings

FIELDS = ("dataset", "raw", "day", "name", "source", "table", "ingest", "expectations", "engine")

LATE = {"retries": 8, "retry_delay": 10 * RETRY_PAUSE, "max_retry_delay": timedelta(hours=1)}
"""How a day's file is waited for: 5 to 10 minutes, each time twice as long, hourly at last; some six hours in all."""


@step(timeout=timedelta(minutes=10))
def check() -> RetrainSettings:
    return form.resolve(form.values(conf(), FIELDS))


@step(timeout=timedelta(hours=6))
def ingest(s: RetrainSettings) -> Landed:
    from pipeline.stages.ingest import land

    return land(s)


@step(timeout=timedelta(hours=1))
def validate(s: RetrainSettings, landed: Landed) -> Published:
    from pipeline.stages.validate import validate

    return validate(s, landed)


def announce(s: Any, published: Any, *by_partition: Asset) -> Any:
    """Tell whoever waits for the events, and, where there are listeners for single partitions, those of each."""

    @step(timeout=timedelta(minutes=10), outlets=[PUBLISHED, *by_partition])
    def announce(s: RetrainSettings, published: Published) -> Changes:
        from pipeline.stages.announce import changes

        found = changes(s)
        if not found.changed and not (by_partition and found.partitions):
            raise AirflowSkipException(f"{s.name}: the events are what they were")
        told = get_current_context()["outlet_events"]
        about = {"digest": found.digest, "day": s.day and s.day.isoformat()}
        if found.changed:
            extra = {**found.accounts.model_dump(mode="json"), **about, "partitions": found.events}
            told[PUBLISHED].add(events(s.name), extra=extra)
        for asset in by_partition:
            told[asset].extra = about
            told[asset].add_partitions(list(found.partitions))
        return found

    return announce(s, published)


@step(timeout=timedelta(minutes=10))
def settle(s: RetrainSettings, told: Changes, by_partition: bool) -> None:
    from pipeline.stages.announce import settle

    settle(s, told, partitions=by_partition)


@dag(
    dag_id="hmar_ingest",
    schedule=None,
    catchup=False,
    max_active_runs=1,
    default_args=RETRIES,
    params={name: Param(**field) for name, field in form.fields(FIELDS).items()},
    tags=["hmar"],
    doc_md=__doc__,
)
def hmar_ingest() -> None:
    s = check()
    settle(s, announce(s, validate(s, ingest(s))), False)


hmar_ingest()


@step(timeout=timedelta(minutes=10), task_id="check")
def check_day(defaults: dict[str, Any], problem: str, timezone: str) -> RetrainSettings:
    if problem:
        raise SettingsError(problem)
    return form.resolve_day(conf(), defaults, moment(), timezone)


@step(timeout=timedelta(minutes=10), retry_on=DataError, **LATE)
def arrive(s: RetrainSettings) -> None:
    from pipeline.ingest.raw_path import given
    from pipeline.preflight import check_raw

    check_raw(given(s))


# A backfill runs several days at once, whatever the DAG's max_active_runs says; here they take turns.
@step(timeout=timedelta(hours=6), max_active_tis_per_dag=1)
def publish(s: RetrainSettings) -> Published:
    from pipeline.stages.ingest import land
    from pipeline.stages.validate import validate

    return validate(s, land(s))


def daily(due: schedules.Schedule) -> DAG:
    """The DAG that takes in each day's file of a schedule."""
    problem, when = due.problem, CronDataIntervalTimetable(due.ingest_when, timezone=due.timezone)
    try:
        when.validate()
    except Exception as error:
        problem = f"settings file {due.file}: ingest_schedule {due.ingest_when!r}: {error}"
        when = CronDataIntervalTimetable(schedules.NIGHTLY, timezone=due.timezone)

    @dag(
        dag_id=f"hmar_ingest_{due.name}",
        schedule=when,
        start_date=due.start,
        catchup=due.catchup,
        max_active_runs=1,
        default_args=RETRIES,
        params={"day": Param(**form.fields(("day",))["day"])},
        tags=["hmar", "daily"],
        doc_md=f"`hmar_ingest` for the file of one day, with the settings of `{due.file}`.",
    )
    def flow() -> None:
        s = check_day(due.values, problem, due.timezone)
        published = publish(s)
        arrive(s) >> published
        settle(s, announce(s, published, partitions(due.dataset)), True)

    return flow()


for due in schedules.read():
    if due.ingest_when:
        globals()[f"hmar_ingest_{due.name}"] = daily(due)
