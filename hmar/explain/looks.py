"""What a model's layers look at, moment by moment of labelled impressions."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch

from hmar.data.counting import PriorCounts
from hmar.data.histories import Histories
from hmar.data.impressions import pack_impressions
from hmar.data.snapshot import Portion, Snapshot
from hmar.errors import DataError
from hmar.layers.attention_weights import Attention
from hmar.models.base import Recommender


def looks(
    model: Recommender,
    snapshot: Snapshot,
    split: str,
    part: Portion,
    *,
    max_length: int,
    moments: int,
    task: str = "",
    seed: int = 0,
) -> Iterator[tuple[Histories, dict[str, Attention]]]:
    """The history before each of up to ``moments`` moments of the part, drawn among those that have one, and what each
    layer looks at in it when the model is asked about the moment's candidates. The model is in evaluation mode; of
    events and candidates there are those of items that it knows.

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
        history = _known(model, batch.histories)
        items = batch.items[:, model.knows(batch.items[0])]
        if len(history.item) == 0 or items.shape[1] == 0:
            continue
        seen = prior.history_items(shown.user[chosen], shown.history_end[chosen]).to(device)
        yield history, model.looks_at(history, seen, items)
        read += 1
        if read == moments:
            break
    if not read:
        raise DataError(
            f"{snapshot.path}, split {split}: no {part} impression has a history to look at; use another part"
        )


def _known(model: Recommender, history: Histories) -> Histories:
    """One history's events of items that the model knows."""
    known = model.knows(history.item)
    if bool(known.all()):
        return history
    columns = {name: getattr(history, name)[known] for name in ("item", "behavior", "time", "hbi")}
    return replace(history, offsets=torch.tensor([0, int(known.sum())], device=known.device), **columns)
