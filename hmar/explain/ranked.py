"""Which items there are to explain."""

import numpy as np

from hmar.data.snapshot import Snapshot
from hmar.errors import DataError
from hmar.models.base import Recommender
from hmar.recommend import top_items


def ranked(
    model: Recommender, snapshot: Snapshot, user: int, max_length: int, top: int, item: int | None = None
) -> list[tuple[int | None, int]]:
    """Rank and dense id of the ``top`` items recommended to a user at the end of the snapshot; or of one ``item``,
    whose rank is None where it cannot be recommended because the user has used it up.

    Raises:
        DataError: there is nothing to recommend.
    """
    wanted = top if item is None else snapshot.n_items
    items, _ = top_items(model, snapshot, np.array([user], np.int32), wanted, max_length=max_length)
    found: list[int] = items[0][items[0] >= 0].tolist()
    if item is not None:
        return [(found.index(item) + 1 if item in found else None, item)]
    if not found:
        source_id = snapshot.users.column("user_id")[user].as_py()
        raise DataError(f"user {source_id!r} has used up everything: there is nothing to recommend or to explain")
    return [(place + 1, one) for place, one in enumerate(found)]
