"""What the users of a shop do.

A session walks through one of the user's taste clusters. Views lead on: to a favorite, to the cart, to another view
on a later day; what lies in the cart is often bought, mostly after a last look; a purchase brings the item that goes
with it (its first successor), which was never viewed, and now and then itself again.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.simulate.seasons import Season
from pipeline.simulate.world import DAY, Floats, Ints, World, event_counts, period_of, pick, sessions_of

PV, FAV, CART, BUY = range(4)
BEHAVIORS = 4
SESSION_EVENTS = 8.0

HOURS = np.array([30, 15, 8, 5, 4, 5, 10, 20, 32, 42, 50, 48, 48, 52, 52, 52, 50, 46, 46, 58, 75, 86, 84, 58], float)
"""Relative traffic by local hour: nights are quiet, evenings are not."""


@dataclass(frozen=True)
class Events:
    """Aligned arrays [N]; ``time`` in seconds, ``user`` numbered within the block."""

    user: Ints
    item: Ints
    behavior: Ints
    time: Ints

    def __len__(self) -> int:
        return len(self.user)

    def where(self, chosen: NDArray[Any]) -> "Events":
        return Events(self.user[chosen], self.item[chosen], self.behavior[chosen], self.time[chosen])

    def later(self, behavior: int, delay: Floats) -> "Events":
        """The same users and items, another behavior, at least one second later."""
        return Events(
            self.user, self.item, np.full(len(self), behavior), self.time + 1 + np.round(delay).astype(np.int64)
        )


def together(parts: list[Events]) -> Events:
    return Events(*(np.concatenate([getattr(p, name) for p in parts]) for name in ("user", "item", "behavior", "time")))


def block(
    world: World, season: Season, rng: np.random.Generator, users: int, mean_events: float, order: float
) -> tuple[Events, Floats]:
    """The events of ``users`` users, each (user, item, behavior, second) once, by user and time; and their tastes."""
    tastes = world.tastes(rng, users)
    # About three of four rows come from the walks; the others follow from them.
    events = event_counts(rng, users, 0.75 * mean_events, most=max(10, 60 * season.days))
    user, length = sessions_of(rng, events, SESSION_EVENTS)
    begin = season.start + season.draw(rng, len(user)) * DAY + _second_of_day(rng, len(user))
    cluster = pick(rng, tastes[user])
    item, offsets = world.chains(rng, period_of(begin, season.start, season.days), cluster, length, order)
    session = np.repeat(np.arange(len(user)), length)
    gap = 2 + rng.gamma(1.2, 35.0, len(item)).astype(np.int64)
    elapsed = np.cumsum(gap)
    time = begin[session] + elapsed - elapsed[offsets[:-1]][session]
    views = Events(user[session], item, np.full(len(item), PV), time)

    all_events = together(_funnel(world, rng, views, tastes))
    return _once(all_events.where(all_events.time < season.end)), tastes


def _funnel(world: World, rng: np.random.Generator, views: Events, tastes: Floats) -> list[Events]:
    def some(events: Events, chance: float | Floats) -> Events:
        return events.where(rng.random(len(events)) < chance)

    def wait(events: Events, seconds: float) -> Floats:
        return rng.exponential(seconds, len(events))

    again = some(views, 0.1)
    revisits = again.later(PV, wait(again, 0.7 * DAY))
    looks = together([views, revisits])
    # From 0.5 for what the user cares least about to 1.5 for the favorite cluster.
    cares = 0.5 + (tastes / tastes.max(axis=1, keepdims=True))[looks.user, world.cluster[looks.item]]

    liked = some(looks, 0.035 * cares)
    favorites = liked.later(FAV, wait(liked, 30))
    wanted = some(looks, 0.07 * cares)
    carts = wanted.later(CART, wait(wanted, 45))
    soon, someday = some(carts, 0.08), some(carts, 0.3)
    impulse = some(looks, 0.006 * cares)
    fond = some(favorites, 0.06)
    buys = together(
        [
            soon.later(BUY, wait(soon, 1800)),
            someday.later(BUY, wait(someday, 0.8 * DAY)),
            impulse.later(BUY, wait(impulse, 300)),
            fond.later(BUY, wait(fond, DAY)),
        ]
    )
    checked = some(buys, 0.2)
    last_looks = Events(
        checked.user, checked.item, np.full(len(checked), PV), checked.time - rng.integers(5, 40, len(checked))
    )
    matching = some(buys, 0.6)
    matching = Events(matching.user, world.successors[matching.item, 0], matching.behavior, matching.time)
    repeated = some(buys, 0.06)
    return [
        looks,
        favorites,
        carts,
        buys,
        last_looks,
        matching.later(BUY, 60 + wait(matching, 300)),
        repeated.later(BUY, 3600 + wait(repeated, 1.5 * DAY)),
    ]


def _second_of_day(rng: np.random.Generator, count: int) -> Ints:
    hour = rng.choice(24, size=count, p=HOURS / HOURS.sum())
    return hour * 3600 + rng.integers(3600, size=count)


def _once(events: Events) -> Events:
    """By (user, time, item, behavior), equal ones once."""
    which = events.item * BEHAVIORS + events.behavior
    when = (events.user << 40) | events.time
    order = np.lexsort((which, when))
    which, when = which[order], when[order]
    first = np.ones(len(order), np.bool_)
    first[1:] = (when[1:] != when[:-1]) | (which[1:] != which[:-1])
    return events.where(order[first])
