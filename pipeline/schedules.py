"""Retraining every night: one YAML file per scheduled run, read while Airflow parses the DAGs (so: light).

A file ``<name>.yaml`` in ``HMAR_SCHEDULES`` (default: ``schedules`` in the data directory) holds settings as for
``hmar retrain`` and up to two more keys::

    schedule: "30 2 * * *"        # cron, @daily, ..., or: events (whenever hmar_ingest has published this dataset)
    timezone: Europe/Berlin       # of the cron expression; UTC if left out
    dataset: taobao
    raw: /data/logs/UserBehavior.csv

A mistake in one file must neither stop the other schedules nor pass for a quiet night: its run fails, every time it
is due, with the error.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from hmar.errors import SettingsError
from hmar.settings import read_yaml
from pipeline.home import run_key

NIGHTLY = "@daily"
"""When a file that does not say is due."""

ON_EVENTS = "events"


@dataclass(frozen=True)
class Schedule:
    """One file: what is due when."""

    name: str
    file: Path
    when: str
    timezone: str
    values: dict[str, Any]
    problem: str = ""
    """Why the file cannot be used; empty if it can."""

    @property
    def dataset(self) -> str:
        """The name its events live under."""
        return str(self.values.get("name") or self.values.get("dataset") or self.name)


def directory() -> Path:
    """Where the files lie."""
    home = Path(os.environ.get("HMAR_HOME", "var")).absolute()
    return Path(os.environ.get("HMAR_SCHEDULES") or home / "schedules")


def read() -> list[Schedule]:
    """The schedules, by name. A file that cannot be read is among them, due nightly, with its problem."""
    return [_read(file) for file in sorted(directory().glob("*.yaml"))]


def _read(file: Path) -> Schedule:
    name = run_key(file.stem)
    try:
        values = read_yaml(file)
    except SettingsError as error:
        return Schedule(name, file, NIGHTLY, "UTC", {}, str(error))
    when = str(values.pop("schedule", NIGHTLY))
    timezone = str(values.pop("timezone", "UTC"))
    try:
        ZoneInfo(timezone)
    except (ValueError, OSError, KeyError):
        problem = f"settings file {file}: unknown timezone {timezone!r}; write it like Europe/Berlin"
        return Schedule(name, file, when, "UTC", values, problem)
    return Schedule(name, file, when, timezone, values)
