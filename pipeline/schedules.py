"""What runs by the clock: one YAML file per dataset, read while Airflow parses the DAGs (so: light).

A file ``<name>.yaml`` in ``HMAR_SCHEDULES`` (default: ``schedules`` in the data directory) holds settings as for
``hmar retrain`` and some more keys::

    schedule: "30 2 * * *"          # of hmar_retrain_<name>: cron, @daily, ..., or: events (when they have changed)
    timezone: Europe/Berlin         # of the cron expressions and of a run's day; UTC if left out
    dataset: taobao
    raw: /logs/{date}/UserBehavior.csv
    ingest: {mode: append}
    ingest_schedule: "0 1 * * *"    # hmar_ingest_<name> takes in each day's file; retraining reads what it published
    start_date: 2017-11-25          # of hmar_ingest_<name>: the first day
    catchup: true                   # whether the days since start_date are run when it is switched on

A mistake in one file must neither stop the other schedules nor pass for a quiet night: its runs fail, every time they
are due, with the error.
"""

import os
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from hmar.errors import SettingsError
from hmar.settings import read_yaml
from pipeline.home import run_key

NIGHTLY = "@daily"
"""When a file that does not say is due."""

ON_EVENTS = "events"

KEYS = ("schedule", "timezone", "ingest_schedule", "start_date", "catchup")
"""What a file may hold besides settings."""


@dataclass(frozen=True)
class Schedule:
    """One file: what is due when."""

    name: str
    file: Path
    values: dict[str, Any]
    """The settings of its runs."""
    when: str = NIGHTLY
    """Cron expression of the retraining, or :data:`ON_EVENTS`."""
    timezone: str = "UTC"
    ingest_when: str = ""
    """Cron expression of the daily ingest; empty if it has none."""
    start: datetime | None = None
    """First day of the daily ingest."""
    catchup: bool = False
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


def day_of(moment: datetime | None, timezone: str) -> date | None:
    """The day of a run's logical date where its schedule is at home; None if it has no logical date."""
    return None if moment is None else moment.astimezone(ZoneInfo(timezone)).date()


def _read(file: Path) -> Schedule:
    name = run_key(file.stem)
    try:
        values = read_yaml(file)
    except SettingsError as error:
        return Schedule(name, file, {}, problem=str(error))
    own = {key: values.pop(key) for key in KEYS if key in values}
    ingest_when = str(own.get("ingest_schedule", ""))
    when = str(own.get("schedule", ON_EVENTS if ingest_when else NIGHTLY))
    catchup = own.get("catchup", False)
    try:
        zone = _zone(str(own.get("timezone", "UTC")))
        start = _start(own["start_date"], zone) if "start_date" in own else None
        if not isinstance(catchup, bool):
            raise SettingsError(f"catchup: true or false, not {catchup!r}")
        if not ingest_when and (start or catchup):
            raise SettingsError("start_date and catchup belong to ingest_schedule, which is missing")
    except SettingsError as error:
        return Schedule(name, file, values, when, ingest_when=ingest_when, problem=f"settings file {file}: {error}")
    return Schedule(name, file, values, when, zone.key, ingest_when, start, catchup)


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, KeyError):
        raise SettingsError(f"unknown timezone {name!r}; write it like Europe/Berlin") from None


def _start(given: Any, zone: ZoneInfo) -> datetime:
    """Midnight of the day in the schedule's zone."""
    try:
        # PyYAML reads an unquoted day as a date.
        day = date.fromisoformat(given.isoformat() if isinstance(given, date) else str(given))
    except ValueError:
        raise SettingsError(f"start_date: {given!r} is no day; write it like 2017-11-25") from None
    return datetime(day.year, day.month, day.day, tzinfo=zone)
