"""Why a model gives an item to a user: exact differences and sums, for every model, and what its layers look at.

What raises an item is its *margin*: its score less the mean score of some items that the user never had. (A score by
itself has no zero: what raises all items alike recommends none.)

- The contribution of an event is the margin less the margin had that event never happened, all else equal
  (:meth:`hmar.explain.past.Past.without`); likewise of all events of a behavior together. These are exact differences
  of the model's own answers. They need not add up to the margin: events say the same thing twice, or only together.
- Where a score is a sum (encoders: :meth:`hmar.models.base.Recommender.terms`), the margin is the sum of its terms, up
  to rounding: for HMAR the item's own part and that of each behavior's counts (HBI).
- Attention says what a layer reads, not what comes of it.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hmar import leaks
from hmar.data.histories import Histories
from hmar.data.snapshot import Snapshot
from hmar.errors import DataError
from hmar.explain.past import Past
from hmar.layers.attention_weights import Attention
from hmar.models.base import CandidateCounts, Recommender

REFERENCES = 100
"""Items that the margin is measured against, or as many as there are."""
_CELLS_AT_ONCE = 2**22
"""Bounds the counts of the cases that are scored together."""


@dataclass(frozen=True)
class Explanation:
    """Why ``item`` (a dense id) is recommended.

    Attributes:
        score: the model's. margin: it less the mean score of the references.
        events: int64 [L], places in the user's past of the events that the model reads, oldest first; events of items
            that it does not know are not among them.
        of_event: float64 [L], their contributions; NaN where nothing that the model reads would be left.
        of_behavior: contribution of all events of a behavior together, by the codes that the past has; NaN as above.
        terms: what the margin is the sum of, by name; empty where the score is no sum.
        attention: what the layers look at, the item being the only candidate.
    """

    item: int
    score: float
    margin: float
    past: Past
    events: NDArray[np.int64]
    of_event: NDArray[np.float64]
    of_behavior: dict[int, float]
    terms: dict[str, float]
    attention: dict[str, Attention]

    def attention_by_behavior(self, layer: str) -> NDArray[np.float64]:
        """How much of a layer's attention the events of each behavior get, float64 [R]."""
        weights = self.attention[layer].of_events().double().cpu().numpy()
        shares = np.zeros(self.past.behaviors)
        np.add.at(shares, self.past.behavior[self.events], weights)
        return shares


def explain(model: Recommender, past: Past, item: int, *, single_events: bool = True) -> Explanation:
    """Why the model gives ``item`` to a user of that past; the model is in evaluation mode.

    Args:
        item: dense id. single_events: whether each event's contribution is worked out, too; NaN if not.

    Raises:
        DataError: the model cannot score the item, because it does not know it. ModelError: it was trained with leaks.
    """
    if model.published is not None:
        leaks.refuse(model.published.leaks, type(model).__name__)
    known = model.knows(torch.from_numpy(past.item).to(model.popularity.device)).cpu().numpy()
    past = replace(past, read=past.read & known)
    with torch.inference_mode():
        margins = _Margins(model, past, item)
        events = np.flatnonzero(past.read)
        codes = np.unique(past.behavior)
        cases = [past.behavior == code for code in codes]
        if single_events:
            cases += [np.arange(len(past.item)) == event for event in events]
        removed = np.stack(cases) if cases else np.zeros((0, len(past.item)), bool)
        lost = margins.whole - margins.without(removed)
        of_event = lost[len(codes) :] if single_events else np.full(len(events), np.nan)
        history, seen = margins.given
        asked = torch.full((1, 1), item, device=history.item.device)
        return Explanation(
            item=item,
            score=margins.score,
            margin=margins.whole,
            past=past,
            events=events,
            of_event=of_event,
            of_behavior=dict(zip(codes.tolist(), lost[: len(codes)].tolist(), strict=True)),
            terms=margins.terms(),
            attention=model.looks_at(history, seen, asked),
        )


class _Margins:
    """The margins of one item under changed pasts, against the same references."""

    def __init__(self, model: Recommender, past: Past, item: int) -> None:
        self.model, self.past = model, past
        self.device = model.popularity.device
        self.given = self._given(np.zeros((1, len(past.item)), bool))
        items = torch.tensor([[item, *_references(past, item, model.vocabulary.items)]], device=self.device)
        scores_N = model.score(*self.given, items)[0].double()
        if not torch.isfinite(scores_N[0]):
            raise DataError(f"the model cannot score item {item} (dense id): it did not exist when it was trained")
        self.items = items[:, torch.isfinite(scores_N)]
        self.score = float(scores_N[0])
        self.whole = float(self._of(scores_N[None, torch.isfinite(scores_N)])[0])

    def without(self, removed: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Margins [K] without the events removed[k], bool [K, n]; NaN where nothing is left that the model reads."""
        found = [np.zeros(0)]
        for some in self._parts(removed):
            histories, seen = self._given(some)
            scores = self.model.score(histories, seen, self.items.expand(len(histories), -1)).double()
            empty = (histories.lengths == 0).cpu().numpy()
            found.append(np.where(empty, np.nan, self._of(scores).cpu().numpy()))
        return np.concatenate(found)

    def terms(self) -> dict[str, float]:
        """The terms of the margin."""
        history, seen = self.given
        terms = self.model.terms(history, seen, self.items)
        if self.items.shape[1] > 1:
            terms.pop("asked", None)  # What is added to all items alike is in no margin.
        return {name: float(self._of(term.double())[0]) for name, term in terms.items()}

    def _of(self, scores_KN: Tensor) -> Tensor:
        """[K]: the first column less the mean of the others."""
        return scores_KN[:, 0] - (scores_KN[:, 1:].mean(1) if scores_KN.shape[1] > 1 else 0.0)

    def _given(self, removed: NDArray[np.bool_]) -> tuple[Histories, CandidateCounts]:
        histories, seen = self.past.without(removed)
        return histories.to(self.device), seen.to(self.device)

    def _parts(self, removed: NDArray[np.bool_]) -> Iterator[NDArray[np.bool_]]:
        rows = max(1, _CELLS_AT_ONCE // max(1, removed.shape[1] * self.past.behaviors))
        for start in range(0, len(removed), rows):
            yield removed[start : start + rows]


def _references(past: Past, item: int, items: int) -> list[int]:
    """Items that the user never had, drawn from all, always the same ones; any others where the user has had all."""
    others = np.setdiff1d(np.arange(items), np.append(past.item, item))
    if len(others) == 0:
        others = np.delete(np.arange(items), item)
    chosen = np.random.default_rng(0).permutation(len(others))[:REFERENCES]
    return sorted(others[chosen].tolist())


def end_of(snapshot: Snapshot) -> int:
    """The moment just after a snapshot's last event, microseconds."""
    return int(snapshot.time.max(initial=0)) + 1
