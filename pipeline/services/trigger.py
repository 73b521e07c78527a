"""``hmar trigger``: start ``hmar_retrain`` through Airflow, and watch it."""

from typing import Any

from pydantic import Field
from rich.console import Console

from hmar.errors import ServiceError
from pipeline.commands.options import parse
from pipeline.form import PLACED
from pipeline.services.client import AirflowClient
from pipeline.services.control import client
from pipeline.services.follow import follow
from pipeline.settings import RetrainSettings


class TriggerSettings(RetrainSettings):
    """Start a run of the pipeline in Airflow. Flags that are not given are left to Airflow's own side."""

    follow: bool = False
    """Wait for the run's end, show what happens; exit code 0 if it succeeds, else 1."""
    dag: str = "hmar_retrain"
    """DAG to start."""
    airflow_url: str = ""
    """Airflow's address; the one that `hmar up` started for this home if empty."""
    airflow_user: str = "admin"
    airflow_password: str = Field("", repr=False)
    """Better in the environment: HMAR_AIRFLOW_PASSWORD."""


def main(arguments: list[str]) -> int:
    """Command line of ``hmar trigger``."""
    s = parse(TriggerSettings, arguments, "hmar trigger")
    if s is None:
        return 0
    console = Console()
    with _client(s) as api:
        run_id = api.trigger(s.dag, conf(s))
        console.print(f"{s.dag}: started {run_id}, {api.address}/dags/{s.dag}/runs/{run_id}", soft_wrap=True)
        if not s.follow:
            return 0
        return 0 if follow(api, s.dag, run_id, s.paths, console) else 1


def conf(s: TriggerSettings) -> dict[str, Any]:
    """What to send: what was chosen here over the preset and the defaults, paths absolute, places left out."""
    s = s.model_copy(update={"raw": s.raw.absolute()})
    needed: dict[str, Any] = {"dataset": s.dataset, "raw": str(s.raw)}
    if s.table is not None:
        needed |= {"name": s.name, "table": s.table.model_dump(mode="json")}
    plain = TriggerSettings.resolve(needed, use_environment=False)
    own = set(TriggerSettings.model_fields) - set(RetrainSettings.model_fields)
    left_out = {*own, *PLACED}
    chosen = s.model_dump(mode="json", exclude=left_out)
    return {**needed, **_difference(plain.model_dump(mode="json", exclude=left_out), chosen)}


def _difference(weak: dict[str, Any], strong: dict[str, Any]) -> dict[str, Any]:
    changed: dict[str, Any] = {}
    for key, value in strong.items():
        before = weak.get(key)
        if value == before:
            continue
        both = isinstance(value, dict) and isinstance(before, dict)
        changed[key] = _difference(before, value) if both else value  # type: ignore[arg-type]
    return changed


def _client(s: TriggerSettings) -> AirflowClient:
    if not s.airflow_url:
        return client(s.paths)
    if not s.airflow_password:
        raise ServiceError(f"airflow at {s.airflow_url}: no password given; set HMAR_AIRFLOW_PASSWORD")
    return AirflowClient(s.airflow_url, s.airflow_user, s.airflow_password)
