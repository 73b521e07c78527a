"""The DAG files load, quickly and lightly, and are what Airflow stores."""

import json
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from pipeline import form
from pipeline.form import PLACED
from pipeline.settings import RetrainSettings
from pipeline.tune_settings import TuneSettings

HEAVY = (
    "torch",
    "duckdb",
    "mlflow",
    "optuna",
    "pandas",
    "great_expectations",
    "matplotlib",
    "scipy",
    "numpy",
    "pyarrow",
)

MEASURE = """
import sys, time
sys.path[:0] = [{dags!r}, {checkout!r}]
import airflow.sdk  # Airflow's own import is not ours to count: the DAG processor has it loaded when it parses
BLOCKED = {blocked!r}

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in BLOCKED:
            raise ImportError(f"{{name}} is imported while the DAGs are parsed")

loaded = sorted(set(BLOCKED) & set(sys.modules))
assert not loaded, loaded
sys.meta_path.insert(0, Blocker())
start = time.perf_counter()
import hmar_retrain, hmar_ingest, hmar_tune, hmar_benchmark
print(time.perf_counter() - start)
"""


@pytest.fixture(scope="module")
def bag(dags_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    from airflow.dag_processing.dagbag import DagBag

    schedules = tmp_path_factory.mktemp("schedules")
    (schedules / "nightly.yaml").write_text("schedule: '30 2 * * *'\ndataset: movielens\nraw: /data/ml-100k\n")
    (schedules / "shop.yaml").write_text("ingest_schedule: '0 1 * * *'\ndataset: taobao\nraw: '/logs/{date}'\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HMAR_SCHEDULES", str(schedules))
        return DagBag(dags_directory, known_pools={"default_pool", "gpu"})


def test_import_takes_less_than_a_second_without_anything_heavy(dags_directory: Path, checkout: Path) -> None:
    code = MEASURE.format(dags=str(dags_directory), checkout=str(checkout), blocked=HEAVY)
    times = []
    for _ in range(3):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ})
        assert done.returncode == 0, done.stderr
        times.append(float(done.stdout.split()[-1]))
    assert min(times) < 1.0, times


def test_no_import_errors_no_unknown_pools_no_warnings_of_ours(bag: Any, dags_directory: Path) -> None:
    assert bag.import_errors == {}
    assert bag.dag_warnings == set()
    warnings = [one for all_of_file in bag.captured_warnings.values() for one in all_of_file]
    assert [one for one in warnings if str(dags_directory) in str(one)] == []
    assert set(bag.dags) == {
        "hmar_retrain", "hmar_ingest", "hmar_tune", "hmar_benchmark",
        "hmar_retrain_nightly", "hmar_retrain_shop", "hmar_ingest_shop",
    }  # fmt: skip


def test_helper_modules_are_not_parsed_as_dag_files(dags_directory: Path) -> None:
    ignored = (dags_directory / ".airflowignore").read_text(encoding="utf-8").split()
    helpers = {path.name for path in dags_directory.glob("*.py")} - {
        "hmar_retrain.py",
        "hmar_ingest.py",
        "hmar_tune.py",
        "hmar_benchmark.py",
    }
    assert set(ignored) == helpers


def test_stored_form_is_the_same_when_read_back(bag: Any) -> None:
    from airflow.serialization.serialized_objects import DagSerialization

    for dag in bag.dags.values():
        stored = json.loads(json.dumps(DagSerialization.to_dict(dag)))
        again = DagSerialization.from_dict(stored)
        assert again.dag_id == dag.dag_id
        assert sorted(again.task_dict) == sorted(dag.task_dict)
        for task_id, task in dag.task_dict.items():
            assert again.task_dict[task_id].downstream_task_ids == task.downstream_task_ids


def test_order_of_the_tasks(bag: Any) -> None:
    dag = bag.dags["hmar_retrain"]
    chain = ["check", "ingest", "validate", "snapshot", "train", "evaluate"]
    chain += ["register", "promote", "recommend", "report"]
    for earlier, later in pairwise(chain):
        assert later in dag.task_dict[earlier].downstream_task_ids
    assert dag.topological_sort()[0].task_id == "check"
    search = bag.dags["hmar_tune"]
    assert [task.task_id for task in search.topological_sort()] == [
        "check", "snapshot", "plan", "numbers", "trial", "best"
    ]  # fmt: skip
    benchmark = bag.dags["hmar_benchmark"]
    assert [task.task_id for task in benchmark.topological_sort()] == [
        "check", "datasets", "prepare", "searches", "search", "cells", "cell", "tables"
    ]  # fmt: skip


def test_every_task_is_retried_with_backoff_and_bounded_in_time(bag: Any) -> None:
    for dag in bag.dags.values():
        assert dag.max_active_runs == 1
        assert dag.doc_md
        assert "hmar" in dag.tags
        for task in dag.tasks:
            assert task.retries == (8 if task.task_id == "arrive" else 3), "a day's file may be hours late"
            assert task.retry_exponential_backoff
            assert task.execution_timeout is not None


def test_what_needs_the_accelerator_waits_in_its_pool(bag: Any) -> None:
    pooled = {task.task_id for task in bag.dags["hmar_retrain"].tasks if task.pool == "gpu"}
    assert pooled == {"train", "evaluate", "promote", "recommend"}
    assert {task.task_id for task in bag.dags["hmar_tune"].tasks if task.pool == "gpu"} == {"trial"}
    assert {task.task_id for task in bag.dags["hmar_benchmark"].tasks if task.pool == "gpu"} == {"search", "cell"}


def test_the_form_has_every_setting_of_a_run(bag: Any) -> None:
    assert set(bag.dags["hmar_retrain"].params) == set(RetrainSettings.model_fields) - set(PLACED)


def test_the_form_of_a_search_needs_a_dataset_only(bag: Any) -> None:
    params = bag.dags["hmar_tune"].params
    assert {"model", "study", "trials", "max_epochs", "timeout", "search", "pruning"} <= set(params)
    assert not {"raw", "models", "parallel", *PLACED} & set(params), "nothing that such a run has no use for"
    fields = form.fields(tuple(params), TuneSettings)
    assert {name for name, field in fields.items() if "default" not in field} == {"dataset"}
