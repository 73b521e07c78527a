"""What carries the recommendations of many users: one small table per model, to be kept beside its metrics."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hmar.data.counting import PriorCounts
from hmar.data.snapshot import Snapshot
from hmar.evaluate.ranking import rows_per_chunk
from hmar.explain.explanation import Explanation, end_of, explain
from hmar.explain.past import Past
from hmar.layers.attention_weights import Attention
from hmar.models.base import Recommender
from hmar.recommend import top_items

CANDIDATE = "the item"
_MEMORY_MB = 256
"""Of the scores of whole catalogs held at once."""


@dataclass(frozen=True)
class Sample:
    """Means over users, each explained for the first item that the model recommends at the end of the snapshot.

    Attributes:
        users: how many. margin: mean over them, and so are ``terms``. behaviors: R names.
        lost: by behavior the sum of what is lost without its events over the sum of the margins, among the users who
            have such events and others that are read; None where there are none. having: how many these are.
        read: [R], the share of each behavior in the events that are read.
        attention: by layer, rows of R: how much of its attention an event of the row's behavior, or the item, gives
            the events of each behavior, a mean over such events of all users; None where there are none. queries: the
            names of these rows.
    """

    users: int
    behaviors: tuple[str, ...]
    margin: float
    terms: dict[str, float]
    lost: dict[str, float | None]
    having: dict[str, int]
    read: tuple[float, ...]
    attention: dict[str, list[list[float | None]]]
    queries: dict[str, list[str]]

    def describe(self) -> dict[str, Any]:
        """JSON."""
        return asdict(self)


def sample(
    model: Recommender,
    snapshot: Snapshot,
    users: int,
    *,
    max_length: int,
    seed: int = 0,
) -> Sample | None:
    """Explain the first recommendation of up to ``users`` users, drawn among those with events that the model reads;
    None where there is nobody.

    Args:
        max_length: events of a history that the model reads.
    """
    now, tally = end_of(snapshot), _Tally(snapshot.behaviors)
    pasts: dict[int, Past] = {}
    for user in np.random.default_rng(seed).permutation(snapshot.n_users).tolist():
        if len(pasts) == users:
            break
        past = Past.of(snapshot, user, now, max_length, model.reads)
        if past.read.any():
            pasts[user] = past
    prior = PriorCounts(snapshot)
    with torch.inference_mode():
        catalog = model.catalog()
    chosen = np.array(list(pasts), np.int32)
    rows = rows_per_chunk(catalog, snapshot.n_items, _MEMORY_MB)
    for some in np.split(chosen, range(rows, len(chosen), rows)):
        items, _ = top_items(model, snapshot, some, 1, max_length=max_length, prior=prior, catalog=catalog)
        for user, item in zip(some.tolist(), items[:, 0].tolist(), strict=True):
            found = explain(model, pasts[user], item, single_events=False) if item >= 0 else None
            if found is not None and len(found.events):
                tally.add(found)
    return tally.result() if tally.users else None


class _Tally:
    """Sums over users."""

    def __init__(self, behaviors: tuple[str, ...]) -> None:
        self.behaviors, self.users, self.margin = behaviors, 0, 0.0
        count = len(behaviors)
        self.read, self.lost, self.of, self.having = (np.zeros(count) for _ in range(4))
        self.terms: dict[str, float] = {}
        self.looks: dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]] = {}
        self.asking: dict[str, str] = {}

    def add(self, found: Explanation) -> None:
        self.users += 1
        self.margin += found.margin
        for code, lost in found.of_behavior.items():
            if not np.isnan(lost):
                self.lost[code] += lost
                self.of[code] += found.margin
                self.having[code] += 1
        for name, value in found.terms.items():
            self.terms[name] = self.terms.get(name, 0.0) + value
        codes = found.past.behavior[found.events]
        self.read += np.bincount(codes, minlength=len(self.behaviors))
        for layer, one in found.attention.items():
            given, asked = self._of_layer(one, codes)
            self.asking[layer] = one.queries
            before = self.looks.get(layer, (0.0, 0.0))
            self.looks[layer] = (before[0] + given, before[1] + asked)

    def _of_layer(self, one: Attention, codes: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Attention summed by behavior of query, or in one row, and behavior of event; and the numbers of queries."""
        weights_QL = one.weights.mean(0).double().cpu().numpy()
        key_LR = np.eye(len(self.behaviors))[codes]
        query_QG = key_LR if one.queries == "events" else np.ones((len(weights_QL), 1))
        return query_QG.T @ weights_QL @ key_LR, query_QG.sum(0)

    def result(self) -> Sample:
        names = self.behaviors
        return Sample(
            users=self.users,
            behaviors=names,
            margin=self.margin / self.users,
            terms={name: value / self.users for name, value in self.terms.items()},
            lost={
                name: float(lost / of) if having and of else None
                for name, lost, of, having in zip(names, self.lost, self.of, self.having, strict=True)
            },
            having={name: int(count) for name, count in zip(names, self.having, strict=True)},
            read=tuple((self.read / self.read.sum()).tolist()),
            attention={
                layer: [
                    (row / count).tolist() if count else [None] * len(names)
                    for row, count in zip(given, asked, strict=True)
                ]
                for layer, (given, asked) in self.looks.items()
            },
            queries={
                layer: list(names) if queries == "events" else [CANDIDATE] for layer, queries in self.asking.items()
            },
        )
