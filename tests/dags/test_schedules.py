"""A file per night: what becomes of good ones and of broken ones."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pipeline import schedules

OURS = ("hmar_retrain", "hmar_ingest", "hmar_tune", "hmar_benchmark")


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HMAR_SCHEDULES", str(tmp_path))
    return tmp_path


def dags(directory: Path) -> dict[str, Any]:
    """The DAGs that the files became."""
    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag(directory, known_pools={"default_pool", "gpu"})
    assert bag.import_errors == {}
    return {name: dag for name, dag in bag.dags.items() if name not in OURS}


def problem(dag: Any) -> str:
    """What the first task of a run will say."""
    return str(dag.task_dict["check"].op_args[1])


def test_cron_with_its_time_zone(files: Path, dags_directory: Path) -> None:
    (files / "shop.yaml").write_text("schedule: '30 2 * * *'\ntimezone: Europe/Berlin\ndataset: taobao\nraw: /data\n")
    timetable = dags(dags_directory)["hmar_retrain_shop"].timetable
    assert (timetable.expression, str(timetable.timezone)) == ("30 2 * * *", "Europe/Berlin")


def test_daily_if_the_file_does_not_say(files: Path) -> None:
    (files / "shop.yaml").write_text("dataset: taobao\nraw: /data\n")
    (only,) = schedules.read()
    assert (only.when, only.values) == ("@daily", {"dataset": "taobao", "raw": "/data"})


def test_on_published_events(files: Path, dags_directory: Path) -> None:
    (files / "shop.yaml").write_text("schedule: events\ndataset: taobao\nname: shop\nraw: /data\n")
    asset = dags(dags_directory)["hmar_retrain_shop"].timetable.asset_condition
    assert "hmar://events/shop" in repr(asset)


def test_a_broken_file_stays_due_and_stops_no_other(files: Path, dags_directory: Path) -> None:
    (files / "a.yaml").write_text("dataset: [taobao\n")
    (files / "b.yaml").write_text("schedule: '99 99 * * *'\ndataset: taobao\nraw: /data\n")
    (files / "c.yaml").write_text("schedule: '0 1 * * *'\ntimezone: Mars/Olympus\ndataset: taobao\nraw: /data\n")
    (files / "d.yaml").write_text("start_date: 2017-11-31\ndataset: taobao\nraw: /data\n")
    (files / "e.yaml").write_bytes(b"dataset: taobao\nraw: /d\xe4ta\n")
    (files / "good.yaml").write_text("dataset: taobao\nraw: /data\n")
    found = dags(dags_directory)
    assert set(found) == {f"hmar_retrain_{name}" for name in ("a", "b", "c", "d", "e", "good")}
    said_by_file = {"a": "line 2", "b": "99 99 * * *", "c": "Mars/Olympus", "d": "day is out of range", "e": "UTF-8"}
    for name, said in said_by_file.items():
        dag = found[f"hmar_retrain_{name}"]
        assert dag.timetable.can_be_scheduled
        assert said in problem(dag)


def test_none_where_there_is_no_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HMAR_SCHEDULES", raising=False)
    monkeypatch.setenv("HMAR_HOME", str(tmp_path / "nowhere"))
    assert schedules.read() == []


DAILY = """
timezone: Asia/Shanghai
dataset: taobao
name: shop
raw: /logs/{date}/UserBehavior.csv
ingest: {mode: append}
ingest_schedule: "0 1 * * *"
"""


def test_a_daily_ingest_feeds_the_retraining(files: Path, dags_directory: Path) -> None:
    (files / "night.yaml").write_text(DAILY + "start_date: 2017-11-25\n")
    found = dags(dags_directory)
    assert set(found) == {"hmar_ingest_night", "hmar_retrain_night"}
    ingest, retrain = found["hmar_ingest_night"], found["hmar_retrain_night"]
    assert (ingest.timetable.expression, str(ingest.timetable.timezone)) == ("0 1 * * *", "Asia/Shanghai")
    assert not ingest.catchup
    assert ingest.start_date == datetime(2017, 11, 24, 16, tzinfo=UTC)
    assert problem(ingest) == problem(retrain) == ""
    outlets = {outlet.uri for outlet in ingest.task_dict["announce"].outlets if hasattr(outlet, "uri")}
    assert outlets == {"hmar://events/shop/partitions"}
    assert "'hmar://events/shop'" in repr(retrain.timetable.asset_condition), "on events, if the file does not say"
    assert {"ingest", "validate"}.isdisjoint(retrain.task_dict), "it reads what is published"


def test_days_of_one_dataset_take_turns_also_in_a_backfill(files: Path, dags_directory: Path) -> None:
    (files / "night.yaml").write_text(DAILY + "catchup: true\nstart_date: '2017-11-25'\nschedule: '30 2 * * *'\n")
    found = dags(dags_directory)
    ingest = found["hmar_ingest_night"]
    assert ingest.catchup
    assert ingest.task_dict["publish"].max_active_tis_per_dag == 1
    assert not any(task.depends_on_past for task in ingest.tasks), "Airflow refuses to run those backwards"
    assert found["hmar_retrain_night"].timetable.expression == "30 2 * * *"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("start_date: '2017-11-31'", "start_date: '2017-11-31' is no day; write it like 2017-11-25"),
        ("catchup: 'no'", "catchup: true or false, not 'no'"),
        ("timezone: Mars/Olympus", "unknown timezone 'Mars/Olympus'"),
        ("ingest_schedule: 99 99 * * *", "ingest_schedule '99 99 * * *'"),
    ],
)
def test_a_mistake_in_a_daily_ingest_fails_when_it_is_due(
    files: Path, dags_directory: Path, line: str, said: str
) -> None:
    key = line.partition(":")[0]
    kept = [one for one in DAILY.splitlines() if not one.startswith(f"{key}:")]
    (files / "night.yaml").write_text("\n".join([*kept, line]) + "\n")
    ingest = dags(dags_directory)["hmar_ingest_night"]
    assert ingest.timetable.can_be_scheduled
    assert said in problem(ingest)
    assert str(files / "night.yaml") in problem(ingest)


def test_keys_of_a_daily_ingest_alone_are_a_mistake(files: Path, dags_directory: Path) -> None:
    (files / "night.yaml").write_text("dataset: taobao\nraw: /data\nstart_date: 2017-11-25\n")
    found = dags(dags_directory)
    assert set(found) == {"hmar_retrain_night"}
    assert "belong to ingest_schedule" in problem(found["hmar_retrain_night"])
