"""What the viewers of a feed of short videos do with what is shown to them.

Most of what is shown follows the viewer's tastes, popularity and the previous video; some of it is from anywhere, so
that there is something to turn away from. How long it is watched and which buttons are pressed follows the taste for
its cluster and its quality.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from pipeline.simulate.seasons import Season
from pipeline.simulate.shop import HOURS
from pipeline.simulate.world import DAY, Floats, Ints, World, event_counts, period_of, pick, sessions_of

SESSION_EVENTS = 30.0
ELSEWHERE = 0.3
"""Share of sessions in which a cluster is shown that has nothing to do with the viewer's tastes."""
LONG_VIEW = 18_000
"""Milliseconds: the publisher calls it a long view if this much, or all of a shorter video, was watched."""


class Flags(NamedTuple):
    """One array of 0 and 1 per button, int64 [N]."""

    click: Ints
    like: Ints
    follow: Ints
    comment: Ints
    forward: Ints
    hate: Ints
    long_view: Ints


@dataclass(frozen=True)
class Views:
    """Aligned arrays [N]; ``time`` and ``played`` in milliseconds, ``user`` numbered within the block."""

    user: Ints
    item: Ints
    time: Ints
    flags: Flags
    played: Ints

    def __len__(self) -> int:
        return len(self.user)


def block(
    world: World,
    season: Season,
    rng: np.random.Generator,
    users: int,
    mean_events: float,
    order: float,
    duration: Ints,
) -> tuple[Views, Floats]:
    """The impressions of ``users`` users by user and time, each video once per user, and the users' tastes.

    Args:
        duration: milliseconds of each video, int64 [V].
    """
    tastes = world.tastes(rng, users)
    # What comes up a second time is left out: draw more than asked for.
    events = event_counts(rng, users, 1.2 * mean_events, most=max(10, min(400 * season.days, world.items // 2)))
    user, length = sessions_of(rng, events, SESSION_EVENTS)
    hour = rng.choice(24, size=len(user), p=HOURS / HOURS.sum())
    begin = season.start + season.draw(rng, len(user)) * DAY + hour * 3600 + rng.integers(3600, size=len(user))
    anywhere = rng.random(len(user)) < ELSEWHERE
    cluster = np.where(anywhere, rng.choice(world.clusters, size=len(user)), pick(rng, tastes[user]))
    item, offsets = world.chains(rng, period_of(begin, season.start, season.days), cluster, length, order)
    session = np.repeat(np.arange(len(user)), length)
    viewer = user[session]

    liking = (tastes / tastes.max(axis=1, keepdims=True))[viewer, world.cluster[item]]
    pull = 2.5 * liking + 0.5 * world.quality[item]
    watched = rng.random(len(item)) < _sigmoid(pull - 0.8)
    share = np.where(watched, rng.beta(3.0, 1.2, len(item)), rng.beta(0.7, 6.0, len(item)))
    played = (share * 1.15 * duration[item]).astype(np.int64)
    elapsed = np.cumsum(played + 400 + rng.integers(1200, size=len(item)))
    time = 1000 * begin[session] + elapsed - elapsed[offsets[:-1]][session]

    def pressed(chance: Floats) -> Ints:
        return (rng.random(len(item)) < chance).astype(np.int64)

    pleased = watched * _sigmoid(pull - 1.0)
    flags = Flags(
        click=(watched | (rng.random(len(item)) < 0.05)).astype(np.int64),
        like=pressed(0.10 * pleased),
        follow=pressed(0.012 * pleased),
        comment=pressed(0.015 * pleased),
        forward=pressed(0.008 * pleased),
        hate=pressed(0.012 * (1 - _sigmoid(pull - 0.3))),
        long_view=(played >= np.minimum(LONG_VIEW, duration[item])).astype(np.int64),
    )
    keep = np.flatnonzero(time < 1000 * season.end)
    keep = keep[np.lexsort((time[keep], viewer[keep]))]
    # What was shown is not shown again.
    keep = keep[np.sort(np.unique(viewer[keep] * world.items + item[keep], return_index=True)[1])]
    return (
        Views(viewer[keep], item[keep], time[keep], Flags(*(flag[keep] for flag in flags)), played[keep]),
        tastes,
    )


def _sigmoid(x: Floats) -> Floats:
    result: Floats = 1 / (1 + np.exp(-x))
    return result
