"""What the sources share: items in taste clusters with skewed, drifting popularity, users with a few tastes each, and
an item-to-item order. Everything is drawn by counter-based generators keyed by (seed, purpose, block), so a user's
events do not depend on how many users come after.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

DAY = 86_400

PERIODS = 8
"""Popularity is constant within each of this many equal parts of the time span."""

SUCCESSOR_SHARE = np.array([0.6, 0.3, 0.1])
"""How often each of an item's successors is the one that follows."""


def generator(seed: int, *purpose: int) -> np.random.Generator:
    """An independent stream for each (seed, purpose)."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, *purpose])))


@dataclass(frozen=True)
class World:
    """The items. V items, C clusters, S successors.

    Attributes:
        cluster: int64 [V]. popularity: float64 [V], relative weight within the cluster before drift.
        cluster_share: float64 [C], sums to 1. successors: int64 [V, S], of the same cluster, never the item itself.
        quality: float64 [V], standard normal. order: int64 [V], items sorted by cluster. cumulative: float64
            [PERIODS * V], the weights of ``order`` in each period, running from p * C + c to p * C + c + 1 within
            cluster c, so that one binary search draws from any (period, cluster). phase, born: float64 [V], parts of
            the span: when the weight is highest, and before when it is zero.
    """

    cluster: Ints
    popularity: Floats
    cluster_share: Floats
    successors: Ints
    quality: Floats
    order: Ints
    cumulative: Floats
    phase: Floats
    born: Floats

    @classmethod
    def build(cls, items: int, seed: int, drift: float) -> "World":
        """A world of ``items`` items; ``drift`` 0 keeps popularity constant, 1 lets weights move by a factor of e."""
        rng = generator(seed, 0)
        clusters = int(np.clip(round(items**0.5 / 2), 2, 64))
        cluster = np.arange(items) % clusters
        rng.shuffle(cluster)
        order = np.argsort(cluster, kind="stable")
        start = np.searchsorted(cluster[order], np.arange(clusters))
        size = np.bincount(cluster, minlength=clusters)
        place = np.empty(items, np.int64)
        place[order] = np.arange(items) - start[cluster[order]]

        popularity = np.power(1.0 + place, -0.8)
        share = np.power(1.0 + np.arange(clusters), -0.4)
        # Successors stand 1, 2, 3 places on in a random ring of the cluster: everyone has some, nobody is his own.
        ring_place = np.empty(items, np.int64)
        ring = order.copy()
        for c in range(clusters):
            rng.shuffle(ring[start[c] : start[c] + size[c]])
        ring_place[ring] = np.arange(items) - start[cluster[ring]]
        step = np.arange(1, len(SUCCESSOR_SHARE) + 1)
        hop = 1 + (step - 1) % np.maximum(size[cluster] - 1, 1)[:, None]
        successors = ring[start[cluster][:, None] + (ring_place[:, None] + hop) % size[cluster][:, None]]

        phase = rng.random(items)
        period = (np.arange(PERIODS) + 0.5) / PERIODS
        # The most popular item of a cluster exists from the start, so no (period, cluster) is ever empty.
        born = np.where((rng.random(items) < 0.3) & (place > 0), rng.random(items) * 0.8, 0.0)
        weight = popularity * np.exp(drift * np.cos(2 * np.pi * (period[:, None] - phase))) * (born <= period[:, None])
        weight = weight[:, order]
        running = np.cumsum(weight, axis=1)
        before = np.concatenate([np.zeros((PERIODS, 1)), running], axis=1)[:, start]
        total = np.add.reduceat(weight, start, axis=1)
        c_of = cluster[order]
        fraction = np.clip((running - before[:, c_of]) / total[:, c_of], 0.0, 1.0)
        fraction[:, start + size - 1] = 1.0
        cumulative = np.arange(PERIODS)[:, None] * clusters + c_of + fraction
        return cls(
            cluster=cluster,
            popularity=popularity,
            cluster_share=share / share.sum(),
            successors=successors,
            quality=rng.standard_normal(items),
            order=order,
            cumulative=cumulative.ravel(),
            phase=phase,
            born=born,
        )

    @property
    def items(self) -> int:
        return len(self.cluster)

    @property
    def clusters(self) -> int:
        return len(self.cluster_share)

    def draw(self, rng: np.random.Generator, period: Ints, cluster: Ints) -> Ints:
        """One item for each (period, cluster), by popularity, int64 [N]."""
        key = period * self.clusters + cluster
        place = np.searchsorted(self.cumulative, key + rng.random(len(key)), side="right")
        return self.order[place % self.items]

    def tastes(self, rng: np.random.Generator, users: int) -> Floats:
        """Each user's shares of the clusters, float64 [users, C]: a few large ones, rows sum to 1."""
        strength = np.maximum(0.12 * self.clusters * self.cluster_share, 0.02)
        raw = rng.gamma(strength, size=(users, self.clusters)) + 1e-9
        tastes: Floats = raw / raw.sum(axis=1, keepdims=True)
        return tastes

    def chains(
        self, rng: np.random.Generator, period: Ints, cluster: Ints, length: Ints, order: float
    ) -> tuple[Ints, Ints]:
        """Walks of ``length`` items, one per session: the next item is a successor with probability ``order``, else a
        fresh draw from the session's cluster.

        Args:
            period, cluster, length: int64 [N], length at least 1.

        Returns:
            items int64 [T], sessions end to end; and their offsets int64 [N + 1].
        """
        offsets = np.concatenate([[0], np.cumsum(length)])
        items = np.empty(offsets[-1], np.int64)
        current = self.draw(rng, period, cluster)
        items[offsets[:-1]] = current
        active = np.arange(len(length))
        for step in range(1, int(length.max(initial=1))):
            keep = length[active] > step
            active, current = active[keep], current[keep]
            follows = rng.random(len(active)) < order
            which = rng.choice(len(SUCCESSOR_SHARE), size=len(active), p=SUCCESSOR_SHARE)
            fresh = self.draw(rng, period[active], cluster[active])
            current = np.where(follows, self.successors[current, which], fresh)
            items[offsets[active] + step] = current
        return items, offsets

    def truth(self) -> dict[str, NDArray[Any]]:
        """What a model could at best find out about the items."""
        return {
            "item_cluster": self.cluster,
            "item_popularity": self.popularity,
            "item_phase": self.phase,
            "item_born": self.born,
            "item_quality": self.quality,
            "item_successors": self.successors,
            "successor_share": SUCCESSOR_SHARE,
        }


def period_of(time: Ints, start: int, days: int) -> Ints:
    """The popularity period of each moment (seconds), int64 [N] in 0 : PERIODS."""
    period: Ints = np.clip((time - start) * PERIODS // (days * DAY), 0, PERIODS - 1)
    return period


def pick(rng: np.random.Generator, shares: Floats) -> Ints:
    """One column per row of ``shares`` [N, C], by its share, int64 [N]."""
    running = np.cumsum(shares, axis=1)
    chosen: Ints = (running < rng.random(len(shares))[:, None] * running[:, -1:]).sum(axis=1)
    last: Ints = np.minimum(chosen, shares.shape[1] - 1)
    return last


def event_counts(rng: np.random.Generator, users: int, mean: float, most: int) -> Ints:
    """Events per user, heavy-tailed (log-normal), from 2 to ``most``, int64 [users]."""
    sigma = 0.8
    raw = rng.lognormal(np.log(mean) - sigma**2 / 2, sigma, users)
    counts: Ints = np.clip(np.round(raw), 2, max(2, most)).astype(np.int64)
    return counts


def sessions_of(rng: np.random.Generator, events: Ints, mean: float) -> tuple[Ints, Ints]:
    """Cut each user's events into sessions of about ``mean`` events.

    Returns:
        user int64 [N] and length int64 [N] of each session, users in order; lengths of a user add up to his events.
    """
    count = np.minimum(1 + rng.poisson(np.maximum(events / mean - 1, 0)), events)
    user = np.repeat(np.arange(len(events)), count)
    weight = 0.2 + rng.random(len(user))
    first = np.concatenate([[0], np.cumsum(count)])
    running = np.cumsum(weight)
    before = np.concatenate([[0.0], running])[first[:-1]]
    total = np.add.reduceat(weight, first[:-1])
    spare = (events - count)[user]
    # Every session has one event; the rest goes by weight, rounded on the running sum so that totals are exact.
    share = (running - before[user]) / total[user]
    share[first[1:] - 1] = 1.0
    reached = np.round(share * spare).astype(np.int64)
    previous = np.concatenate([[0], reached[:-1]])
    previous[first[:-1]] = 0
    return user, 1 + reached - previous
