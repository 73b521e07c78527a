"""How a log was delivered shows nowhere: order of rows, files, deliveries made twice, threads."""

import tempfile
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hmar.data.snapshot import Manifest, Snapshot
from pipeline.results import Published
from pipeline.stages.snapshot import build
from pipeline.storage.events_store import read_manifest
from tests.support.raw_logs import DAY, START, land_and_publish, lines, write
from tests.support.raw_logs import settings as run_settings

BEHAVIORS = ("pv", "pv", "fav", "cart", "buy")
ROWS = [
    f"{n % 9 + 1},{n * n % 31 + 1},{n % 3},{BEHAVIORS[n * n % 5]},{START + n * 17 % 40 * DAY // 5}" for n in range(120)
]
"""Distinct events of nine users in eight days, many at one time."""


def snapshot_of(home: Path, deliveries: list[list[str]], threads: int) -> Manifest:
    """The snapshot after all deliveries, each a folder of its own."""
    for number, rows in enumerate(deliveries):
        raw = write(home / "raw" / f"part-{number}" / "UserBehavior.csv", lines(rows)).parent
        s = run_settings(
            "taobao",
            raw,
            home,
            engine={"threads": threads, "memory_limit": "1GB"},
            ingest={"mode": "append"},
            snapshot={"candidates": 4, "splits": ["leave_one_out", "temporal", "published"]},
        )
        land_and_publish(s)
    events = read_manifest(s.paths.events(s.name))
    published = Published(events=s.paths.events(s.name), digest=events.digest, accounts=events.accounts)
    return Snapshot(build(s, published).snapshot).manifest


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """One delivery, rows in the order they were made, one thread."""
    return snapshot_of(tmp_path_factory.mktemp("reference"), [ROWS], 1)


@pytest.mark.slow
@given(
    rows=st.permutations(ROWS),
    cuts=st.lists(st.integers(1, len(ROWS) - 1), max_size=3),
    twice=st.lists(st.sampled_from(ROWS), max_size=30),
    again=st.booleans(),
    threads=st.integers(1, 4),
)
@settings(max_examples=12)
def test_delivery_and_threads_change_no_file(
    reference: Manifest, rows: list[str], cuts: list[int], twice: list[str], again: bool, threads: int
) -> None:
    """
    Args:
        cuts: where the rows are divided into deliveries. twice: rows that are in the last delivery once more.
        again: the first delivery is delivered a second time at the end.
    """
    bounds = [0, *sorted(set(cuts)), len(rows)]
    deliveries = [rows[a:b] for a, b in pairwise(bounds)]
    deliveries[-1] = [*deliveries[-1], *twice]
    with tempfile.TemporaryDirectory() as home:
        manifest = snapshot_of(Path(home), [*deliveries, deliveries[0]] if again else deliveries, threads)
    assert manifest.id == reference.id
    assert manifest.files == reference.files
    assert sum(targets["test"]["targets"] for targets in manifest.splits.values()) > 10
