"""
### Models on logs, as tables

`check` refuses bad settings before anything is done; `prepare` builds each dataset's snapshot; `search` looks for each
row's settings, with the same number of trials for all; `cell` is one training of one row with one seed, its judgement
and its cost, in the pool `gpu`; `tables` puts all of it together, as Markdown, CSV, figures and an MLflow experiment.

**Run it**: *Trigger* above, or `airflow dags trigger hmar_benchmark --conf '{"file": "/path/of/honest.yaml"}'`. The
file has the keys of `hmar benchmark --settings`; what stands beside it goes before. Without `rows`, every registered
model is one.

**When it fails**: clear what failed, or trigger it again with the same name. What is finished is not repeated, a
training that was cut off goes on from its last checkpoint, and of a changed benchmark only what changed is run.
What fails keeps nobody else from running; tables then need `partial`, and say what is missing.
"""

from datetime import timedelta
from typing import Any

from airflow.sdk import Param, dag
from steps import POOL, RETRIES, conf, label, step

from pipeline import form
from pipeline.benchmark.settings import BenchmarkSettings
from pipeline.results import Cell, Concluded, Measured, Prepared, Searched

FIELDS = (
    "name", "datasets", "rows", "splits", "seeds", "trials", "tune", "train", "baselines",
    "confidence", "resamples", "partial", "data", "out", "engine",
)  # fmt: skip

FILE = Param(
    None,
    type=["string", "null"],
    title="file",
    description_md="A settings file of `hmar benchmark`, where the workers find it.",
)


@step(timeout=timedelta(minutes=10))
def check() -> BenchmarkSettings:
    from pipeline.benchmark.cells import check
    from pipeline.preflight import check_directory
    from pipeline.registry import quiet_client

    given = conf()
    file = given.pop("file", None)
    b = BenchmarkSettings.resolve(form.values(given, FIELDS), yaml_file=file)
    check(b)
    check_directory(b.paths.root)
    quiet_client(b.mlflow_uri)
    return b


@step(timeout=timedelta(minutes=10))
def datasets(b: BenchmarkSettings) -> list[str]:
    return list(b.datasets)


@step(timeout=timedelta(hours=6), map_index_template="{{ label }}")
def prepare(b: BenchmarkSettings, dataset: str) -> Prepared:
    from pipeline.stages.benchmark import prepare

    label(dataset)
    return prepare(b, dataset)


# What failed keeps nobody else from running; a search or cell whose dataset or search failed says so itself.
@step(timeout=timedelta(minutes=10), trigger_rule="all_done")
def searches(b: BenchmarkSettings) -> list[dict[str, Any]]:
    from pipeline.benchmark.cells import searches

    return [one.model_dump(mode="json") for one in searches(b)]


@step(timeout=timedelta(hours=24), pool=POOL, map_index_template="{{ label }}")
def search(b: BenchmarkSettings, one: Cell) -> Searched:
    from pipeline.stages.benchmark import ready, search

    label(f"{one.dataset}, {one.split}, {one.row}")
    return search(b, one, ready(b, one.dataset).built)


@step(timeout=timedelta(minutes=10), trigger_rule="all_done")
def cells(b: BenchmarkSettings) -> list[dict[str, Any]]:
    from pipeline.benchmark.cells import chosen, plan

    return [one.model_dump(mode="json") for one in chosen(b, plan(b))]


@step(timeout=timedelta(hours=24), pool=POOL, map_index_template="{{ label }}")
def cell(b: BenchmarkSettings, one: Cell) -> Measured:
    from pipeline.stages.benchmark import ready, run

    label(f"{one.dataset}, {one.split}, {one.row}, seed {one.seed}")
    return run(b, one, ready(b, one.dataset).built)


@step(timeout=timedelta(hours=1), trigger_rule="all_done")
def tables(b: BenchmarkSettings) -> Concluded:
    from pipeline.benchmark.conclude import conclude

    return conclude(b, f"airflow dags trigger hmar_benchmark (name {b.name})")


@dag(
    dag_id="hmar_benchmark",
    schedule=None,
    catchup=False,
    max_active_runs=1,
    default_args=RETRIES,
    params={"file": FILE, **{name: Param(**field) for name, field in form.fields(FIELDS, BenchmarkSettings).items()}},
    tags=["hmar"],
    doc_md=__doc__,
)
def hmar_benchmark() -> None:
    b = check()
    prepared = prepare.partial(b=b).expand(dataset=datasets(b))
    planned = searches(b)
    planned.set_upstream(prepared)
    searched = search.partial(b=b).expand(one=planned)
    wanted = cells(b)
    wanted.set_upstream(searched)
    tables(b).set_upstream(cell.partial(b=b).expand(one=wanted))


hmar_benchmark()
