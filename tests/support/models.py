"""Models, histories and batches for tests, made by hand."""

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from hmar.data.count_runs import CountRuns
from hmar.data.counting import PriorCounts
from hmar.data.evidence import Evidence
from hmar.data.histories import Histories
from hmar.data.impressions import ImpressionBatch
from hmar.data.snapshot import Snapshot
from hmar.data.targets import histories_before
from hmar.models import model_class
from hmar.models.base import CandidateCounts, Recommender, TrainingBatch, Vocabulary
from tests.support.arrays import Event

Packed = TypeVar("Packed", Histories, CandidateCounts, CountRuns, Evidence, TrainingBatch, ImpressionBatch)


def pack_rows(
    rows: Sequence[Sequence[Event]], behaviors: int, asked: int | Sequence[int] = 0, max_length: int | None = None
) -> Histories:
    """Histories from (item, behavior, seconds) lists; the counts are over whole rows, the tokens their last ones."""
    kept, hbi = [], []
    for row in rows:
        counts: dict[int, list[int]] = {}
        running = []
        for item, behavior, _ in row:
            counts.setdefault(item, [0] * behaviors)[behavior] += 1
            running.append(list(counts[item]))
        start = 0 if max_length is None else max(0, len(row) - max_length)
        kept.append(list(row[start:]))
        hbi += running[start:]
    flat = torch.tensor([event for row in kept for event in row], dtype=torch.int64).reshape(-1, 3)
    return Histories(
        item=flat[:, 0],
        behavior=flat[:, 1],
        time=flat[:, 2] * 1_000_000,
        hbi=torch.tensor(hbi, dtype=torch.float32).reshape(-1, behaviors),
        offsets=torch.tensor([0, *np.cumsum([len(row) for row in kept]).tolist()]),
        asked=torch.full((len(rows),), asked) if isinstance(asked, int) else torch.tensor(list(asked)),
        now=torch.tensor([(row[-1][2] + 1) * 1_000_000 if row else 0 for row in rows]),
    )


def rows_of(histories: Histories) -> list[list[tuple[int, int, int]]]:
    """The (item, behavior, microseconds) of every row's events."""
    events = list(zip(histories.item.tolist(), histories.behavior.tolist(), histories.time.tolist(), strict=True))
    return [events[start:stop] for start, stop in pairwise(histories.offsets.tolist())]


def hours_apart(histories: Histories) -> Histories:
    """In float64, with a row's events 0, 1, 16, 81, ... hours after its first, and asked 9^4 hours after it: events of
    seconds, asked years later, would all be in one time bucket."""
    hour = 3_600_000_000
    assert int(histories.lengths.max()) <= 9
    time = torch.cat([torch.arange(int(length)) ** 4 * hour for length in histories.lengths])
    return replace(in_double(histories), time=time, now=torch.full((len(histories),), 9**4 * hour))


def counts_of_rows(rows: Sequence[Sequence[Event]], behaviors: int) -> CandidateCounts:
    """The history items of whole rows with their counts and the last event of each."""
    cells: dict[tuple[int, int], list[int]] = {}
    newest: dict[tuple[int, int], tuple[int, int, int]] = {}
    for place, row in enumerate(rows):
        for number, (item, behavior, second) in enumerate(row):
            cells.setdefault((place, item), [0] * behaviors)[behavior] += 1
            newest[place, item] = (behavior, len(row) - number, second * 1_000_000)
    keys = torch.tensor(list(cells), dtype=torch.int64).reshape(-1, 2)
    counts = torch.tensor(list(cells.values()), dtype=torch.float32).reshape(-1, behaviors)
    last = torch.tensor([newest[key] for key in cells], dtype=torch.int64).reshape(-1, 3)
    return CandidateCounts(keys[:, 0], keys[:, 1], counts, *last.T.contiguous())


def ask(
    model: Recommender,
    snapshot: Snapshot,
    users: Sequence[int],
    ends: Sequence[int] | None = None,
    max_length: int = 20,
    asked: int | Sequence[int] | None = None,
) -> tuple[Histories, CandidateCounts]:
    """What ``model`` is given when it is asked about users before rows ``ends`` (their last event's if None)."""
    user = np.asarray(users, np.int64)
    end = snapshot.offsets[user + 1] if ends is None else np.asarray(ends, np.int64)
    code = snapshot.target_behavior if asked is None else np.asarray(asked, np.int64)
    histories = histories_before(snapshot, user, end, np.full(len(user), 2**60), code, max_length, model.reads)
    return histories, PriorCounts(snapshot).history_items(user, end)


def rows_read(model: Recommender, snapshot: Snapshot, user: int, length: int) -> list[int]:
    """The snapshot's rows of the user's last events, at most ``length`` and at least one; of the target behavior where
    ``model`` does not read all."""
    rows = [
        row
        for row in range(snapshot.offsets[user], snapshot.offsets[user + 1])
        if model.reads is None or snapshot.behavior[row] == snapshot.target_behavior
    ][-length:]
    assert rows
    return rows


def build(name: str, config: Mapping[str, Any], snapshot: Snapshot, seed: int = 0) -> Recommender:
    """A model as training builds it: seeded, counts fitted, in evaluation mode."""
    kind = model_class(name)
    torch.manual_seed(seed)
    model = kind(kind.Config.parse(config), Vocabulary.of(snapshot))
    model.fit_counts(snapshot, "leave_one_out")
    return model.eval()


def stirred(model: Recommender) -> Recommender:
    """The model with numbers where its parameters start at zero, so that nothing is left out of a comparison."""
    generator = torch.Generator().manual_seed(17)
    with torch.no_grad():
        for parameter in model.parameters():
            if not parameter.any():
                parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return model


def in_double(packed: Packed) -> Packed:
    """The same with float64 where it has float32."""
    values: dict[str, Any] = {}
    for field in fields(packed):
        value = getattr(packed, field.name)
        if isinstance(value, Histories | CountRuns | Evidence):
            values[field.name] = in_double(value)
        elif isinstance(value, Tensor) and value.is_floating_point():
            values[field.name] = value.double()
    return replace(packed, **values)
