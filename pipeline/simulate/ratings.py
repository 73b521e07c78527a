"""What the users of a site with ratings do: each item once, in sittings, at times several within one second.

What a user picks follows his tastes, popularity and the previous item; how he rates it follows his taste for its
cluster, the item's quality, his own mildness and chance.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.simulate.seasons import Season
from pipeline.simulate.world import DAY, Floats, Ints, World, event_counts, period_of, pick, sessions_of

SITTING = 10.0
DISLIKE, NEUTRAL, LIKE = range(3)


@dataclass(frozen=True)
class Ratings:
    """Aligned arrays [N]; ``half_stars`` 1 to 10, ``time`` in seconds, ``user`` numbered within the block."""

    user: Ints
    item: Ints
    half_stars: Ints
    time: Ints

    def __len__(self) -> int:
        return len(self.user)

    def where(self, chosen: NDArray[Any]) -> "Ratings":
        return Ratings(self.user[chosen], self.item[chosen], self.half_stars[chosen], self.time[chosen])


def block(
    world: World, season: Season, rng: np.random.Generator, users: int, mean_events: float, order: float
) -> tuple[Ratings, Floats]:
    """The ratings of ``users`` users, each item once per user, by user and time; and the users' tastes."""
    tastes = world.tastes(rng, users)
    # An item that comes up a second time is not rated again: draw more than asked for, about as many as get lost.
    events = event_counts(rng, users, 1.4 * mean_events, most=max(8, world.items // 3))
    user, length = sessions_of(rng, events, SITTING)
    begin = _sitting_times(rng, user, users, season)
    cluster = pick(rng, tastes[user])
    item, offsets = world.chains(rng, period_of(begin, season.start, season.days), cluster, length, order)
    sitting = np.repeat(np.arange(len(user)), length)
    gap = np.where(rng.random(len(item)) < 0.25, 0, 1 + rng.exponential(20.0, len(item)).astype(np.int64))
    elapsed = np.cumsum(gap)
    time = begin[sitting] + elapsed - elapsed[offsets[:-1]][sitting]
    viewer = user[sitting]

    by_time = np.argsort((viewer << 40) | time, kind="stable")
    viewer, item, time = viewer[by_time], item[by_time], time[by_time]
    first = np.sort(np.unique(viewer * world.items + item, return_index=True)[1])
    viewer, item, time = viewer[first], item[first], time[first]
    inside = time < season.end
    viewer, item, time = viewer[inside], item[inside], time[inside]
    return Ratings(viewer, item, _half_stars(world, rng, tastes, viewer, item), time), tastes


def _sitting_times(rng: np.random.Generator, user: Ints, users: int, season: Season) -> Ints:
    """The first sitting anywhere in the span, the others within weeks of it, one after another."""
    days = season.days
    joined = rng.random(users) * days * 0.9
    first = np.concatenate([[True], user[1:] != user[:-1]])
    gap = np.where(first, 0.0, rng.exponential(6.0, len(user)))
    running = np.cumsum(gap)
    after = running - running[np.flatnonzero(first)][user]
    day = np.minimum(joined[user] + after, days - 0.05 + 0.04 * rng.random(len(user)))
    begin: Ints = season.start + (season.bend(day) * DAY).astype(np.int64)
    return begin


def _half_stars(world: World, rng: np.random.Generator, tastes: Floats, user: Ints, item: Ints) -> Ints:
    liking = (tastes / tastes.max(axis=1, keepdims=True))[user, world.cluster[item]]
    mildness = 0.35 * rng.standard_normal(len(tastes))
    stars = 2.5 + 1.2 * liking + 0.45 * world.quality[item] + mildness[user] + 0.8 * rng.standard_normal(len(user))
    half_stars: Ints = np.clip(np.round(2 * stars), 1, 10).astype(np.int64)
    return half_stars


def whole_stars(half_stars: Ints) -> Ints:
    """1 to 5, for layouts without half stars."""
    return np.clip((half_stars + 1) // 2, 1, 5)


def verdicts(half_stars: Ints) -> Ints:
    """DISLIKE up to two stars, NEUTRAL below four, LIKE from four on."""
    return np.digitize(half_stars, [5, 8])
