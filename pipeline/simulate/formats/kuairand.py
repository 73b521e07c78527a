"""KuaiRand's log of impressions: one line per video shown, milliseconds, a column per button."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipeline.simulate import videos
from pipeline.simulate.clocks import BEIJING, MILLISECONDS
from pipeline.simulate.formats.base import Batch, Format, Kind, purpose
from pipeline.simulate.lines import Template
from pipeline.simulate.seasons import Season
from pipeline.simulate.world import DAY, Floats, Ints, World, generator

if TYPE_CHECKING:
    from pipeline.simulate.settings import SimulateSettings

START = 1_649_347_200
"""2022-04-08 00:00 in Beijing."""

HEADER = (
    "user_id,video_id,date,hourmin,time_ms,is_click,is_like,is_follow,is_comment,is_forward,is_hate,long_view,"
    "play_time_ms,duration_ms,profile_stay_time,comment_stay_time,is_profile_enter,is_rand,tab"
)


class KuaiRandLog:
    behaviors = ("skip", "hate", "click", "long_view", "like", "follow")
    clock = MILLISECONDS
    wrong_code = "2"
    wrong_code_reason = "bad_flag"

    def __init__(self, s: "SimulateSettings", world: World, season: Season) -> None:
        self.s, self.world, self.season = s, world, season
        rng = purpose(s.seed)
        self.item_id: Ints = rng.permutation(s.items)
        self.users: Ints = np.arange(s.users)
        self.duration: Ints = np.clip(rng.lognormal(10.0, 0.8, s.items), 3000, 300_000).astype(np.int64)
        name = f"log_standard_pure.csv{s.suffix}"
        self.kinds = (Kind(name, Template.delimited(19, ","), code=5, time=4, header=HEADER),)

    def user_id(self, first: int, users: int) -> Ints:
        return self.users[first : first + users]

    def block(self, number: int, first: int, users: int) -> tuple[list[Batch], Floats]:
        s = self.s
        rng = generator(s.seed, 1, number)
        made, tastes = videos.block(self.world, self.season, rng, users, s.events_per_user, s.order, self.duration)
        flags = made.flags
        local = made.time // 1000 + BEIJING
        visited = flags.follow | (rng.random(len(made)) < 0.02)
        columns = [
            first + made.user,
            self.item_id[made.item],
            _yyyymmdd(local),
            local % DAY // 3600 * 100 + local % 3600 // 60,
            made.time,
            flags.click,
            flags.like,
            flags.follow,
            flags.comment,
            flags.forward,
            flags.hate,
            flags.long_view,
            made.played,
            self.duration[made.item],
            visited * rng.integers(500, 30_000, size=len(made)),
            flags.comment * rng.integers(500, 30_000, size=len(made)),
            visited,
            np.zeros(len(made), np.int64),
            rng.integers(3, size=len(made)),
        ]
        return [Batch(0, columns, made.time // 1000, _strongest(flags))], tastes

    def beside(self, directory: Path, folders: Sequence[str]) -> list[str]:
        return []


def _strongest(flags: videos.Flags) -> Ints:
    """The number of the behavior that an ingest makes of each impression, int64 [N]."""
    opened = flags.click | flags.comment | flags.forward
    pressed = [flags.hate, flags.follow, flags.like, flags.long_view, opened]
    return np.select([flag == 1 for flag in pressed], [1, 5, 4, 3, 2], default=0)


def _yyyymmdd(seconds: Ints) -> Ints:
    day = (seconds // DAY).astype("datetime64[D]")
    month = day.astype("datetime64[M]")
    count = month.astype(np.int64)
    written: Ints = (1970 + count // 12) * 10_000 + (count % 12 + 1) * 100 + (day - month).astype(np.int64) + 1
    return written


FORMAT = Format(
    name="kuairand",
    layouts=("",),
    start=START,
    days=31,
    log=KuaiRandLog,
    offset=BEIJING,
)
