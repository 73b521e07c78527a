"""Yelp's academic data set: reviews, tips and businesses as JSON lines, in the layouts of 2014 and 2018."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.simulate import ids, ratings, texts
from pipeline.simulate.clocks import DATES, DATETIMES
from pipeline.simulate.formats.base import NO_UNIT, Batch, Format, Kind
from pipeline.simulate.lines import Template, words
from pipeline.simulate.seasons import Season
from pipeline.simulate.world import DAY, Floats, World, generator

if TYPE_CHECKING:
    from pipeline.simulate.settings import SimulateSettings

START = 1_325_376_000
"""2012-01-01 00:00 UTC."""
TIPS = 0.3
"""Tips for each review, about."""

REVIEW_2018 = (
    '{"review_id":"%","user_id":"%","business_id":"%","stars":%.0,"useful":%,"funny":%,"cool":%,"text":"%","date":"%"}'
)
REVIEW_2014 = (
    '{"votes": {"funny": %, "useful": %, "cool": %}, "user_id": "%", "review_id": "%", "stars": %, "date": "%", '
    '"text": "%", "type": "review", "business_id": "%"}'
)
TIP_2018 = '{"user_id":"%","business_id":"%","text":"%","date":"%","compliment_count":0}'
TIP_2014 = '{"user_id": "%", "text": "%", "business_id": "%", "likes": 0, "date": "%", "type": "tip"}'

CATEGORIES = ("Restaurants", "Coffee & Tea", "Bakeries", "Nightlife", "Shopping", "Health & Medical", "Arts/Crafts")


class YelpLog:
    behaviors = ("dislike", "neutral", "like", "tip")
    wrong_code = "9"
    wrong_code_reason = "rating_off_scale"

    def __init__(self, s: "SimulateSettings", world: World, season: Season) -> None:
        self.s, self.world, self.season = s, world, season
        self.new = s.chosen_layout == "2018"
        self.clock = DATETIMES if self.new else DATES
        self.item_id = ids.codes(np.arange(s.items), s.seed, ids.LETTERS, 22)
        self.items = ids.text(self.item_id)
        if self.new:
            review = Kind(_file("review", s.suffix), Template.json(REVIEW_2018, left_out=1), code=3, time=8)
            tip = Kind(_file("tip", s.suffix), Template.json(TIP_2018, left_out=1), code=0, time=3)
        else:
            review = Kind(_file("review", s.suffix), Template.json(REVIEW_2014, left_out=8), code=5, time=6)
            tip = Kind(_file("tip", s.suffix), Template.json(TIP_2014, left_out=1), code=0, time=3)
        self.kinds = (review, tip)
        self.texts, self.texts_each = texts.reviews(slashes=self.new)
        self.remarks = words([texts.in_json(text, slashes=self.new) for text in texts.REMARKS])

    def user_id(self, first: int, users: int) -> Any:
        return ids.codes(np.arange(first, first + users), self.s.seed + 1, ids.LETTERS, 22)

    def block(self, number: int, first: int, users: int) -> tuple[list[Batch], Floats]:
        s = self.s
        rng = generator(s.seed, 1, number)
        made, tastes = ratings.block(self.world, self.season, rng, users, s.events_per_user / (1 + TIPS), s.order)
        made = made.where(rng.permutation(len(made)))
        who = ids.text(self.user_id(first, users))
        user, item, count = who.take(made.user), self.items.take(made.item), len(made)
        stars = ratings.whole_stars(made.half_stars)
        verdict = ratings.verdicts(2 * stars)
        # Number of the block and of the row in it: both far below the 36 ** 7 that make ids different.
        review = ids.text(ids.codes(number * 2**22 + np.arange(count), s.seed + 2, ids.LETTERS, 22))
        text = self.texts.take(verdict * self.texts_each + rng.integers(self.texts_each, size=count))
        useful, funny, cool = (rng.poisson(mean, count) for mean in (1.0, 0.3, 0.4))
        date = self.clock.text(made.time)
        if self.new:
            columns = [review, user, item, stars, useful, funny, cool, text, date]
        else:
            columns = [funny, useful, cool, user, review, stars, date, text, item]
        return [Batch(0, columns, self._read(made.time), verdict), self._tips(rng, made, who)], tastes

    def _tips(self, rng: np.random.Generator, made: ratings.Ratings, who: Any) -> Batch:
        """Some reviews bring a tip, mostly the good ones, up to a month later."""
        given = np.flatnonzero(rng.random(len(made)) < np.where(made.half_stars >= 8, 1.25, 0.6) * TIPS)
        time = made.time[given] + rng.exponential(5 * DAY, len(given)).astype(np.int64)
        given, time = given[time < self.season.end], time[time < self.season.end]
        user, item = who.take(made.user[given]), self.items.take(made.item[given])
        text = self.remarks.take(rng.integers(len(self.remarks), size=len(given)))
        date = self.clock.text(time)
        columns = [user, item, text, date] if self.new else [user, text, item, date]
        return Batch(1, columns, self._read(time), np.full(len(given), 3))

    def _read(self, time: Any) -> Any:
        return time if self.new else time // DAY * DAY

    def beside(self, directory: Path, folders: Sequence[str]) -> list[str]:
        """The businesses, beside every review file, for they are joined to it; a few have no category."""
        rng = generator(self.s.seed, 4)
        bare = rng.random(self.s.items) < 0.03
        lines = []
        for number, (item, cluster) in enumerate(zip(self.item_id.tolist(), self.world.cluster.tolist(), strict=True)):
            names = [CATEGORIES[cluster % len(CATEGORIES)], f"District {cluster // len(CATEGORIES)}"]
            lines.append(self._business(number, item.decode(), [] if bare[number] else names))
        written = []
        for folder in folders or [""]:
            name = f"{folder}/{_file('business', '')}".lstrip("/")
            (directory / name).write_text("".join(lines), encoding="utf-8")
            written.append(name)
        return written

    def _business(self, number: int, item: str, categories: list[str]) -> str:
        name, city = f"{texts.NAMES[number % len(texts.NAMES)]} No. {number}", "Springvale"
        if self.new:
            whole = {
                "business_id": item, "name": name, "address": f"{number} Mill St", "city": city, "state": "NV",
                "stars": 3.5, "review_count": 5, "is_open": 1, "attributes": {"ByAppointmentOnly": "True"},
                "categories": ", ".join(categories) or None, "hours": None,
            }  # fmt: skip
            return json.dumps(whole, separators=(",", ":")).replace("/", "\\/") + "\n"
        whole = {
            "business_id": item, "full_address": f"{number} Mill St\n{city}, NV", "hours": {}, "open": True,
            "categories": categories, "city": city, "review_count": 5, "name": name, "neighborhoods": [],
            "state": "NV", "stars": 3.5, "attributes": {"Parking": {"garage": False}}, "type": "business",
        }  # fmt: skip
        return json.dumps(whole) + "\n"


def _file(kind: str, suffix: str) -> str:
    return f"yelp_academic_dataset_{kind}.json{suffix}"


FORMAT = Format(
    name="yelp",
    layouts=("2018", "2014"),
    start=START,
    days=730,
    log=YelpLog,
    refuses={"wrong_unit": NO_UNIT},
)
