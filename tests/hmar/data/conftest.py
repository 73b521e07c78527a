from pathlib import Path

import pytest

from hmar.data.snapshot import Snapshot
from tests.support.arrays import random_users, write_snapshot


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    """40 users with 0 to 18 events on 15 items, the last three of each held out."""
    path: Path = tmp_path_factory.mktemp("shop") / "snapshot"
    return write_snapshot(path, random_users(40, 15, 3, 18), items=15, held_out=3)
