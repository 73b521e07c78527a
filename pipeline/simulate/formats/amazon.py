"""Amazon's product reviews: review files as JSON lines and ratings-only files as CSV, as of 2014 and of 2018."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.simulate import ids, ratings, texts
from pipeline.simulate.clocks import SECONDS, days
from pipeline.simulate.formats.base import Batch, Format, Kind
from pipeline.simulate.lines import Template, words
from pipeline.simulate.seasons import Season
from pipeline.simulate.world import DAY, Floats, Ints, World, generator

if TYPE_CHECKING:
    from pipeline.simulate.settings import SimulateSettings

START = 1_341_100_800
"""2012-07-01 00:00 UTC."""

_FILES = {
    "json-2014": "reviews_Kitchen_5.json",
    "json-2018": "Kitchen_5.json",
    "csv-2014": "ratings_Kitchen.csv",
    "csv-2018": "Kitchen.csv",
}
_JSON_2014 = (
    '{"reviewerID": "%", "asin": "%", "reviewerName": "%", "helpful": [%, %], "reviewText": "%", "overall": %.0, '
    '"summary": "%", "unixReviewTime": %, "reviewTime": "%"}'
)
_JSON_2018 = (
    '{"overall": %.0, "verified": %, "reviewTime": "%", "reviewerID": "%", "asin": "%", %"reviewerName": "%", '
    '"reviewText": "%", "summary": "%", "unixReviewTime": %}'
)


class AmazonLog:
    behaviors = ("negative", "positive")
    clock = SECONDS
    wrong_code = "9"
    wrong_code_reason = "rating_off_scale"

    def __init__(self, s: "SimulateSettings", world: World, season: Season) -> None:
        self.s, self.world, self.season = s, world, season
        self.layout = s.chosen_layout
        self.item_id = ids.codes(np.arange(s.items), s.seed, ids.DIGITS, 7, prefix=b"B00")
        self.items = ids.text(self.item_id)
        template, code, time = {
            "json-2014": (Template.json(_JSON_2014, left_out=1), 6, 8),
            "json-2018": (Template.json(_JSON_2018, left_out=3), 0, 9),
            "csv-2014": (Template.delimited(4, ","), 2, 3),
            "csv-2018": (Template.delimited(4, ","), 2, 3),
        }[self.layout]
        self.kinds = (Kind(_FILES[self.layout] + s.suffix, template, code, time),)
        self.texts, self.texts_each = texts.reviews()
        self.summaries = words([texts.in_json(text) for some in texts.OPENINGS for text in some])
        self.names = words([texts.in_json(name) for name in texts.NAMES])
        self.extras = words(
            ["", '"vote": "7", ', '"style": {"Color:": " Blue"}, ', '"vote": "2", "image": ["a.jpg"], ']
        )
        self.truths = words(["false", "true"])

    def user_id(self, first: int, users: int) -> Any:
        return ids.codes(np.arange(first, first + users), self.s.seed + 1, ids.DIGITS, 13, prefix=b"A")

    def block(self, number: int, first: int, users: int) -> tuple[list[Batch], Floats]:
        s = self.s
        rng = generator(s.seed, 1, number)
        made, tastes = ratings.block(self.world, self.season, rng, users, s.events_per_user, s.order)
        # The published files go by product.
        made = made.where(np.argsort(made.item, kind="stable"))
        stars, time = ratings.whole_stars(made.half_stars), made.time // DAY * DAY
        user = ids.text(self.user_id(first, users)).take(made.user)
        item = self.items.take(made.item)
        columns = self._columns(rng, users, made.user, user, item, stars, time)
        return [Batch(0, columns, time, (stars > 3).astype(np.int64))], tastes

    def _columns(
        self, rng: np.random.Generator, users: int, number: Ints, user: Any, item: Any, stars: Ints, time: Ints
    ) -> list[Any]:
        if self.layout == "csv-2014":
            return [user, item, _with_point(stars), time]
        if self.layout == "csv-2018":
            return [item, user, _with_point(stars), time]
        count = len(stars)
        verdict = ratings.verdicts(2 * stars)
        text = self.texts.take(verdict * self.texts_each + rng.integers(self.texts_each, size=count))
        openings = len(texts.OPENINGS[0])
        summary = self.summaries.take(verdict * openings + rng.integers(openings, size=count))
        name = self.names.take(rng.integers(len(self.names), size=users)[number])
        day = days(time, _month_day_year)
        if self.layout == "json-2014":
            votes = rng.integers(12, size=count)
            return [user, item, name, rng.integers(votes + 1), votes, text, stars, summary, time, day]
        verified = self.truths.take((rng.random(count) < 0.8).astype(np.int64))
        extra = self.extras.take(rng.choice(4, count, p=(0.6, 0.2, 0.1, 0.1)))
        return [stars, verified, day, user, item, extra, name, text, summary, time]

    def beside(self, directory: Path, folders: Sequence[str]) -> list[str]:
        return []


def _with_point(stars: Ints) -> Any:
    return words([f"{n}.0" for n in range(6)]).take(stars)


def _month_day_year(day: np.datetime64) -> str:
    year, month, number = str(day).split("-")
    return f"{month} {int(number)}, {year}"


FORMAT = Format(
    name="amazon",
    layouts=("json-2014", "json-2018", "csv-2014", "csv-2018"),
    start=START,
    days=730,
    log=AmazonLog,
)
