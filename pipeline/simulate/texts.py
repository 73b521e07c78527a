"""Made-up words: film titles, tags, names, reviews. Some hold what breaks careless readers."""

import json

import numpy as np
import pyarrow as pa

from pipeline.simulate.lines import words

TAGS = (
    "slow", "funny", "atmospheric", "twist ending", "great soundtrack", "sci-fi, but not only",
    'based on a "true" story', "classic", "überlang", "seen on a plane",
)  # fmt: skip

NAMES = (
    "Ada", "Ben K.", 'C. "Chip" Moreau', "Dörte", "Eli & Sons", "Farah", "G\u00f6k\u00e7e", "Hank, from Ohio", "Ines",
    "J.", "Kai", "L. O'Hara", "Mei", "N/A", "Oskar", "Priya", "Quinn", "Rosa", "Sam", "T\u00f3th",
)  # fmt: skip

OPENINGS = (
    ("Broke within a week.", "Not what the pictures promise.", "I wanted to like it.", "Never again!"),
    ("It does the job, no more.", "Fine for the price.", "Some good, some bad.", "I expected a little more."),
    ("Exactly what I was looking for.", "My third one by now.", "A pleasure from start to finish.", "Superb!"),
)
"""Of reviews, by verdict: dislike, neutral, like."""

REMARKS = (
    "Would come back on a rainy day.",
    'The label says "one size", and so it is.',
    "Came in a box {with a lid}, [twice] wrapped.",
    "First line.\nSecond line, after a break.\n\nThird.",
    "Tab\there, slash / there, backslash \\ too.",
    'Somebody wrote \'"stars": 5\' and "user_id": "me" on the wall.',
    "Cr\u00e8me br\u00fbl\u00e9e \u2014 na\u00efve \u2026 \u4e0d\u9519!",
    "Half the size of what I thought; my neighbor, who had warned me, was right about it, as he is about most things, "
    "and I should have listened to him in the first place.",
)

_ADJECTIVES = ("Silver", "Quiet", "Last", "Broken", "Hidden", "Long", "Crimson", "Second", "Été à", "Distant", "Paper")
_NOUNS = ("Harbor", "Summer", "Witness", "Garden", "Road", "Letter", "Orchard", "Signal", "Bridge", "Waltz", "Key")


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


def in_json(text: str, slashes: bool = False) -> str:
    """Text as it stands between the quotes of a JSON string.

    Args:
        slashes: escape them, as some writers do.
    """
    written = json.dumps(text)[1:-1]
    return written.replace("/", "\\/") if slashes else written


def reviews(slashes: bool = False) -> tuple[pa.LargeStringArray, int]:
    """Every review as it stands in JSON, by verdict, and the number n of each: verdict v has v * n to v * n + n."""
    made = [[f"{opening} {remark}" for opening in some for remark in REMARKS] for some in OPENINGS]
    return words([in_json(text, slashes) for some in made for text in some]), len(made[0])
