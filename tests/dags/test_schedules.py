"""A file per night: what becomes of good ones and of broken ones."""

from pathlib import Path
from typing import Any

import pytest

from pipeline import schedules


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HMAR_SCHEDULES", str(tmp_path))
    return tmp_path


def dags(directory: Path) -> dict[str, Any]:
    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag(directory, known_pools={"default_pool", "gpu"})
    assert bag.import_errors == {}
    return {name: dag for name, dag in bag.dags.items() if name.startswith("hmar_retrain_")}


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
    (files / "good.yaml").write_text("dataset: taobao\nraw: /data\n")
    found = dags(dags_directory)
    assert set(found) == {f"hmar_retrain_{name}" for name in ("a", "b", "c", "good")}
    for name, said in (("a", "line 2"), ("b", "99 99 * * *"), ("c", "Mars/Olympus")):
        dag = found[f"hmar_retrain_{name}"]
        assert dag.timetable.can_be_scheduled
        assert said in dag.task_dict["check"].op_kwargs.get("problem", dag.task_dict["check"].op_args[-1])


def test_none_where_there_is_no_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HMAR_SCHEDULES", raising=False)
    monkeypatch.setenv("HMAR_HOME", str(tmp_path / "nowhere"))
    assert schedules.read() == []
