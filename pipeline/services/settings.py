"""Settings of the local services. ``HMAR_HOME`` is the only variable they take from the environment."""

import os
from pathlib import Path
from typing import Literal

from pydantic import Field

from hmar.settings import LayeredSettings
from pipeline.home import Home


def default_home() -> Path:
    """The data directory: HMAR_HOME, or var where one stands."""
    return Path(os.environ.get("HMAR_HOME") or "var")


class HomeSettings(LayeredSettings):
    """Which services are meant: those of one data directory."""

    home: Path = Field(default_factory=default_home)
    """Data directory; HMAR_HOME or var if not given."""

    @property
    def paths(self) -> Home:
        """The layout of the data directory."""
        return Home(self.home.absolute())


class UpSettings(HomeSettings):
    """Start Airflow and the MLflow server on this machine; start again only what is not running."""

    airflow_port: int = Field(0, ge=0, le=65535)
    """Port of Airflow's pages; 0: the one of last time, else 8080, else a free one."""
    mlflow_port: int = Field(0, ge=0, le=65535)
    """Port of MLflow's pages; 0: the one of last time, else 5000, else a free one."""
    database: Literal["auto", "sqlite", "postgres"] = "auto"
    """Airflow's own database. auto: what this home has, or PostgreSQL where it is installed, or SQLite."""
    login: bool = True
    """Whether Airflow's pages ask for the generated password; --no-login makes everybody on this machine admin."""
    parallelism: int = Field(4, ge=1)
    """Tasks that run at the same time."""
    gpu_slots: int = Field(1, ge=1)
    """Trainings and scorings that run at the same time."""
    retry_seconds: float = Field(30, ge=0)
    """Pause before the first retry of a task."""
    wait_seconds: float = Field(240, gt=0)
    """How long to wait until everything answers."""
