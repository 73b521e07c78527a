"""Runs in a real Airflow, waited for and looked at through its REST API."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

from pipeline.home import Home
from pipeline.services.client import AirflowClient

SETTLED = {"success", "failed"}


def airflow_command(home: Home, *words: str) -> subprocess.CompletedProcess[str]:
    """The airflow command line, told nothing but AIRFLOW_HOME."""
    return subprocess.run(
        [str(Path(sys.executable).parent / "airflow"), *words],
        env={**os.environ, "AIRFLOW_HOME": str(home.airflow)},
        capture_output=True,
        text=True,
        timeout=120,
    )


def backfill(home: Home, dag_id: str, first: date, last: date, offset: str, *options: str) -> None:
    """Create runs for the days from ``first`` to ``last``, both included, where the clock is at ``offset``.

    Airflow has one backfill of a DAG at a time, and its scheduler notices the end of one only after a while.
    """

    def created() -> bool:
        done = airflow_command(
            home, "backfill", "create", "--dag-id", dag_id,
            "--from-date", f"{first}T00:00:00{offset}", "--to-date", f"{last}T23:59:59{offset}", *options,
        )  # fmt: skip
        assert done.returncode == 0 or "AlreadyRunningBackfill" in done.stderr, done.stderr
        return done.returncode == 0

    wait_for(f"another backfill of {dag_id} does not end", created)


def wait_for(what: str, condition: Callable[[], Any], seconds: float = 600, pause: float = 0.2) -> Any:
    """What ``condition`` returns once it is true."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(pause)
    raise AssertionError(f"after {seconds:.0f} s: {what}")


def settled(api: AirflowClient, dag_id: str, run_id: str, seconds: float = 600) -> str:
    """The state the run ended in."""

    def state() -> str | None:
        now = api.run_state(dag_id, run_id)
        return now if now in SETTLED else None

    return str(wait_for(f"{dag_id} {run_id} has not ended", state, seconds, pause=0.5))


def finish(api: AirflowClient, conf: dict[str, Any], dag_id: str = "hmar_retrain", seconds: float = 600) -> str:
    """Start a run, wait for its end, insist on success; returns its id."""
    run_id = api.trigger(dag_id, conf)
    state = settled(api, dag_id, run_id, seconds)
    assert state == "success", failures(api, dag_id, run_id)
    return run_id


def run_ids(api: AirflowClient, dag_id: str) -> list[str]:
    """The DAG's runs, oldest first."""
    found = api.get(f"/api/v2/dags/{dag_id}/dagRuns", order_by="run_after", limit=100)
    return [str(run["dag_run_id"]) for run in found["dag_runs"]]


def instance(api: AirflowClient, run_id: str, task_id: str, dag_id: str = "hmar_retrain") -> dict[str, Any]:
    """A task instance; the first one where it is mapped."""
    return next(one for one in api.task_instances(dag_id, run_id) if one["task_id"] == task_id)


def failures(api: AirflowClient, dag_id: str, run_id: str) -> dict[str, list[str]]:
    """What failed in a run, and why."""
    broken = [one for one in api.task_instances(dag_id, run_id) if one["state"] in ("failed", "up_for_retry")]
    return {f"{one['task_id']}[{one['map_index']}]": api.errors(dag_id, run_id, one) for one in broken}


def fingerprint(*directories: Path) -> dict[str, tuple[int, int, bytes]]:
    """Every file below: modification time, size, content."""
    files = [path for directory in directories for path in sorted(directory.rglob("*")) if path.is_file()]
    return {str(path): (path.stat().st_mtime_ns, path.stat().st_size, path.read_bytes()) for path in files}
