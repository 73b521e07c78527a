"""Rankers that know how a made-up shop works (pipeline/simulate/shop.py), and so what is bought next.

Every purchase of the generator comes from an event before it, with a known chance and delay: a look, a favorite or a
cart of the item, or a purchase of the item or of the one that it goes with. Given a history up to a moment, each event
e of a kind with chance p and density f of delays brings its purchase at that moment at the rate

    p f(a) / (1 - p F(a)),  a the time since e,

which is 0 or small where the purchase was already made; an item's score is the sum of the rates of the events that lead
to it. What is approximated: whether a purchase was a look's, a cart's or a match is not written in the log, so that
a purchase since leaves a cart a fifth of its rate, and a match brings no further match; and a last look counts by the
ratio of chances.

Whoever reads purchases only has, beside the matches and repeats, the user's tastes as the purchases tell them: the
shares of clusters a posteriori, times what is looked at in a cluster.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hmar.data.histories import Histories
from hmar.data.snapshot import Snapshot
from hmar.data.targets import histories_for
from hmar.models.base import CandidateCounts, Rule, Vocabulary
from hmar.settings import Section
from pipeline.simulate import shop
from pipeline.simulate.world import DAY, SUCCESSOR_SHARE

ONCE_BOUGHT = 0.2
"""What is left of a rate when the item was bought since."""
NOT_THE_FIRST = 0.1
"""Chance that a purchase of what goes with an earlier purchase is not that match."""
LAGS = 256
"""Events ago that are told apart where there is no clock."""


class Oracle(Rule):
    """The generator's ranker of the items to be bought; not a model to train, and only for its own log."""

    Config = Section

    def __init__(
        self,
        snapshot: Snapshot,
        truth: Mapping[str, NDArray[Any]],
        settings: Mapping[str, Any],
        *,
        purchases_only: bool = False,
        clock: bool = True,
    ) -> None:
        """
        Args:
            truth, settings: of the log, truth.npz and the settings in truth.json; a log without drift.
            purchases_only: read nothing but purchases. clock: know how long ago events were; if not, how many events
                ago, each rate being its mean at that lag before the validation targets.
        """
        super().__init__(Section(), Vocabulary.of(snapshot))
        self.reads = (snapshot.behaviors[shop.BUY],) if purchases_only else None
        self.purchases_only = purchases_only
        self.funnel, self.span = float(settings["funnel"]), float(settings["days"] or 9) * DAY
        order = float(settings["order"])
        number = {int(item): place for place, item in enumerate(truth["item_id"].tolist())}
        ids = [number[item] for item in snapshot.items.column("item_id").to_pylist()]
        dense = np.full(len(number), -1)
        dense[ids] = np.arange(len(ids))
        self.match = torch.from_numpy(dense[truth["item_successors"][ids]])
        cluster = truth["item_cluster"]
        share = np.power(1.0 + np.arange(cluster.max() + 1), -0.4)
        self.prior = torch.from_numpy(np.maximum(0.12 * share / share.mean(), 0.02))
        within = truth["item_popularity"] / np.bincount(cluster, weights=truth["item_popularity"])[cluster]
        looked_at = within.copy()
        for _ in range(50):
            followed = np.zeros_like(looked_at)
            for successor, chance in zip(truth["item_successors"].T, SUCCESSOR_SHARE, strict=True):
                np.add.at(followed, successor, chance * looked_at)
            looked_at = (1 - order) * within + order * followed
        self.cluster = torch.from_numpy(cluster[ids])
        self.anything = torch.from_numpy((within * share[cluster] / share.sum())[ids])
        self.looked_at = torch.from_numpy(looked_at[ids])
        self.expected = (1 - order) * torch.from_numpy(within[ids])
        self.followed = order * torch.from_numpy(SUCCESSOR_SHARE)
        self.by_lag = None if clock else self._means(snapshot)

    def score(self, histories: Histories, seen: CandidateCounts, items: Tensor) -> Tensor:
        return self.score_all(histories, seen).gather(1, items)

    def score_all(self, histories: Histories, seen: CandidateCounts) -> Tensor:
        rows, items = len(histories), self.vocabulary.items
        rates = _rates(_age(histories)) if self.by_lag is None else self.by_lag[histories.from_end.clamp(max=LAGS - 1)]
        look, fond, soon, someday, match, repeat = rates.unbind(1)
        cell, bought = histories.row * items + histories.item, histories.behavior == shop.BUY
        last = torch.full((rows * items,), -1).scatter_reduce_(0, cell[bought], histories.position[bought], "amax")

        seen_T = torch.stack([look, fond, soon + someday, torch.zeros_like(look)], 1)
        seen_T = seen_T.gather(1, histories.behavior[:, None])[:, 0]
        seen_T = torch.where(last[cell] > histories.position, ONCE_BOUGHT * seen_T, seen_T)
        from_seen = self._last_look(histories, _sum(seen_T, cell, rows, items))

        partner = self.match[histories.item, 0]
        known = bought & (partner >= 0)
        to = histories.row * items + partner.clamp(min=0)
        first = torch.full((rows * items,), 2**40).scatter_reduce_(0, to[known], histories.position[known], "amin")
        own = torch.where(bought & (first[cell] < histories.position), NOT_THE_FIRST, 1.0).double() * bought
        matched = _sum((match * own * (last[to] <= histories.position))[known], to[known], rows, items)
        again = _sum((repeat * own)[bought], cell[bought], rows, items)

        if self.purchases_only:
            counts = torch.zeros(rows, len(self.prior), dtype=torch.float64)
            counts.view(-1).index_add_(0, histories.row * len(self.prior) + self.cluster[histories.item], own)
            tastes = (counts + self.prior) / (counts + self.prior).sum(1, keepdim=True)
            rate = (1 + counts.sum(1, keepdim=True)) / self.span
            first_hand = rate * (self.funnel * tastes[:, self.cluster] * self.looked_at)
            first_hand += rate * (1 - self.funnel) * self.anything
        else:
            total = from_seen.sum(1, keepdim=True)
            first_hand = self.funnel * from_seen + (1 - self.funnel) * total * self.anything + 1e-12 * self.anything
        return (1e6 * (first_hand + matched + again)).float()

    def _last_look(self, histories: Histories, rates: Tensor) -> Tensor:
        """The rates, where the newest event is a look at an item, times how much likelier that look is before a
        purchase of it."""
        if self.purchases_only or len(histories.item) == 0:
            return rates
        end = (histories.offsets[1:] - 1).clamp(min=0)
        before = (end - 1).clamp(min=0)
        item, previous = histories.item[end], histories.item[before]
        chance = self.expected[item] + ((self.match[previous] == item[:, None]) * self.followed).sum(1)
        is_look = (histories.lengths > 0) & (histories.behavior[end] == shop.PV)
        low, high = shop.CHECKED_BEFORE
        if self.by_lag is None:
            waited = _age(histories)[end]
            is_look &= (waited >= low) & (waited < high)
            walking = (histories.lengths > 1) & (histories.time[end] - histories.time[before] < 600 * 1_000_000)
            usual = 1e-6 + walking * chance / 44
            ratio = 1 - shop.CHECKED + shop.CHECKED / (high - low) / usual
        else:
            ratio = 1 - shop.CHECKED + shop.CHECKED / (0.01 + 0.3 * chance)
        rows = is_look.nonzero()[:, 0]
        rates[rows, item[rows]] *= ratio[rows]
        return rates

    def _means(self, snapshot: Snapshot) -> Tensor:
        """Mean rates of events by how many events ago they were, [LAGS, kinds]."""
        targets = snapshot.targets("leave_one_out", "validation")
        histories = histories_for(snapshot, targets, LAGS, self.reads)
        rates, lag = _rates(_age(histories)), histories.from_end
        total = torch.zeros(LAGS, rates.shape[1], dtype=torch.float64).index_add_(0, lag, rates)
        return total / torch.bincount(lag, minlength=LAGS).clamp(min=1)[:, None]


def _age(histories: Histories) -> Tensor:
    """Seconds from each event to the moment of asking, float64 [T]."""
    return (histories.now[histories.row] - histories.time).double() / 1e6


def _rates(age: Tensor) -> Tensor:
    """Purchases a second that an event of that age brings as a look, a favorite, a cart soon and someday, and as a
    purchase by match and repetition, [T, 6]."""

    def rate(chance: float, delay: float, start: float) -> Tensor:
        left = torch.exp(-(age - start).clamp(min=0) / delay)
        return (chance * left / delay / (1 - chance * (1 - left))) * (age >= start)

    return torch.stack(
        [
            rate(shop.IMPULSE, shop.IMPULSE_AFTER, 1),
            rate(shop.FOND, shop.FOND_AFTER, 1),
            rate(shop.SOON, shop.SOON_AFTER, 1),
            rate(shop.SOMEDAY, shop.SOMEDAY_AFTER, 1),
            rate(shop.MATCHING, shop.MATCHING_AFTER, shop.MATCHING_FROM),
            rate(shop.REPEATED, shop.REPEATED_AFTER, shop.REPEATED_FROM),
        ],
        1,
    )


def _sum(values: Tensor, cell: Tensor, rows: int, items: int) -> Tensor:
    """Sums by cell, float64 [rows, items]."""
    return torch.zeros(rows * items, dtype=torch.float64).index_add_(0, cell, values).view(rows, items)
