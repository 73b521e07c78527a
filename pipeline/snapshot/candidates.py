"""The stored candidates: drawn in SQL, a stretch of targets at a time, so that memory does not grow with them."""

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.settings import SnapshotSettings
from pipeline.snapshot.warehouse import Warehouse

ROWS_AT_ONCE = 2_000_000
DEVIATIONS = 6
"""How far above the mean the number of draws begins. It decides the time taken, never what is drawn."""
SCHEMA = pa.schema([("target", pa.int64()), ("position", pa.int16()), ("item", pa.int32())])


def write_candidates(warehouse: Warehouse, settings: SnapshotSettings, split: str, path: Path) -> None:
    """Draw for the rows of ``targets`` and write them in the order of (target, position).

    The split published has negatives outside the history, as the published code does, unless ``settings.published``
    says otherwise. Every target has exactly ``settings.candidates`` rows; item is null where the catalog had no more
    to offer.
    """
    unseen = settings.unseen or (split == "published" and settings.published.unseen)
    variables = {
        "split": split,
        "seed": settings.seed,
        "candidates": settings.candidates,
        "deviations": DEVIATIONS,
        "unseen": unseen,
        "excluding": unseen or not settings.repeats,
    }
    total = warehouse.value("select count(*) from targets")
    size = max(1, ROWS_AT_ONCE // settings.candidates)
    stretches = iter([(first, min(first + size, total)) for first in range(0, total, size)])
    workers: int = warehouse.value("select current_setting('threads')")

    def draw(stretch: tuple[int, int]) -> tuple[NDArray[np.int32], int]:
        with warehouse.beside() as own:
            own.set(**variables)
            return _draw(own, settings.candidates, *stretch), stretch[0]

    with (
        pq.ParquetWriter(path, SCHEMA, compression="zstd", use_dictionary=["target", "position"]) as writer,
        ThreadPoolExecutor(workers) as threads,
    ):
        # A statement over one stretch runs in one thread only, so several stretches are drawn at a time.
        drawing = deque(threads.submit(draw, stretch) for stretch in islice(stretches, workers + 1))
        while drawing:
            items, first = drawing.popleft().result()
            drawing.extend(threads.submit(draw, stretch) for stretch in islice(stretches, 1))
            writer.write_table(_flat(items, first), row_group_size=1_000_000)


def _draw(warehouse: Warehouse, wanted: int, first: int, end: int) -> NDArray[np.int32]:
    """The candidates of targets first : end, [end - first, wanted]; -1 after the last where there are fewer."""
    items = np.full((end - first, wanted), -1, np.int32)
    warehouse.set(first_target=first, end_target=end)
    warehouse.table("70_candidate_plan")
    warehouse.table("71_taken")
    warehouse.view("72_candidates", "offers")
    while True:
        offers = warehouse.arrow(
            f"select cast(target - {first} as integer) as row, candidate from offers order by row, rank, candidate"
        )
        row, candidate = _distinct(offers.column("row").to_numpy(), offers.column("candidate").to_numpy(), len(items))
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


def _distinct(
    row: NDArray[np.int32], candidate: NDArray[np.int32], rows: int
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Leave out what a row was offered before; ``row`` is sorted, offers stand in the order they were made.

    Rows of about one length are sorted at once, by (candidate, place): short sorts are much faster than a long one.
    """
    offers = np.bincount(row, minlength=rows)
    start = np.cumsum(offers) - offers
    fresh = np.ones(len(row), bool)
    width = 1 << np.ceil(np.log2(np.maximum(offers, 1))).astype(np.int64)
    for widest in np.unique(width):
        chosen = np.flatnonzero(width == widest)
        place = np.arange(offers[chosen].max(initial=0))
        index = start[chosen, None] + place
        beyond = place >= offers[chosen, None]
        index[beyond] = 0
        keys = candidate[index].astype(np.int64) << 32 | place
        keys[beyond] = np.broadcast_to(-1 - place << 32, keys.shape)[beyond]
        keys.sort(axis=1)
        again = keys[:, 1:] >> 32 == keys[:, :-1] >> 32
        at, which = np.nonzero(again)
        fresh[start[chosen[at]] + (keys[at, which + 1] & 0xFFFFFFFF)] = False
    return row[fresh], candidate[fresh]


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
