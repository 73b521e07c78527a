"""Taobao's UserBehavior.csv: user,item,category,behavior,unix seconds; no header, users whole."""

from typing import TYPE_CHECKING

from pipeline.simulate.clocks import BEIJING, SECONDS
from pipeline.simulate.formats.base import Batch, Format, Kind
from pipeline.simulate.formats.shops import ShopLog
from pipeline.simulate.lines import Template, words
from pipeline.simulate.seasons import Season
from pipeline.simulate.world import Floats, World

if TYPE_CHECKING:
    from pipeline.simulate.settings import SimulateSettings

START = 1_511_539_200
"""2017-11-25 00:00 in Beijing, the first second of the published log."""


class TaobaoLog(ShopLog):
    behaviors = ("pv", "fav", "cart", "buy")
    clock = SECONDS
    wrong_code = "view"
    wrong_code_reason = "unknown_behavior"

    def __init__(self, s: "SimulateSettings", world: World, season: Season) -> None:
        super().__init__(s, world, season, most_items=5_000_000, most_users=1_000_000)
        self.category = 100_000 + 37 * self.fine
        self.codes = words(self.behaviors)
        self.kinds = (Kind(f"UserBehavior.csv{s.suffix}", Template.delimited(5, ","), code=3, time=4),)

    def block(self, number: int, first: int, users: int) -> tuple[list[Batch], Floats]:
        made, tastes, _ = self.events(number, users)
        columns = [
            self.users[first + made.user],
            self.item_id[made.item],
            self.category[made.item],
            self.codes.take(made.behavior),
            made.time,
        ]
        return [Batch(0, columns, made.time, made.behavior)], tastes


FORMAT = Format(
    name="taobao",
    layouts=("",),
    start=START,
    days=9,
    log=TaobaoLog,
    offset=BEIJING,
    season=0.0,
)
