from collections.abc import Iterator

import pytest
import torch

from hmar.data.snapshot import Snapshot
from tests.support.arrays import random_users, write_impressions, write_snapshot


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    """These models are so small that threads only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    """30 users with 2 to 18 events on 14 items."""
    users = random_users(30, 14, 3, 18, seed=7, shortest=2)
    return write_impressions(write_snapshot(tmp_path_factory.mktemp("models") / "snapshot", users, items=14))


@pytest.fixture(scope="session")
def circle(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    """30 users who buy eleven items in a circle, each from a place of their own, and view as often."""
    users = [[((u + t // 2) % 11, 2 * (t % 2), t) for t in range(19)] for u in range(30)]
    path = tmp_path_factory.mktemp("models") / "circle"
    return write_impressions(write_snapshot(path, users, items=11), negative=(), sampled=2)
