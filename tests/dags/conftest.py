"""Airflow as the fast tests need it: no examples, and the DAGs directory as a bundle would have it."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"


@pytest.fixture(scope="session")
def dags_directory(checkout: Path) -> Path:
    return checkout / "dags"


@pytest.fixture(scope="session", autouse=True)
def _dags_on_path(dags_directory: Path) -> Iterator[None]:
    """The DAG files' siblings importable, as Airflow has it for a bundle."""
    sys.path.insert(0, str(dags_directory))
    yield
    sys.path.remove(str(dags_directory))
