"""What a model's layers look at, moment by moment of labelled impressions."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch

from hmar.data.counting import PriorCounts
from hmar.data.histories import Histories
from hmar.data.impressions import pack_impressions
from hmar.data.snapshot import Portion, Snapshot
from hmar.data.targets import Reading
from hmar.layers.attention_weights import Attention
from hmar.models.base import Recommender

Look = tuple[Histories, dict[str, Attention]]
"""One history, and what each layer looks at in it, by the layer's name."""


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
) -> Iterator[Look]:
    """What a model looks at when it is asked about the candidates of up to ``moments`` moments of the part, drawn among
    those that have a history; none, where none has. The model is in evaluation mode; of events and candidates there are
    those of items that it knows.

    Args:
        max_length: events of a history that the model reads. task: the behavior that the impressions ask about; the
            target if empty.

    Raises:
        DataError: the snapshot has no labelled impressions of the split or task.
    """
    shown, prior = snapshot.impressions(split, part, task), PriorCounts(snapshot)
    device = model.popularity.device
    drawn = np.random.default_rng(seed).permutation(len(shown))
    # All at once: a part in which few have a history may be as large as the log.
    filled = Reading(snapshot, model.reads).count(snapshot.offsets[shown.user], shown.history_end) > 0
    read = 0
    for place in drawn[filled[drawn]]:
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
            return


def _known(model: Recommender, history: Histories) -> Histories:
    """One history's events of items that the model knows."""
    known = model.knows(history.item)
    if bool(known.all()):
        return history
    columns = {name: getattr(history, name)[known] for name in ("item", "behavior", "time", "hbi")}
    return replace(history, offsets=torch.tensor([0, int(known.sum())], device=known.device), **columns)
