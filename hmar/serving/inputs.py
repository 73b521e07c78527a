"""Histories as a caller sends them, in source ids, to what a model reads."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, repeat
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hmar.data.histories import Histories
from hmar.errors import DataError
from hmar.export import LoadedModel
from hmar.models.base import CandidateCounts
from hmar.settings import nearest


@dataclass(frozen=True)
class Prepared:
    """B requests as a model reads them, and every (row, item) of their known events with whether it is used up."""

    histories: Histories
    seen: CandidateCounts
    event_row: NDArray[np.int64]
    event_item: NDArray[np.int64]
    consumed: NDArray[np.bool_]


def prepare(
    loaded: LoadedModel,
    items: Sequence[Sequence[Any]],
    behaviors: Sequence[Sequence[str]],
    timestamps: Sequence[Sequence[int]],
) -> Prepared:
    """Encode B histories given as source ids, behavior names and unix seconds, one list each per row.

    Events are put in the order (time, funnel rank), those that are equal in both stay as given; items that the model
    does not know are dropped; HBI is counted anew. The time of asking is the newest event's.

    Raises:
        DataError: lists of unequal length, or a behavior the model does not know; the row is named, counted from 0.
    """
    vocabulary = loaded.model.vocabulary
    lengths = _lengths(items, behaviors, timestamps)
    row = np.repeat(np.arange(len(lengths)), lengths)
    code = _codes(behaviors, vocabulary.behaviors, row)
    item = np.fromiter(map(loaded.dense.get, chain.from_iterable(items), repeat(-1)), np.int64, len(row))
    time = np.fromiter(chain.from_iterable(timestamps), np.int64, len(row)) * 1_000_000
    now = np.zeros(len(lengths), np.int64)
    np.maximum.at(now, row, time)

    order = np.lexsort((code, time, row))
    order = order[item[order] >= 0]
    row, code, item, time = row[order], code[order], item[order], time[order]
    counts, last = _running_counts(row, item, code, len(vocabulary.behaviors))
    kept = _kept(row, code, loaded, len(lengths))
    ends = np.cumsum(np.bincount(row, minlength=len(lengths)))
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(np.bincount(row[kept], minlength=len(lengths)))])
    return Prepared(
        histories=Histories(
            item=torch.from_numpy(item[kept]),
            behavior=torch.from_numpy(code[kept]),
            time=torch.from_numpy(time[kept]),
            hbi=torch.from_numpy(counts[kept]),
            offsets=torch.from_numpy(offsets),
            asked=torch.full((len(lengths),), vocabulary.target),
            now=torch.from_numpy(now),
        ),
        seen=CandidateCounts(
            row=torch.from_numpy(row[last]),
            item=torch.from_numpy(item[last]),
            counts=torch.from_numpy(counts[last]),
            behavior=torch.from_numpy(code[last]),
            events=torch.from_numpy(ends[row[last]] - last),
            time=torch.from_numpy(time[last]),
        ),
        event_row=row,
        event_item=item,
        consumed=np.asarray(vocabulary.consuming)[code],
    )


def _lengths(*columns: Sequence[Sequence[Any]]) -> NDArray[np.int64]:
    found = np.array([[len(values) for values in column] for column in columns], np.int64)
    unequal = np.flatnonzero((found != found[0]).any(axis=0))
    if len(unequal):
        first = int(unequal[0])
        raise DataError(
            f"row {first}: {found[0, first]} items, {found[1, first]} behaviors and {found[2, first]} timestamps; "
            "the three lists must be of one length"
        )
    lengths: NDArray[np.int64] = found[0]
    return lengths


def _codes(behaviors: Sequence[Sequence[str]], known: tuple[str, ...], row: NDArray[np.int64]) -> NDArray[np.int64]:
    index = {name: code for code, name in enumerate(known)}
    names = list(chain.from_iterable(behaviors))
    codes = np.fromiter(map(index.get, names, repeat(-1)), np.int64, len(names))
    unknown = np.flatnonzero(codes < 0)
    if len(unknown):
        name = str(names[int(unknown[0])])
        raise DataError(f"row {row[unknown[0]]}: unknown behavior {name!r}{nearest(name, list(known))}")
    return codes


def _running_counts(
    row: NDArray[np.int64], item: NDArray[np.int64], code: NDArray[np.int64], behaviors: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """HBI of every event, float32 [T, R], itself included, and the place of the last event of each (row, item)."""
    by_pair = np.lexsort((item, row))
    done = np.cumsum(np.eye(behaviors, dtype=np.int64)[code[by_pair]], axis=0)
    pairs = np.stack([row[by_pair], item[by_pair]])
    opens = np.concatenate([np.ones(min(len(row), 1), np.bool_), (np.diff(pairs, axis=1) != 0).any(axis=0)])
    first = np.flatnonzero(opens)
    before = np.concatenate([np.zeros((1, behaviors), np.int64), done])[first]
    counts = np.empty((len(row), behaviors), np.float32)
    counts[by_pair] = done - np.repeat(before, np.diff(first, append=len(row)), axis=0)
    return counts, by_pair[np.concatenate([first[1:], [len(row)]])[: len(first)] - 1]


def _kept(row: NDArray[np.int64], code: NDArray[np.int64], loaded: LoadedModel, rows: int) -> NDArray[np.int64]:
    """Places of the last ``max_length`` events per row among those with a behavior that the model reads."""
    names = loaded.model.vocabulary.behaviors
    read = loaded.model.reads
    place = np.arange(len(row)) if read is None else np.flatnonzero(np.array([name in read for name in names])[code])
    ends = np.cumsum(np.bincount(row[place], minlength=rows))
    from_end = ends[row[place]] - 1 - np.arange(len(place))
    return place[from_end < loaded.meta.max_length]
