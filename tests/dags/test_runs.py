"""The DAGs run, task by task, in this process: no scheduler, but Airflow's own machinery and the real stages."""

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
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

    from pipeline.home import Home, run_key

    conf = {"dataset": "movielens", "raw": str(movielens_log), "models": ["popularity"], "recommend": {"k": 3}}
    run = bag.dags["hmar_retrain"].test(run_conf=conf)
    assert {str(one.state) for one in run.get_task_instances()} == {"success"}
    promoted = results(run, "promote")
    store = Home(home).mlflow_uri
    champion = MlflowClient(store, registry_uri=store).get_model_version_by_alias(promoted["name"], "champion")
    assert str(champion.version) == promoted["champion"]
    recommended = results(run, "recommend")
    assert recommended["rows"] == 3 * recommended["users"]
    built = results(run, "snapshot")
    assert Home(home).kept(run_key(run.run_id), built["id"]).is_file(), "what the run's report needs"


def test_a_search_is_a_task_per_trial_and_goes_on_where_it_stood(bag: Any, home: Path, movielens_log: Path) -> None:
    from mlflow import MlflowClient

    from pipeline.home import Home

    log = {"dataset": "movielens", "name": "films"}
    run = bag.dags["hmar_ingest"].test(run_conf={**log, "raw": str(movielens_log)})
    assert str(run.state) == "success"
    search = {"config.behaviors": {"type": "choice", "values": ["target", "all"]}}
    conf = {**log, "model": "popularity", "trials": 2, "search": search}
    found = {}
    for trials in (2, 3):
        run = bag.dags["hmar_tune"].test(run_conf={**conf, "trials": trials})
        assert {str(one.state) for one in run.get_task_instances()} == {"success"}
        assert len([one for one in run.get_task_instances() if one.task_id == "trial"]) == trials
        found[trials] = results(run, "best")
    assert found[3]["trials"] == 3
    assert found[3]["study"] == found[2]["study"]
    assert Path(found[3]["best"]).is_file()
    client = MlflowClient(Home(home).mlflow_uri)
    (experiment,) = [one for one in client.search_experiments() if one.name == "hmar-films-tune"]
    runs = client.search_runs([experiment.experiment_id])
    trials = [one.data.tags["hmar.trial"] for one in runs if "mlflow.parentRunId" in one.data.tags]
    assert sorted(trials) == ["0", "1", "2"], "none was run twice"
    assert len(updates()) == 1, "a search publishes nothing"


def test_a_benchmark_is_a_task_per_search_and_run_and_repeats_nothing(bag: Any, home: Path, tmp_path: Path) -> None:
    file = tmp_path / "films.yaml"
    file.write_text(
        "name: films\nsplits: [leave_one_out]\nseeds: [0, 1]\ntrain: {max_epochs: 1}\n"
        "datasets:\n  films: {generated: {source: movielens, users: 60, items: 40, events_per_user: 20}}\n"
        "rows:\n  Recent: {model: recent}\n"
        "  SASRec: {model: sasrec, train: {loss: bce, negatives: 1, batch_size: 64, lr: 0.001}, trials: 1}\n"
    )
    kept = []
    for _ in range(2):
        run = bag.dags["hmar_benchmark"].test(run_conf={"file": str(file), "seeds": [3]})
        assert {str(one.state) for one in run.get_task_instances()} == {"success"}
        counts = {name: sum(one.task_id == name for one in run.get_task_instances()) for name in ("search", "cell")}
        assert counts == {"search": 1, "cell": 2}, "what the conf says goes before the file"
        kept.append({path: path.stat().st_mtime_ns for path in home.glob("benchmarks/films/cells/**/*.json")})
    assert kept[0] == kept[1]
    assert len(kept[0]) == 2
    told = results(run, "tables")
    assert (told["cells"], told["missing"]) == (2, [])
    text = Path(told["markdown"]).read_text(encoding="utf-8")
    assert "| SASRec |" in text
    assert "| Recent |" in text


def test_a_row_that_fails_keeps_no_other_from_its_run_nor_a_partial_table_from_saying_so(
    bag: Any, home: Path, tmp_path: Path
) -> None:
    file = tmp_path / "broken.yaml"
    file.write_text(
        "name: broken\nsplits: [leave_one_out]\nseeds: [0]\ntrain: {max_epochs: 1}\ntrials: 1\n"
        "datasets:\n  films: {generated: {source: movielens, users: 60, items: 40, events_per_user: 20}}\n"
        "rows:\n  Recent: {model: recent}\n"
        "  diverges: {model: sasrec, train: {lr: 1.0e+30, loss: bce}}\n"
        "  SASRec: {model: sasrec, train: {lr: 0.001, loss: bce}, trials: 0}\n"
    )
    seen = {}
    for partial in (False, True):
        run = bag.dags["hmar_benchmark"].test(run_conf={"file": str(file), "partial": partial})
        ends = {task: [str(one.state) for one in run.get_task_instances() if one.task_id == task]
                for task in ("search", "cell", "tables")}  # fmt: skip
        assert ends["search"] == ["failed"]
        assert sorted(ends["cell"]) == ["failed", "success", "success"]
        seen[partial] = ends["tables"]
    assert seen == {False: ["failed"], True: ["success"]}
    told = results(run, "tables")
    assert (told["cells"], [one["row"] for one in told["missing"]]) == (2, ["diverges"])


def test_a_benchmark_without_searches_comes_to_its_table_and_a_refused_one_to_nothing(bag: Any, home: Path) -> None:
    log = {"source": "movielens", "users": 60, "items": 40, "events_per_user": 20}
    conf = {"name": "plain", "datasets": {"films": {"generated": log}}, "splits": ["leave_one_out"], "seeds": [0]}
    run = bag.dags["hmar_benchmark"].test(run_conf={**conf, "rows": {"Recent": {"model": "recent"}}})
    ends = states(run)
    assert {task: end for task, end in ends.items() if end != "success"} == {"search": "skipped"}
    assert results(run, "tables")["cells"] == 1
    run = bag.dags["hmar_benchmark"].test(run_conf={**conf, "name": "wrong", "rows": {"Recent": {"model": "recant"}}})
    assert set(states(run).values()) == {"failed", "upstream_failed"}
    assert not (home / "benchmarks" / "wrong").exists()


def updates() -> list[tuple[str, str | None, Any]]:
    """(asset, partition key, digest) of every asset update since the last call."""
    from airflow.models.asset import AssetEvent, AssetModel
    from airflow.utils.session import create_session
    from sqlalchemy import delete, select

    with create_session() as session:
        rows = session.execute(
            select(AssetModel.uri, AssetEvent.partition_key, AssetEvent.extra)
            .join(AssetEvent, AssetEvent.asset_id == AssetModel.id)
            .order_by(AssetModel.uri, AssetEvent.partition_key)
        ).all()
        session.execute(delete(AssetEvent))
    return [(uri, key, extra["digest"]) for uri, key, extra in rows]


def states(run: Any) -> dict[str, str]:
    return {one.task_id: str(one.state) for one in run.get_task_instances()}


def test_ingest_publishes_and_says_so_once(bag: Any, home: Path, taobao_log: Path) -> None:
    conf = {"dataset": "taobao", "name": "shop", "raw": str(taobao_log)}
    run = bag.dags["hmar_ingest"].test(run_conf=conf)
    assert str(run.state) == "success"
    published = results(run, "validate")
    assert (Path(published["events"]) / "manifest.json").is_file()
    assert updates() == [("hmar://events/shop", None, published["digest"])]

    again = bag.dags["hmar_ingest"].test(run_conf=conf)
    assert str(again.state) == "success"
    assert (states(again)["announce"], states(again)["settle"]) == ("skipped", "skipped")
    assert updates() == []


def test_while_another_run_writes_the_dataset_a_task_waits(bag: Any, home: Path, taobao_log: Path) -> None:
    from pipeline.home import Home
    from pipeline.storage.lock import dataset_lock

    asked = threading.Event()

    def hold() -> None:
        with dataset_lock(Home(home).lock("shop"), "somebody"):
            asked.set()
            release.wait(60)

    release = threading.Event()
    holder = threading.Thread(target=hold)
    holder.start()
    assert asked.wait(10)
    threading.Timer(4, release.set).start()
    run = bag.dags["hmar_ingest"].test(run_conf={"dataset": "taobao", "name": "shop", "raw": str(taobao_log)})
    holder.join()
    assert str(run.state) == "success"
    assert run.get_task_instance("ingest").try_number == 1
    assert len(updates()) == 1


def test_each_day_is_a_run_and_only_what_it_changes_is_told(
    database: None, dags_directory: Path, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow.dag_processing.dagbag import DagBag

    from tests.support.raw_logs import DAY, START, taobao_rows, write

    monkeypatch.setenv("HMAR_HOME", str(home))
    monkeypatch.setenv("HMAR_SCHEDULES", str(tmp_path))
    logs = tmp_path / "logs"
    late = taobao_rows(3)
    for name, rows in (
        ("2017-11-25", taobao_rows(20)[3:]),
        ("2017-11-26", taobao_rows(20, START + DAY)),
        ("2017-11-27", taobao_rows(20, START + 2 * DAY) + late),
    ):
        write(logs / name / "UserBehavior.csv", "".join(f"{row}\n" for row in rows))
    (tmp_path / "shop.yaml").write_text(
        f"ingest_schedule: '0 1 * * *'\ntimezone: Asia/Shanghai\ndataset: taobao\nname: shop\n"
        f"raw: {logs}/{{date}}/UserBehavior.csv\ningest: {{mode: append}}\n"
    )
    dag = DagBag(dags_directory, known_pools={"default_pool", "gpu"}).dags["hmar_ingest_shop"]
    whole, partition = "hmar://events/shop", "hmar://events/shop/partitions"
    for night, changed in (
        (24, ["2017-11-24"]),  # the log's first row is of four in the afternoon, UTC
        (25, ["2017-11-25"]),
        (26, ["2017-11-24", "2017-11-26"]),
    ):
        run = dag.test(logical_date=datetime(2017, 11, night, 17, tzinfo=UTC))
        assert str(run.state) == "success", states(run)
        digest = results(run, "publish")["digest"]
        assert results(run, "check")["day"] == f"2017-11-{night + 1}", "in Shanghai"
        assert updates() == [(whole, None, digest), *((partition, day, digest) for day in changed)]
    assert results(run, "publish")["accounts"]["events"] == 60

    again = dag.test(logical_date=datetime(2017, 11, 25, 17, tzinfo=UTC))
    assert states(again) == {
        "check": "success", "arrive": "success", "publish": "success", "announce": "skipped", "settle": "skipped"
    }  # fmt: skip
    assert updates() == []


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
