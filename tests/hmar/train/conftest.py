import pytest

from hmar.data.snapshot import Snapshot
from tests.support.training import cycle_snapshot


@pytest.fixture(scope="session")
def cycle(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    """A snapshot whose next item is certain. Do not write into it."""
    return cycle_snapshot(tmp_path_factory.mktemp("snapshot") / "cycle")
