"""An older model on a newer snapshot: same source ids, other dense ids, more items."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from hmar.data.histories import Histories
from hmar.data.snapshot import Snapshot
from hmar.errors import DataError
from hmar.export import LoadedModel
from hmar.layers.attention_weights import Attention
from hmar.models.base import CandidateCounts, Recommender, Vocabulary
from hmar.settings import Section


def adapt(loaded: LoadedModel, snapshot: Snapshot) -> Recommender:
    """A model that takes and scores the dense ids of ``snapshot``.

    Items that the model does not know are dropped from its inputs and score -inf: it can neither use nor recommend
    them. Items are matched by source id, so it does not matter how dense ids moved. Where nothing moved the model
    itself is returned.

    Raises:
        DataError: the snapshot has other behaviors, another target or ids of another type; the two do not compare.
    """
    vocabulary, manifest = loaded.model.vocabulary, snapshot.manifest
    target = vocabulary.behaviors[vocabulary.target]
    for what, known, given in (
        ("behaviors", vocabulary.behaviors, manifest.behaviors),
        ("target", target, manifest.target),
        ("type of item ids", loaded.meta.item_id_type, manifest.item_id_type),
    ):
        if known != given:
            raise DataError(
                f"{loaded.directory}: the model's {what} ({_text(known)}) are not those of snapshot "
                f"{snapshot.path} ({_text(given)}); train a model on this snapshot"
            )
    ids = snapshot.items.column("item_id").combine_chunks()
    if ids.equals(loaded.item_ids):
        return loaded.model
    return Adapted(loaded.model, loaded.item_ids, ids, Vocabulary.of(snapshot)).eval()


class Adapted(Recommender):
    """A wrapped model; ``score`` and ``score_all`` speak the newer snapshot's dense ids."""

    Config = Section
    old_item: Tensor
    known: Tensor

    def __init__(self, model: Recommender, old_ids: pa.Array, new_ids: pa.Array, vocabulary: Vocabulary) -> None:
        """Match ``new_ids`` [V] to ``old_ids`` [V_old]; both are source ids in order of their dense ids."""
        super().__init__(model.config, vocabulary)
        self.model = model
        self.reads, self.published = model.reads, model.published
        place = pc.index_in(new_ids, value_set=old_ids).fill_null(-1).to_numpy(zero_copy_only=False)
        old_item = torch.from_numpy(place.astype(np.int64))
        self.register_buffer("old_item", old_item)
        self.register_buffer("known", torch.nonzero(old_item >= 0)[:, 0])
        self.popularity[self.known] = model.popularity[old_item[self.known]]

    def score(self, histories: Histories, seen: CandidateCounts, items: Tensor) -> Tensor:
        old = self.old_item[items]
        scores = self.model.score(self._histories(histories), self._counts(seen, histories), old.clamp(min=0))
        return scores.masked_fill(old < 0, -torch.inf)

    def score_all(self, histories: Histories, seen: CandidateCounts) -> Tensor:
        old_scores = self.model.score_all(self._histories(histories), self._counts(seen, histories))
        scores = old_scores.new_full((len(histories), self.vocabulary.items), -torch.inf)
        scores[:, self.known] = old_scores[:, self.old_item[self.known]]
        return scores

    def knows(self, items: Tensor) -> Tensor:
        return self.old_item[items] >= 0

    def looks_at(self, history: Histories, seen: CandidateCounts, items: Tensor) -> dict[str, Attention]:
        kept = self.old_item[history.item] >= 0
        old = self.old_item[items].clamp(min=0)
        found = self.model.looks_at(self._histories(history), self._counts(seen, history), old)
        return {name: one.among(kept) for name, one in found.items()}

    def terms(self, history: Histories, seen: CandidateCounts, items: Tensor) -> dict[str, Tensor]:
        old = self.old_item[items].clamp(min=0)
        return self.model.terms(self._histories(history), self._counts(seen, history), old)

    def _histories(self, histories: Histories) -> Histories:
        old = self.old_item[histories.item]
        kept = old >= 0
        lengths = torch.zeros_like(histories.lengths).index_add_(0, histories.row, kept.long())
        return replace(
            histories,
            item=old[kept],
            behavior=histories.behavior[kept],
            time=histories.time[kept],
            hbi=histories.hbi[kept],
            offsets=torch.cat([histories.offsets[:1], lengths.cumsum(0)]),
        )

    def _counts(self, seen: CandidateCounts, histories: Histories) -> CandidateCounts:
        old = self.old_item[seen.item]
        kept = seen.at((old >= 0).nonzero()[:, 0])
        kept = replace(kept, item=old[old >= 0])
        return kept if kept.events is None else replace(kept, events=kept.events - self._dropped(kept, histories))

    def _dropped(self, seen: CandidateCounts, histories: Histories) -> Tensor:
        """How many events of unknown items each row had since its last event with the item, int64 [P]; those before
        the events that are read are not known, and not counted."""
        assert seen.events is not None
        unknown_T = (self.old_item[histories.item] < 0).long()
        before = torch.nn.functional.pad(unknown_T.cumsum(0), (1, 0))
        stop = histories.offsets[seen.row + 1]
        start = stop - torch.minimum(seen.events - 1, histories.lengths[seen.row])
        return before[stop] - before[start]


def _text(value: str | tuple[str, ...]) -> str:
    return value if isinstance(value, str) else ", ".join(value)
