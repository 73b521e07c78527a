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

REVISITED, REVISIT_AFTER = 0.1, 0.7 * DAY
"""Chance that a view leads to another on a later day, and the mean seconds until then; and so on below."""
FAVORED, FAVORED_AFTER = 0.035, 30.0
"""Of a view or revisit, times how much the user cares; so are the next and IMPULSE."""
CARTED, CARTED_AFTER = 0.07, 45.0
IMPULSE, IMPULSE_AFTER = 0.006, 300.0
"""A view that is bought at once."""
SOON, SOON_AFTER = 0.08, 1800.0
"""A cart that is bought in the same hour or so..."""
SOMEDAY, SOMEDAY_AFTER = 0.3, 0.8 * DAY
"""...or in the next days."""
FOND, FOND_AFTER = 0.06, float(DAY)
"""A favorite that is bought."""
CHECKED, CHECKED_BEFORE = 0.2, (5, 40)
"""A last look at what is bought, and how many seconds before."""
MATCHING, MATCHING_FROM, MATCHING_AFTER = 0.6, 60, 300.0
"""A purchase that brings the one of the item's first successor, not before so many seconds."""
REPEATED, REPEATED_FROM, REPEATED_AFTER = 0.06, 3600, 1.5 * DAY
"""A purchase that is made again."""

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
    world: World,
    season: Season,
    rng: np.random.Generator,
    users: int,
    mean_events: float,
    order: float,
    funnel: float,
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

    all_events = together(_funnel(world, season, rng, views, tastes, funnel))
    return _once(all_events.where(all_events.time < season.end)), tastes


def _funnel(
    world: World, season: Season, rng: np.random.Generator, views: Events, tastes: Floats, funnel: float
) -> list[Events]:
    def some(events: Events, chance: float | Floats) -> Events:
        return events.where(rng.random(len(events)) < chance)

    def wait(events: Events, seconds: float) -> Floats:
        return rng.exponential(seconds, len(events))

    again = some(views, REVISITED)
    revisits = again.later(PV, wait(again, REVISIT_AFTER))
    looks = together([views, revisits])
    cares = caring(tastes, looks.user, world.cluster[looks.item])

    liked = some(looks, FAVORED * cares)
    favorites = liked.later(FAV, wait(liked, FAVORED_AFTER))
    wanted = some(looks, CARTED * cares)
    carts = wanted.later(CART, wait(wanted, CARTED_AFTER))
    soon, someday = some(carts, SOON), some(carts, SOMEDAY)
    impulse = some(looks, IMPULSE * cares)
    fond = some(favorites, FOND)
    buys = together(
        [
            soon.later(BUY, wait(soon, SOON_AFTER)),
            someday.later(BUY, wait(someday, SOMEDAY_AFTER)),
            impulse.later(BUY, wait(impulse, IMPULSE_AFTER)),
            fond.later(BUY, wait(fond, FOND_AFTER)),
        ]
    )
    checked = some(buys, CHECKED)
    if funnel < 1:
        buys, checked = _cut(world, season, rng, buys, funnel)
    last_looks = Events(
        checked.user,
        checked.item,
        np.full(len(checked), PV),
        checked.time - rng.integers(*CHECKED_BEFORE, len(checked)),
    )
    matching = some(buys, MATCHING)
    matching = Events(matching.user, world.successors[matching.item, 0], matching.behavior, matching.time)
    repeated = some(buys, REPEATED)
    return [
        looks,
        favorites,
        carts,
        buys,
        last_looks,
        matching.later(BUY, MATCHING_FROM + wait(matching, MATCHING_AFTER)),
        repeated.later(BUY, REPEATED_FROM + wait(repeated, REPEATED_AFTER)),
    ]


def caring(tastes: Floats, user: Ints, cluster: Ints) -> Floats:
    """How much a user cares for a cluster, from 0.5 for the least to 1.5 for the favorite, float64 [N].

    Args:
        tastes: float64 [users, C]. user, cluster: int64 [N].
    """
    found: Floats = 0.5 + (tastes / tastes.max(axis=1, keepdims=True))[user, cluster]
    return found


def _cut(world: World, season: Season, rng: np.random.Generator, buys: Events, funnel: float) -> tuple[Events, Events]:
    """The purchases, ``funnel`` of them as they are, the others of any item that is popular then; and the last looks'
    purchases, which are among the first."""
    follows = rng.random(len(buys)) < funnel
    cluster = rng.choice(world.clusters, size=len(buys), p=world.cluster_share)
    anything = world.draw(rng, period_of(buys.time, season.start, season.days), cluster)
    mixed = Events(buys.user, np.where(follows, buys.item, anything), buys.behavior, buys.time)
    return mixed, mixed.where(follows & (rng.random(len(buys)) < CHECKED))


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
