"""Ratings as MovieLens publishes them: a film once per user, in sittings, at times several within one second.

What a user picks follows his tastes, popularity and the previous film; how he rates it follows his taste for its
cluster, the film's quality, his own mildness and chance. In the layout ``latest`` liked films get a tag now and then.
"""

from dataclasses import dataclass

import numpy as np

from pipeline.simulate.world import DAY, Floats, Ints, World, event_counts, period_of, pick, sessions_of

START = 874_713_600
"""1997-09-20 00:00 UTC."""
DAYS = 210
SITTING = 10.0

TAGS = (
    "slow", "funny", "atmospheric", "twist ending", "great soundtrack", "sci-fi, but not only",
    'based on a "true" story', "classic", "überlang", "seen on a plane",
)  # fmt: skip
GENRES = ("Drama", "Comedy", "Thriller", "Action", "Romance", "Crime", "Sci-Fi", "Horror", "Musical", "Western")
_ADJECTIVES = ("Silver", "Quiet", "Last", "Broken", "Hidden", "Long", "Crimson", "Second", "Été à", "Distant", "Paper")
_NOUNS = ("Harbor", "Summer", "Witness", "Garden", "Road", "Letter", "Orchard", "Signal", "Bridge", "Waltz", "Key")


@dataclass(frozen=True)
class Ratings:
    """Aligned arrays [N]; ``half_stars`` 1 to 10, ``time`` in seconds, ``user`` numbered within the block."""

    user: Ints
    item: Ints
    half_stars: Ints
    time: Ints

    def __len__(self) -> int:
        return len(self.user)


def block(
    world: World, rng: np.random.Generator, users: int, days: int, mean_events: float, order: float
) -> tuple[Ratings, Floats]:
    """The ratings of ``users`` users, each film once per user, by user and time; and the users' tastes."""
    tastes = world.tastes(rng, users)
    # A film that comes up a second time is not rated again: draw more than asked for, about as many as get lost.
    events = event_counts(rng, users, 1.4 * mean_events, most=max(8, world.items // 3))
    user, length = sessions_of(rng, events, SITTING)
    begin = _sitting_times(rng, user, users, days)
    cluster = pick(rng, tastes[user])
    item, offsets = world.chains(rng, period_of(begin, START, days), cluster, length, order)
    sitting = np.repeat(np.arange(len(user)), length)
    gap = np.where(rng.random(len(item)) < 0.25, 0, 1 + rng.exponential(20.0, len(item)).astype(np.int64))
    elapsed = np.cumsum(gap)
    time = begin[sitting] + elapsed - elapsed[offsets[:-1]][sitting]
    viewer = user[sitting]

    by_time = np.argsort((viewer << 40) | time, kind="stable")
    viewer, item, time = viewer[by_time], item[by_time], time[by_time]
    first = np.sort(np.unique(viewer * world.items + item, return_index=True)[1])
    viewer, item, time = viewer[first], item[first], time[first]
    inside = time < START + days * DAY
    viewer, item, time = viewer[inside], item[inside], time[inside]
    return Ratings(viewer, item, _half_stars(world, rng, tastes, viewer, item), time), tastes


def _sitting_times(rng: np.random.Generator, user: Ints, users: int, days: int) -> Ints:
    """The first sitting anywhere in the span, the others within weeks of it, one after another."""
    joined = rng.random(users) * days * 0.9
    first = np.concatenate([[True], user[1:] != user[:-1]])
    gap = np.where(first, 0.0, rng.exponential(6.0, len(user)))
    running = np.cumsum(gap)
    after = running - running[np.flatnonzero(first)][user]
    day = np.minimum(joined[user] + after, days - 0.05 + 0.04 * rng.random(len(user)))
    begin: Ints = START + (day * DAY).astype(np.int64)
    return begin


def _half_stars(world: World, rng: np.random.Generator, tastes: Floats, user: Ints, item: Ints) -> Ints:
    liking = (tastes / tastes.max(axis=1, keepdims=True))[user, world.cluster[item]]
    mildness = 0.35 * rng.standard_normal(len(tastes))
    stars = 2.5 + 1.2 * liking + 0.45 * world.quality[item] + mildness[user] + 0.8 * rng.standard_normal(len(user))
    half_stars: Ints = np.clip(np.round(2 * stars), 1, 10).astype(np.int64)
    return half_stars


def tags(rng: np.random.Generator, ratings: Ratings) -> tuple[Ints, Ints, Ints, Ints]:
    """user, item, number in TAGS and time of the tags: about one in twelve liked films, minutes after its rating."""
    liked = np.flatnonzero((ratings.half_stars >= 8) & (rng.random(len(ratings)) < 0.08))
    time = ratings.time[liked] + 30 + rng.integers(600, size=len(liked))
    return ratings.user[liked], ratings.item[liked], rng.integers(len(TAGS), size=len(liked)), time


def titles(rng: np.random.Generator, items: int) -> list[str]:
    """Made-up titles with a year, some beyond ASCII, all different."""
    adjective = rng.integers(len(_ADJECTIVES), size=items)
    noun = rng.integers(len(_NOUNS), size=items)
    year = rng.integers(1930, 1998, size=items)
    seen: dict[str, int] = {}
    made = []
    for a, n, y in zip(adjective.tolist(), noun.tolist(), year.tolist(), strict=True):
        name = f"{_ADJECTIVES[a]} {_NOUNS[n]}"
        seen[name] = seen.get(name, 0) + 1
        part = f" {seen[name]}" if seen[name] > 1 else ""
        made.append(f"{name}{part} ({y})")
    return made


def whole_stars(half_stars: Ints) -> Ints:
    """1 to 5, as the layouts without half stars have them."""
    return np.clip((half_stars + 1) // 2, 1, 5)
