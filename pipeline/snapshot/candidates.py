"""The stored candidates: drawn in SQL, a stretch of targets at a time, so that memory does not grow with them."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

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
            writer.write_table(_draw(warehouse, settings.candidates, first, end), row_group_size=1_000_000)


def _draw(warehouse: Warehouse, wanted: int, first: int, end: int) -> pa.Table:
    warehouse.table("70_candidate_plan")
    warehouse.table("71_taken")
    warehouse.table("72_candidates", "drawn")
    warehouse.table("73_short")
    while warehouse.value("select count(*) from short"):
        warehouse.table_of("candidate_plan", "select * from short")
        warehouse.table("72_candidates", "redrawn")
        warehouse.table_of(
            "drawn", "select * from drawn anti join short using (target) union all select * from redrawn"
        )
        warehouse.table("73_short")
    lists = warehouse.arrow(
        f"select list_resize(coalesce(items, []), {wanted}) as items from targets left join drawn using (target) "
        f"where target >= {first} and target < {end} order by target"
    )
    count = end - first
    return pa.table(
        [
            np.repeat(np.arange(first, end, dtype=np.int64), wanted),
            np.tile(np.arange(wanted, dtype=np.int16), count),
            pa.concat_arrays([chunk.flatten() for chunk in lists.column("items").chunks]),
        ],
        schema=SCHEMA,
    )
