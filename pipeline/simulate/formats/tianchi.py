"""The mobile log of Tianchi: user_id,item_id,behavior_type,user_geohash,item_category,time; hours, mostly no place."""

from datetime import date
from typing import TYPE_CHECKING

import numpy as np

from pipeline.simulate import ids
from pipeline.simulate.clocks import BEIJING, HOURS
from pipeline.simulate.formats.base import EQUAL_ROWS, NO_UNIT, Batch, Format, Kind
from pipeline.simulate.formats.shops import ShopLog
from pipeline.simulate.lines import Template, words
from pipeline.simulate.seasons import Season
from pipeline.simulate.world import Floats, World

if TYPE_CHECKING:
    from pipeline.simulate.settings import SimulateSettings

START = 1_416_240_000
"""2014-11-18 00:00 in Beijing."""
PLACES = 500
PLACED = 0.32
"""Share of rows with a place."""
_CODES = np.array([1, 2, 3, 4])
"""Of view, favorite, cart and purchase."""
_GEOHASH = np.frombuffer(b"0123456789bcdefghjkmnpqrstuvwxyz", np.uint8)


class TianchiLog(ShopLog):
    behaviors = ("click", "fav", "cart", "buy")
    clock = HOURS
    wrong_code = "9"
    wrong_code_reason = "unknown_behavior"

    def __init__(self, s: "SimulateSettings", world: World, season: Season) -> None:
        super().__init__(s, world, season, most_items=400_000_000, most_users=140_000_000)
        header = "user_id,item_id,behavior_type,user_geohash,item_category,time"
        name = f"tianchi_mobile_recommend_train_user.csv{s.suffix}"
        self.kinds = (Kind(name, Template.delimited(6, ","), code=2, time=5, header=header),)
        self.category = 1 + 53 * self.fine
        places = ids.codes(np.arange(PLACES), s.seed, _GEOHASH, 6, prefix=b"9").astype(str).tolist()
        self.places = words(["", *places])

    def block(self, number: int, first: int, users: int) -> tuple[list[Batch], Floats]:
        made, tastes, rng = self.events(number, users)
        home = rng.integers(1, PLACES + 1, size=users)[made.user]
        placed = rng.random(len(made)) < PLACED
        # The published log is in no order.
        order = rng.permutation(len(made))
        made = made.where(order)
        columns = [
            self.users[first + made.user],
            self.item_id[made.item],
            _CODES[made.behavior],
            self.places.take(np.where(placed, home, 0)[order]),
            self.category[made.item],
            self.clock.text(made.time),
        ]
        return [Batch(0, columns, made.time // 3600 * 3600, made.behavior)], tastes


FORMAT = Format(
    name="tianchi",
    layouts=("",),
    start=START,
    days=31,
    log=TianchiLog,
    offset=BEIJING,
    holiday=date(2014, 12, 12),
    identical_rows="event",
    refuses={"duplicates": EQUAL_ROWS, "wrong_unit": NO_UNIT},
)
