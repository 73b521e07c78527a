from pathlib import Path

import pytest

from hmar.data.snapshot import Snapshot
from tests.support.arrays import random_users, write_snapshot


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    """10 users with up to 14 events on 11 items, so that items recur."""
    path: Path = tmp_path_factory.mktemp("losses") / "snapshot"
    return write_snapshot(path, random_users(10, 11, 3, 14, seed=3), items=11)
