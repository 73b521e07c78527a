"""A dataset with a snapshot and an MLflow store, made once; a copy of the store per test. And one whole night."""

from pathlib import Path

import pytest

from pipeline.registry import quiet_client
from pipeline.stages.snapshot import build
from tests.support.events import publish_events
from tests.support.night import Night, whole_night
from tests.support.registry import Shop
from tests.support.tiny_snapshot import random_events, snapshot_run


@pytest.fixture(scope="session")
def _shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    s = snapshot_run(tmp_path_factory.mktemp("shop"), candidates=10)
    published = publish_events(s.paths.events(s.name), random_events(60, 30, 2000, seed=5))
    quiet_client(s.mlflow_uri)
    return Shop(s, build(s, published))


@pytest.fixture
def shop(_shop: Shop, tmp_path: Path) -> Shop:
    """60 users, 30 items, behaviors view, cart, buy; the data directory and the MLflow store are the test's own."""
    return _shop.in_home(tmp_path / "home")


@pytest.fixture(scope="session")
def night(_shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Night:
    """From the snapshot to the report, with real processes: SASRec for two epochs and Popularity. Only read it."""
    return whole_night(_shop.in_home(tmp_path_factory.mktemp("night") / "home"))
