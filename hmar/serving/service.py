"""A loaded model that answers requests in source ids."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hmar import leaks
from hmar.errors import DataError
from hmar.evaluate.ranking import refuse_nan, rows_per_chunk
from hmar.evaluate.scan import Excluded, block_width, scan
from hmar.export import LoadedModel
from hmar.models.catalog import Catalog
from hmar.serving.inputs import Prepared, prepare

MEMORY_MB = 256


class Service:
    """Top items for histories."""

    def __init__(self, loaded: LoadedModel) -> None:
        """
        Raises:
            ModelError: it was trained with leaks (:mod:`hmar.leaks`).
        """
        leaks.refuse(loaded.meta.leaks, loaded.directory)
        self.loaded = loaded
        self._item_ids = loaded.item_ids.to_numpy(zero_copy_only=False)

    def recommend(
        self,
        items: Sequence[Sequence[Any]],
        behaviors: Sequence[Sequence[str]],
        timestamps: Sequence[Sequence[int]],
        k: int = 10,
        exclude_consumed: bool = True,
        exclude_seen: bool = False,
    ) -> tuple[list[list[Any]], list[list[float]]]:
        """The ``k`` best items per history, as source ids, and their scores; popular items for an empty history.

        Args:
            items, behaviors, timestamps: see :func:`hmar.serving.inputs.prepare`.
            exclude_consumed: leave out what the history used up (nothing where items recur).
            exclude_seen: leave out every item of the history.

        Raises:
            DataError: lists of unequal length, an unknown behavior or k below 1.
            ModelError: NaN scores.
        """
        if k < 1:
            raise DataError(f"k: {k} is no length of a list; give 1 or more")
        with torch.inference_mode():
            catalog = self.loaded.model.catalog()
        rows = rows_per_chunk(catalog, self.loaded.model.vocabulary.items, MEMORY_MB)
        found: list[list[Any]] = []
        scores: list[list[float]] = []
        for start in range(0, len(items), rows):
            part = slice(start, start + rows)
            prepared = prepare(self.loaded, items[part], behaviors[part], timestamps[part])
            left_out = np.full(len(prepared.consumed), exclude_seen) | (prepared.consumed & exclude_consumed)
            best, values = self._best(catalog, prepared, left_out, k, start)
            real = values > -np.inf
            found.extend(self._item_ids[best[row][real[row]]].tolist() for row in range(len(best)))
            scores.extend(values[row][real[row]].tolist() for row in range(len(best)))
        return found, scores

    def _best(
        self, catalog: Catalog, prepared: Prepared, left_out: NDArray[np.bool_], k: int, start: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        model = self.loaded.model
        count, items = len(prepared.histories), model.vocabulary.items
        row, item = prepared.event_row[left_out], prepared.event_item[left_out]
        with torch.inference_mode():
            found = scan(
                catalog.scores(prepared.histories, prepared.seen),
                Excluded(row, item, np.full(count, items, np.int32)),
                k,
                block_width(count, items, MEMORY_MB, model.popularity.device),
                refuse_nan=lambda largest: refuse_nan(largest[:, None], model, lambda bad: f"row {start + bad}"),
            )
        return found.items.numpy(), found.values.double().numpy()
