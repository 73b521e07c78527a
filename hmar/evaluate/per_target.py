"""The outcome per target as Parquet: what lets any two runs be compared pairwise later.

One row per target of one part of one split, in stored order:
target int64, user_id and item_id as the source has them, user and item int32, event_time, rank_full int32 and
rank_sampled int32 (null: a miss, see :class:`hmar.evaluate.judge.Judgement`), repeat, cold_user, cold_item bool,
history_length int64.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from hmar.atomic import TEMPORARY, publish_file, storage_errors
from hmar.data.snapshot import Snapshot
from hmar.errors import DataError
from hmar.evaluate.judge import Judgement


def table(judgement: Judgement, snapshot: Snapshot, leaks: Sequence[str] = ()) -> pa.Table:
    """The rows; snapshot, split, part and leaks (:mod:`hmar.leaks`), if any, stand in the schema's metadata."""
    targets = judgement.targets
    sampled = judgement.rank_sampled
    columns = {
        "target": pa.array(targets.target),
        "user_id": snapshot.users.column("user_id").take(pa.array(targets.user)).combine_chunks(),
        "item_id": snapshot.items.column("item_id").take(pa.array(targets.item)).combine_chunks(),
        "user": pa.array(targets.user),
        "item": pa.array(targets.item),
        "event_time": pa.array(snapshot.time[targets.event], pa.timestamp("us", tz="UTC")),
        "rank_full": _rank_column(judgement.rank_full),
        "rank_sampled": pa.nulls(len(targets), pa.int32()) if sampled is None else _rank_column(sampled),
        "repeat": pa.array(targets.repeat),
        "cold_user": pa.array(targets.cold_user),
        "cold_item": pa.array(targets.cold_item),
        "history_length": pa.array(judgement.history_length),
    }
    about = {"snapshot": judgement.snapshot, "split": judgement.split, "part": judgement.part}
    if leaks:
        about["leaks"] = ", ".join(leaks)
    return pa.table(columns).replace_schema_metadata(about)


def write(rows: pa.Table, path: Path) -> Path:
    """Replace ``path`` by the rows, durably; equal rows give equal bytes."""
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.parent / f"{TEMPORARY}{path.name}"
        try:
            pq.write_table(rows, temporary, compression="zstd")
            publish_file(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    return path


def read(path: Path) -> pa.Table:
    """What :func:`write` wrote.

    Raises:
        DataError: the file is missing or damaged.
    """
    try:
        return pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path}: no per-target outcome there ({error}); evaluate the model again") from None


def ranks(rows: pa.Table, candidates: str) -> NDArray[np.float64]:
    """Ranks under one kind of candidates, float64 [N], inf for a miss."""
    column = rows.column(f"rank_{candidates}").cast(pa.float64()).fill_null(np.inf)
    found: NDArray[np.float64] = column.to_numpy()
    return found


def _rank_column(ranks: NDArray[np.float64]) -> pa.Array:
    missed = np.isinf(ranks)
    return pa.array(np.where(missed, 0, ranks).astype(np.int32), mask=missed)
