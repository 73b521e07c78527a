"""Tmall's user_log_format1.csv of IJCAI-15, days only; and its reduced form with an index and fewer columns."""

from datetime import date
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.simulate.clocks import BEIJING, MONTH_AND_DAY
from pipeline.simulate.formats.base import EQUAL_ROWS, NO_UNIT, Batch, Format, Kind
from pipeline.simulate.formats.shops import ShopLog
from pipeline.simulate.lines import Template, scalar
from pipeline.simulate.seasons import Season
from pipeline.simulate.world import DAY, Floats, Ints, World, generator

if TYPE_CHECKING:
    from pipeline.simulate.settings import SimulateSettings

START = 1_399_737_600
"""2014-05-11 00:00 in Beijing."""
NO_BRAND = 0.02
"""Share of items without a brand."""
_CODES = np.array([0, 3, 1, 2])
"""Of view, favorite, cart and purchase."""


class TmallLog(ShopLog):
    behaviors = ("click", "fav", "cart", "buy")
    clock = MONTH_AND_DAY
    wrong_code = "7"
    wrong_code_reason = "unknown_behavior"

    def __init__(self, s: "SimulateSettings", world: World, season: Season) -> None:
        super().__init__(s, world, season, most_items=1_113_166, most_users=424_170)
        self.full = s.chosen_layout == "full"
        if self.full:
            header = "user_id,item_id,cat_id,seller_id,brand_id,time_stamp,action_type"
            kind = Kind(f"user_log_format1.csv{s.suffix}", Template.delimited(7, ","), code=6, time=5, header=header)
        else:
            header = ",user_id,item_id,time_stamp,action_type"
            kind = Kind(f"data_sample.csv{s.suffix}", Template.delimited(5, ","), code=4, time=3, header=header)
        self.kinds = (kind,)
        rng = generator(s.seed, 7)
        seller = 1 + rng.integers(max(2, s.items // 200), size=s.items)
        # A seller has few brands.
        number = 1 + (seller * 7 + rng.integers(3, size=s.items)) % max(3, s.items // 130)
        brand = pc.cast(pa.array(number), pa.large_string())
        self.seller = seller
        self.brand = pc.if_else(pa.array(rng.random(s.items) < NO_BRAND), scalar(""), brand)
        self.category = 1 + self.fine

    def block(self, number: int, first: int, users: int) -> tuple[list[Batch], Floats]:
        made, tastes, rng = self.events(number, users)
        # Rows of a user stand in no order, and nothing about the order within a day may be found in the file.
        order = np.lexsort((rng.random(len(made)), made.user))
        made = made.where(order)
        user, item, code = self.users[first + made.user], self.item_id[made.item], _CODES[made.behavior]
        day = self.clock.text(made.time)
        if self.full:
            columns = [
                user,
                item,
                self.category[made.item],
                self.seller[made.item],
                self.brand.take(made.item),
                day,
                code,
            ]
        else:
            # The row's number in the full log: it rises, with gaps.
            index = 2**28 * number + np.cumsum(1 + rng.integers(3, size=len(made)))
            columns = [index, user, item, day, code]
        return [Batch(0, columns, _midnight(made.time), made.behavior)], tastes


def _midnight(seconds: Ints) -> Ints:
    return (seconds + BEIJING) // DAY * DAY - BEIJING


FORMAT = Format(
    name="tmall",
    layouts=("full", "reduced"),
    start=START,
    days=186,
    log=TmallLog,
    offset=BEIJING,
    holiday=date(2014, 11, 11),
    identical_rows="event",
    refuses={"duplicates": EQUAL_ROWS, "wrong_unit": NO_UNIT},
    most_days=186,
)
