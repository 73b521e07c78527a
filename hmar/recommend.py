"""The top items for every user of a snapshot, in batches: what the nightly run publishes."""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from hmar import leaks
from hmar.data.counting import PriorCounts
from hmar.data.snapshot import Snapshot
from hmar.data.targets import histories_before
from hmar.evaluate.ranking import consumed_cells, refuse_nan, rows_per_chunk
from hmar.evaluate.scan import Excluded, block_width, scan
from hmar.models.base import Recommender
from hmar.models.catalog import Catalog


def top_items(
    model: Recommender,
    snapshot: Snapshot,
    users: NDArray[np.int32],
    k: int,
    *,
    max_length: int,
    memory_mb: int = 256,
    prior: PriorCounts | None = None,
    catalog: Catalog | None = None,
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """The ``k`` best items for each of ``users``, int32 [B], asked at the end of the snapshot.

    Where items do not recur, those the user has consumed are left out. Among equal scores the lower dense id is first.

    Args:
        max_length: events of a history that the model reads.
        memory_mb: bound of the scores held at once; a model without item vectors needs [B, V] float32 besides.
        prior, catalog: the snapshot's counts index and the model's catalog, to make them once for many calls.

    Returns:
        Items int32 [B, K], best first, -1 where there are fewer than k, and scores float32 [B, K], -inf there.

    Raises:
        ModelError: NaN scores, or the model needs counts that only the future knows.
    """
    if model.published is not None:
        leaks.refuse(model.published.leaks, type(model).__name__)
    device = model.popularity.device
    prior = prior or PriorCounts(snapshot)
    ends = snapshot.offsets[users + 1]
    now = np.full(len(users), snapshot.time.max(initial=0) + 1, np.int64)

    def who(row: int) -> str:
        return f"user {snapshot.users.column('user_id')[int(users[row])].as_py()!r}"

    with torch.inference_mode():
        histories = histories_before(snapshot, users, ends, now, snapshot.target_behavior, max_length, model.reads).to(
            device
        )
        seen = prior.history_items(users, ends).to(device)
        excluded = Excluded(*consumed_cells(snapshot, users, ends), np.full(len(users), snapshot.n_items, np.int32))
        found = scan(
            (catalog or model.catalog()).scores(histories, seen),
            excluded,
            k,
            block_width(len(users), snapshot.n_items, memory_mb, device),
            refuse_nan=lambda largest: refuse_nan(largest[:, None], model, who),
        )
    return found.items.to(torch.int32).cpu().numpy(), found.values.cpu().numpy()


def recommendations(
    model: Recommender,
    snapshot: Snapshot,
    k: int,
    *,
    max_length: int,
    memory_mb: int = 256,
) -> Iterator[pa.RecordBatch]:
    """Batches of user_id, rank (int32, 1 is best), item_id and score (float32), by dense user id and rank.

    A user gets fewer than ``k`` rows only where fewer items are left to recommend. Wrap an older model with
    :func:`hmar.evaluate.adapt.adapt` first.

    Raises:
        ModelError: NaN scores; model and user are named.
    """
    prior = PriorCounts(snapshot)
    user_ids = snapshot.users.column("user_id").combine_chunks()
    item_ids = snapshot.items.column("item_id").combine_chunks()
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            catalog = model.catalog()
        rows = rows_per_chunk(catalog, snapshot.n_items, memory_mb)
        for start in range(0, snapshot.n_users, rows):
            users = np.arange(start, min(start + rows, snapshot.n_users), dtype=np.int32)
            items, scores = top_items(
                model,
                snapshot,
                users,
                k,
                max_length=max_length,
                memory_mb=memory_mb,
                prior=prior,
                catalog=catalog,
            )
            row, place = np.nonzero(items >= 0)
            yield pa.RecordBatch.from_arrays(
                [
                    user_ids.take(pa.array(users[row])),
                    pa.array(place.astype(np.int32) + 1),
                    item_ids.take(pa.array(items[row, place])),
                    pa.array(scores[row, place]),
                ],
                names=["user_id", "rank", "item_id", "score"],
            )
    finally:
        model.train(was_training)
