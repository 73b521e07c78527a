"""Incremental nights in a real Airflow on PostgreSQL: a file a day, backfills in both directions, a file that is late.

Whatever the order, the events are to the byte those of single runs without Airflow; assets are updated for what has
changed and for nothing else, and only what depends on them runs.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from hmar.errors import ServiceError
from pipeline.services import control
from pipeline.services.airflow import dags_directory
from pipeline.services.postgres import find_programs
from pipeline.services.settings import HomeSettings, UpSettings
from pipeline.settings import RetrainSettings
from pipeline.stages.ingest import land
from pipeline.stages.validate import validate
from tests.integration.conftest import TRAIN, Services, quiet
from tests.support.airflow_runs import airflow_command, backfill, failures, instance, run_ids, settled, wait_for
from tests.support.daily_logs import partitions_of, split_by_day

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

DAYS = [date(2017, 11, 25) + timedelta(days=n) for n in range(4)]

SETTINGS = {
    "dataset": "taobao",
    "ingest": {"mode": "append"},
    # Backwards, the days before the newest are those of which only late rows are there yet: too few to compare with.
    "expectations": {"min_volume": None, "max_volume": None, "max_behavior_drift": None},
}

LISTENER = '''
"""What somebody else hangs on the partitions of a dataset: a run for each one that has changed."""

from airflow.sdk import Asset, PartitionedAssetTimetable, StartOfDayMapper, dag, task


@dag(
    dag_id="per_day",
    schedule=PartitionedAssetTimetable(
        assets=Asset.ref(uri="hmar://events/shop/partitions"),
        default_partition_mapper=StartOfDayMapper(input_format="%Y-%m-%d"),
    ),
    is_paused_upon_creation=True,
)
def per_day():
    @task
    def look(dag_run=None):
        return [dag_run.partition_key, dag_run.partition_date.isoformat()]

    look()


per_day()
'''


@dataclass(frozen=True)
class Nights:
    """Airflow with the schedules of two datasets over the same files, the last of which is not there yet."""

    services: Services
    files: dict[date, Path]


@pytest.fixture(scope="module")
def nights(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nights]:
    from pipeline.simulate import simulate

    try:
        find_programs()
    except ServiceError as error:
        pytest.skip(str(error))
    log = simulate(
        "taobao", tmp_path_factory.mktemp("log") / "taobao", users=200, items=120, seed=5, events_per_user=40
    )
    files = split_by_day(log, tmp_path_factory.mktemp("logs"), len(DAYS))
    assert list(files) == DAYS
    root = Path(tempfile.mkdtemp(prefix="hmar-nights-"))
    root.chmod(0o755)  # PostgreSQL refuses to run as root; whoever runs it must get to its files
    where = HomeSettings.resolve({"home": root / "home"}, use_environment=False)
    schedules, listeners = root / "home" / "schedules", root / "listeners"
    for directory in (schedules, listeners):
        directory.mkdir(parents=True)
    daily = {**SETTINGS, "raw": pattern(files), "timezone": "Asia/Shanghai", "ingest_schedule": "0 1 * * *"}
    for name, values in (
        ("shop", {**daily, "models": ["popularity"]}),
        ("mirror", {**daily, "schedule": "0 0 1 1 *"}),
        ("other", {"dataset": "taobao", "raw": str(log), "schedule": "events"}),
    ):
        (schedules / f"{name}.yaml").write_text(yaml.safe_dump({**values, "name": name}))
    (listeners / "per_day.py").write_text(LISTENER)
    bundles = [
        {
            "name": name,
            "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle",
            "kwargs": {"path": str(path)},
        }
        for name, path in (("hmar", dags_directory()), ("listeners", listeners))
    ]
    settings = UpSettings.resolve(
        {"home": where.home, "database": "postgres", "retry_seconds": 0.2, "parallelism": 6}, use_environment=False
    )
    try:
        with pytest.MonkeyPatch.context() as patch:
            for name in [name for name in os.environ if name.startswith("AIRFLOW")]:
                patch.delenv(name)
            for name, value in TRAIN.items():
                patch.setenv(name, value)
            patch.setenv("AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST", json.dumps(bundles))
            state = control.up(settings, quiet())
        with control.client(where.paths) as api:
            yield Nights(Services(where.paths, state, api), files)
    finally:
        control.down(where, quiet())
        shutil.rmtree(root, ignore_errors=True)


def pattern(files: dict[date, Path]) -> str:
    """The files with the day left open."""
    return f"{files[DAYS[0]].parents[1]}/{{date}}/UserBehavior.csv"


def published(nights: Nights, home: Path, days: list[date]) -> dict[str, bytes]:
    """Every published file after single runs for these days, in this order."""
    for day in days:
        values = {**SETTINGS, "name": "shop", "home": home, "raw": pattern(nights.files), "day": day}
        s = RetrainSettings.resolve(values, use_environment=False)
        validate(s, land(s))
    return content(s.paths.events("shop"))


def content(events: Path) -> dict[str, bytes]:
    return {path.relative_to(events).as_posix(): path.read_bytes() for path in sorted(events.rglob("*.*"))}


def updates(nights: Nights, dataset: str) -> list[dict[str, Any]]:
    """The updates of a dataset's assets, oldest first."""
    found = nights.services.api.get("/api/v2/assets/events", order_by="timestamp", limit=100)["asset_events"]
    return [one for one in found if one["uri"].startswith(f"hmar://events/{dataset}")]


def keys(events: list[dict[str, Any]]) -> list[str]:
    return sorted(event["partition_key"] for event in events if event["partition_key"])


def test_nights(nights: Nights, tmp_path: Path) -> None:
    services, api = nights.services, nights.services.api
    home = services.home
    *first, last = nights.files.values()
    late = last.rename(last.with_name("not yet"))
    forwards, backwards = tmp_path / "forwards", tmp_path / "backwards"
    done = airflow_command(home, "dags", "pause", "hmar_retrain_shop")
    assert done.returncode == 0, done.stderr

    # Three days, forwards and backwards.
    backfill(home, "hmar_ingest_shop", DAYS[0], DAYS[2], "+08:00")
    backfill(home, "hmar_ingest_mirror", DAYS[0], DAYS[2], "+08:00", "--run-backwards")
    for name in ("shop", "mirror"):
        runs = wait_for(f"{name} has no runs", lambda name=name: backfilled(nights, name))
        assert len(runs) == 3
        for run in runs:
            state = settled(api, f"hmar_ingest_{name}", run)
            assert state == "success", failures(api, f"hmar_ingest_{name}", run)
    expected = published(nights, forwards, DAYS[:3])
    assert content(home.events("shop")) == expected
    assert published(nights, backwards, DAYS[2::-1]) == expected
    mirrored = content(home.events("mirror"))
    assert json.loads(mirrored.pop("manifest.json")) == {
        **json.loads(expected.pop("manifest.json")),
        "dataset": "mirror",
    }
    assert mirrored == expected
    told = updates(nights, "shop")
    assert {event["partition_key"] for event in told} - {None} == {key for file in first for key in partitions_of(file)}

    # A fourth, whose file is late: the run waits for it, and then retraining and listeners start, once.
    done = airflow_command(home, "dags", "unpause", "hmar_retrain_shop|per_day", "--treat-dag-id-as-regex", "--yes")
    assert done.returncode == 0, done.stderr
    backfill(home, "hmar_ingest_shop", DAYS[3], DAYS[3], "+08:00")
    (run,) = wait_for("no run for the fourth day", lambda: set(backfilled(nights, "shop")) - set(runs_of(told)))

    def waiting() -> dict[str, Any] | None:
        arrival = instance(api, run, "arrive", "hmar_ingest_shop")
        return arrival if arrival["state"] == "up_for_retry" else None

    said = api.errors("hmar_ingest_shop", run, wait_for("nobody missed the file", waiting))
    assert said == [f"DataError: raw: {last} does not exist; give the file or directory of the raw log"]
    late.rename(last)
    state = settled(api, "hmar_ingest_shop", run)
    assert state == "success", failures(api, "hmar_ingest_shop", run)
    assert content(home.events("shop")) == published(nights, forwards, DAYS[3:])
    last_told = updates(nights, "shop")[len(told) :]
    assert keys(last_told) == sorted(partitions_of(last)), "days of late rows, too"
    (whole,) = [event for event in last_told if event["uri"] == "hmar://events/shop"]
    manifest = json.loads((home.events("shop") / "manifest.json").read_text())
    assert whole["extra"]["digest"] == manifest["digest"]
    assert whole["extra"]["day"] == DAYS[3].isoformat()
    (retraining,) = wait_for("nothing is retrained", lambda: run_ids(api, "hmar_retrain_shop"))
    wait_for("it builds no snapshot", lambda: api.result("hmar_retrain_shop", retraining, "snapshot"))
    assert api.result("hmar_retrain_shop", retraining, "published")["digest"] == manifest["digest"]

    # The fourth again: nothing has changed, so nothing is said and nothing runs.
    before = {path: path.stat().st_mtime_ns for path in home.events("shop").rglob("*.*")}
    backfill(home, "hmar_ingest_shop", DAYS[3], DAYS[3], "+08:00", "--reprocess-behavior", "completed")
    wait_for("it did not run again", lambda: instance(api, run, "publish", "hmar_ingest_shop")["state"] != "success")
    assert settled(api, "hmar_ingest_shop", run) == "success"
    assert instance(api, run, "announce", "hmar_ingest_shop")["state"] == "skipped"
    assert {path: path.stat().st_mtime_ns for path in home.events("shop").rglob("*.*")} == before
    assert ids(updates(nights, "shop")) == ids(told + last_told)
    assert run_ids(api, "hmar_retrain_shop") == [retraining]
    assert run_ids(api, "hmar_retrain_other") == run_ids(api, "hmar_retrain_mirror") == []
    listened = api.get("/api/v2/dags/per_day/dagRuns", limit=100)["dag_runs"]
    assert sorted(one["partition_key"] for one in listened) == keys(last_told)


def ids(events: list[dict[str, Any]]) -> list[int]:
    return [event["id"] for event in events]


def backfilled(nights: Nights, name: str) -> list[str]:
    return [run for run in run_ids(nights.services.api, f"hmar_ingest_{name}") if run.startswith("backfill")]


def runs_of(events: list[dict[str, Any]]) -> set[str]:
    return {event["source_run_id"] for event in events}
