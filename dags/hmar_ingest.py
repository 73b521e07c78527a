"""
### Publish a dataset's events

Reads the raw log, accounts for every row, judges the result and publishes it, as the first half of `hmar_retrain`
does. Emits the asset `hmar://events/<name>` with the row accounts and the digest of the events; a retraining with
`schedule: events` starts on it.
"""

from datetime import timedelta

from airflow.sdk import Param, dag, get_current_context
from assets import PUBLISHED, events
from steps import RETRIES, conf, step

from pipeline import form
from pipeline.results import Landed, Published
from pipeline.settings import RetrainSettings

FIELDS = ("dataset", "raw", "name", "source", "ingest", "expectations", "engine")


@step(timeout=timedelta(minutes=10))
def check() -> RetrainSettings:
    return form.resolve(form.values(conf(), FIELDS))


@step(timeout=timedelta(hours=6))
def ingest(s: RetrainSettings) -> Landed:
    from pipeline.stages.ingest import land

    return land(s)


@step(timeout=timedelta(hours=1), outlets=[PUBLISHED])
def validate(s: RetrainSettings, landed: Landed) -> Published:
    from pipeline.stages.validate import validate

    published = validate(s, landed)
    extra = {**published.accounts.model_dump(mode="json"), "digest": published.digest, "changed": published.changed}
    get_current_context()["outlet_events"][PUBLISHED].add(events(s.name), extra=extra)
    return published


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
    validate(s, ingest(s))


hmar_ingest()
