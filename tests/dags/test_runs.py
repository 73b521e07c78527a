"""The DAGs run, task by task, in this process: no scheduler, but Airflow's own machinery and the real stages."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def database(dags_directory: Path) -> Iterator[None]:
    """Tables in the metadata database of the tests' own AIRFLOW_HOME, the pool, and the DAGs as a bundle."""
    from airflow.models.pool import Pool
    from airflow.utils.db import initdb

    bundle = {
        "name": "hmar",
        "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle",
        "kwargs": {"path": str(dags_directory)},
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST", json.dumps([bundle]))
        initdb()
        Pool.create_or_update_pool("gpu", slots=1, description="", include_deferred=False)
        yield


@pytest.fixture
def bag(database: None, dags_directory: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    from airflow.dag_processing.dagbag import DagBag

    monkeypatch.setenv("HMAR_HOME", str(home))
    monkeypatch.setenv("HMAR_RETRY_SECONDS", "0")
    return DagBag(dags_directory, known_pools={"default_pool", "gpu"})


def results(run: Any, task_id: str) -> Any:
    return run.get_task_instance(task_id).xcom_pull(task_ids=task_id)


def test_retrain_ends_with_a_champion_and_recommendations(bag: Any, home: Path, movielens_log: Path) -> None:
    from mlflow import MlflowClient

    from pipeline.home import Home

    conf = {"dataset": "movielens", "raw": str(movielens_log), "models": ["popularity"], "recommend": {"k": 3}}
    run = bag.dags["hmar_retrain"].test(run_conf=conf)
    assert {str(one.state) for one in run.get_task_instances()} == {"success"}
    promoted = results(run, "promote")
    store = Home(home).mlflow_uri
    champion = MlflowClient(store, registry_uri=store).get_model_version_by_alias(promoted["name"], "champion")
    assert str(champion.version) == promoted["champion"]
    recommended = results(run, "recommend")
    assert recommended["rows"] == 3 * recommended["users"]


def test_ingest_publishes_and_says_so(bag: Any, home: Path, taobao_log: Path) -> None:
    from airflow.models.asset import AssetEvent, AssetModel
    from airflow.utils.session import create_session
    from sqlalchemy import select

    run = bag.dags["hmar_ingest"].test(run_conf={"dataset": "taobao", "name": "shop", "raw": str(taobao_log)})
    assert str(run.state) == "success"
    published = results(run, "validate")
    assert (Path(published["events"]) / "manifest.json").is_file()
    with create_session() as session:
        found = session.execute(
            select(AssetModel.uri, AssetEvent.extra).join(AssetEvent, AssetEvent.asset_id == AssetModel.id)
        ).all()
    assert [(uri, extra["digest"]) for uri, extra in found] == [("hmar://events/shop", published["digest"])]


def test_a_broken_schedules_file_fails_its_run_with_the_reason(
    database: None, dags_directory: Path, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow.dag_processing.dagbag import DagBag

    monkeypatch.setenv("HMAR_HOME", str(home))
    monkeypatch.setenv("HMAR_SCHEDULES", str(tmp_path))
    (tmp_path / "shop.yaml").write_text("datset: taobao\nraw: /data\n")
    run = DagBag(dags_directory, known_pools={"default_pool", "gpu"}).dags["hmar_retrain_shop"].test()
    assert str(run.state) == "failed"
    check = run.get_task_instance("check")
    assert (str(check.state), check.try_number) == ("failed", 1)
