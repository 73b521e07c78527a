"""What a model's layers look at, moment by moment of labelled impressions."""

from collections.abc import Iterator

import numpy as np

from hmar.data.counting import PriorCounts
from hmar.data.histories import Histories
from hmar.data.impressions import pack_impressions
from hmar.data.snapshot import Part, Snapshot
from hmar.errors import DataError
from hmar.layers.attention_weights import Attention
from hmar.models.base import Recommender


def looks(
    model: Recommender,
    snapshot: Snapshot,
    split: str,
    part: Part,
    *,
    max_length: int,
    moments: int,
    task: str = "",
    seed: int = 0,
) -> Iterator[tuple[Histories, dict[str, Attention]]]:
    """The history before each of up to ``moments`` moments of the part, drawn among those that have one, and what each
    layer looks at in it when the model is asked about the moment's candidates. The model is in evaluation mode.

    Args:
        max_length: events of a history that the model reads. task: the behavior that the impressions ask about; the
            target if empty.

    Raises:
        DataError: the snapshot has no labelled impressions of the split or task, or none of the part has a history.
    """
    shown, prior = snapshot.impressions(split, part, task), PriorCounts(snapshot)
    device = model.popularity.device
    read = 0
    for place in np.random.default_rng(seed).permutation(len(shown)):
        chosen = np.array([place])
        batch = pack_impressions(snapshot, shown, chosen, max_length, model.reads).to(device)
        if len(batch.histories.item) == 0:
            continue
        seen = prior.history_items(shown.user[chosen], shown.history_end[chosen]).to(device)
        yield batch.histories, model.looks_at(batch.histories, seen, batch.items)
        read += 1
        if read == moments:
            break
    if not read:
        raise DataError(
            f"{snapshot.path}, split {split}: no {part} impression has a history to look at; use another part"
        )
