"""MovieLens in the three layouts of its releases: u.data, ratings.dat, ratings.csv with tags.csv; titles beside."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipeline.simulate import ratings
from pipeline.simulate.clocks import SECONDS
from pipeline.simulate.formats.base import Batch, Format, Kind, purpose
from pipeline.simulate.lines import Template, words
from pipeline.simulate.seasons import Season
from pipeline.simulate.texts import TAGS, titles
from pipeline.simulate.world import Floats, Ints, World, generator

if TYPE_CHECKING:
    from pipeline.simulate.settings import SimulateSettings

START = 874_713_600
"""1997-09-20 00:00 UTC."""
GENRES = ("Drama", "Comedy", "Thriller", "Action", "Romance", "Crime", "Sci-Fi", "Horror", "Musical", "Western")

_FILES = {"100k": ("u.data", "\t"), "1m": ("ratings.dat", "::"), "latest": ("ratings.csv", ",")}


class MovieLensLog:
    clock = SECONDS
    wrong_code = "9"
    wrong_code_reason = "rating_off_scale"

    def __init__(self, s: "SimulateSettings", world: World, season: Season) -> None:
        self.s, self.world, self.season = s, world, season
        rng = purpose(s.seed)
        self.item_id: Ints = 1 + rng.permutation(s.items)
        self.users: Ints = 1 + rng.permutation(s.users)
        self.layout = s.chosen_layout
        self.latest = self.layout == "latest"
        name, separator = _FILES[self.layout]
        header = "userId,movieId,rating,timestamp" if self.latest else ""
        rated = Kind(name, Template.delimited(4, separator), code=2, time=3, header=header)
        tagged = Kind("tags.csv", Template.delimited(4, ","), code=2, time=3, header="userId,movieId,tag,timestamp")
        self.kinds = (rated, tagged) if self.latest else (rated,)
        self.behaviors = ("dislike", "neutral", "like", *(("tag",) if self.latest else ()))
        self.half = words([f"{n / 2:.1f}" for n in range(11)])
        self.tag = words(['"' + text.replace('"', '""') + '"' if set(text) & set(',"') else text for text in TAGS])

    def user_id(self, first: int, users: int) -> Ints:
        return self.users[first : first + users]

    def block(self, number: int, first: int, users: int) -> tuple[list[Batch], Floats]:
        s = self.s
        rng = generator(s.seed, 1, number)
        made, tastes = ratings.block(self.world, self.season, rng, users, s.events_per_user, s.order)
        user, item = self.users[first + made.user], self.item_id[made.item]
        # Published files are not in time order: u.data is shuffled, the others go by user and film.
        order = rng.permutation(len(made)) if self.layout == "100k" else np.lexsort((item, user))
        stars = ratings.whole_stars(made.half_stars)
        behavior = ratings.verdicts(made.half_stars if self.latest else 2 * stars)
        columns = [
            user[order],
            item[order],
            self.half.take(made.half_stars[order]) if self.latest else stars[order],
            made.time[order],
        ]
        batches = [Batch(0, columns, made.time[order], behavior[order])]
        if self.latest:
            batches.append(self._tags(rng, made, user, item))
        return batches, tastes

    def _tags(self, rng: np.random.Generator, made: ratings.Ratings, user: Ints, item: Ints) -> Batch:
        """About one in twelve liked films gets one, minutes after its rating."""
        liked = np.flatnonzero((made.half_stars >= 8) & (rng.random(len(made)) < 0.08))
        time = made.time[liked] + 30 + rng.integers(600, size=len(liked))
        text = self.tag.take(rng.integers(len(TAGS), size=len(liked)))
        return Batch(1, [user[liked], item[liked], text, time], time, np.full(len(liked), 3))

    def beside(self, directory: Path, folders: Sequence[str]) -> list[str]:
        """The file with the titles, as each layout names and encodes it."""
        by_id = np.argsort(self.item_id)
        names = titles(generator(self.s.seed, 4), self.s.items)
        genres = [GENRES[c % len(GENRES)] for c in self.world.cluster[by_id].tolist()]
        rows = list(zip(self.item_id[by_id].tolist(), names, genres, strict=True))
        if self.latest:
            text = "movieId,title,genres\n" + "".join(f"{i},{name},{genre}\n" for i, name, genre in rows)
            (directory / "movies.csv").write_text(text, encoding="utf-8")
            return ["movies.csv"]
        if self.layout == "1m":
            lines = "".join(f"{i}::{name}::{genre}\n" for i, name, genre in rows)
            (directory / "movies.dat").write_text(lines, encoding="latin-1")
            return ["movies.dat"]
        flags = {
            name: "|".join("1" if n == name else "0" for n in ("unknown", *GENRES)) + "|0" * 8 for name in set(genres)
        }
        lines = "".join(
            f"{i}|{name}|01-Jan-{name[-5:-1]}||http://localhost/{i}|{flags[genre]}\n" for i, name, genre in rows
        )
        (directory / "u.item").write_text(lines, encoding="latin-1")
        return ["u.item"]


FORMAT = Format(
    name="movielens",
    layouts=("100k", "1m", "latest"),
    start=START,
    days=210,
    log=MovieLensLog,
    season=0.0,
    gzip=False,
)
