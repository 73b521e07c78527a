"""The stored candidates: drawn in SQL, a stretch of targets at a time, so that memory does not grow with them."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.settings import SnapshotSettings
from pipeline.snapshot.warehouse import Warehouse

ROWS_AT_ONCE = 4_000_000
DEVIATIONS = 6
"""How far above the mean the number of draws begins. It decides the time taken, never what is drawn."""
SCHEMA = pa.schema([("target", pa.int64()), ("position", pa.int16()), ("item", pa.int32())])


def write_candidates(warehouse: Warehouse, settings: SnapshotSettings, split: str, path: Path) -> None:
    """Draw for the rows of ``targets`` and write them in the order of (target, position).

    Every target has exactly ``settings.candidates`` rows; item is null where the catalog had no more to offer.
    """
    warehouse.set(
        split=split,
        seed=settings.seed,
        candidates=settings.candidates,
        deviations=DEVIATIONS,
        unseen=settings.unseen,
        excluding=settings.unseen or not settings.repeats,
    )
    total = warehouse.value("select count(*) from targets")
    stretch = max(1, ROWS_AT_ONCE // settings.candidates)
    with pq.ParquetWriter(path, SCHEMA, compression="zstd", use_dictionary=["target", "position"]) as writer:
        for first in range(0, total, stretch):
            end = min(first + stretch, total)
            warehouse.set(first_target=first, end_target=end)
            items = _draw(warehouse, settings.candidates, first, end)
            writer.write_table(_flat(items, first), row_group_size=1_000_000)


def _draw(warehouse: Warehouse, wanted: int, first: int, end: int) -> NDArray[np.int32]:
    """The candidates of targets first : end, [end - first, wanted]; -1 after the last where there are fewer."""
    items = np.full((end - first, wanted), -1, np.int32)
    warehouse.table("70_candidate_plan")
    warehouse.table("71_taken")
    warehouse.view("72_candidates", "offers")
    while True:
        offers = warehouse.arrow(
            f"select cast(target - {first} as integer) as row, candidate from offers order by row, rank, candidate"
        )
        row, candidate = (offers.column(name).to_numpy() for name in ("row", "candidate"))
        found = np.bincount(row, minlength=len(items))
        position = np.arange(len(row)) - np.repeat(np.cumsum(found) - found, found)
        kept = position < wanted
        items[row[kept], position[kept]] = candidate[kept]
        drawn = warehouse.arrow("select target from candidate_plan where draws is not null").column("target").to_numpy()
        short = drawn[found[drawn - first] < wanted]
        if not len(short):
            return items
        warehouse.set(short=short.tolist())
        warehouse.table("73_short", "candidate_plan")


def _flat(items: NDArray[np.int32], first: int) -> pa.Table:
    targets, wanted = items.shape
    return pa.table(
        [
            np.repeat(np.arange(first, first + targets, dtype=np.int64), wanted),
            np.tile(np.arange(wanted, dtype=np.int16), targets),
            pa.array(items.ravel(), mask=items.ravel() < 0),
        ],
        schema=SCHEMA,
    )
