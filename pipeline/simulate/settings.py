"""The settings of ``hmar simulate``."""

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from hmar.settings import LayeredSettings, nearest
from pipeline.simulate.dirt import Dirt
from pipeline.simulate.formats import FORMATS
from pipeline.simulate.formats.base import Format
from pipeline.simulate.formats.shops import ShopLog

MOST_FILES = 1000
"""Days of a log of one file per day."""


class SimulateSettings(LayeredSettings):
    """Write a made-up raw log of a known structure in the exact format of a real source, its truth beside it."""

    source: Literal["amazon", "kuairand", "movielens", "table", "taobao", "tianchi", "tmall", "yelp"]
    """Whose format; table is an imaginary shop's own log, with the settings that read it."""
    out: Path
    """Directory to write; it may hold an earlier simulation, which is replaced."""
    users: int = Field(1000, ge=2)
    """Users of the log."""
    items: int = Field(1000, ge=20)
    """Items, or films, of the log."""
    days: int | None = Field(None, ge=1)
    """Time span; as long as the published log if not given, MovieLens 210 days."""
    events_per_user: float = Field(60, ge=2)
    """Mean rows per user, about; the distribution is heavy-tailed."""
    seed: int = Field(0, ge=0)
    """Equal seeds and settings give equal bytes."""
    order: float = Field(0.55, ge=0, le=1)
    """How often the next item follows from the previous one rather than from taste and popularity alone."""
    funnel: float = Field(1.0, ge=0, le=1)
    """Shops: the share of purchases that are of the item that was viewed, favored or carted before. The others are of
    any item that is popular then, whoever buys it: what was done before tells nothing about them."""
    drift: float = Field(0.7, ge=0)
    """How far popularity moves over the span: weights change by up to e to this power, up and down."""
    season: float | None = Field(None, ge=0, le=3)
    """How far traffic differs between days: weekends, a trend and a holiday; 0 not at all. taobao and movielens 0, the
    others 1 if not given."""
    layout: str = ""
    """movielens: 100k, 1m, latest. tmall: full, reduced. yelp: 2018, 2014. amazon: json-2014, json-2018, csv-2014,
    csv-2018. table: csv, tsv, json, parquet. The first if not given."""
    per_day: bool = False
    """One file per UTC day, in a folder named by the date (table: a file named by it), as a nightly ingest takes it."""
    gzip: bool = False
    """Compress the log."""
    workers: int = Field(4, ge=1)
    """Blocks of users that are made at a time. The bytes do not depend on it."""
    dirt: Dirt = Dirt()
    """Flaws to plant."""

    @model_validator(mode="after")
    def _fits_source(self) -> "SimulateSettings":
        form, name = self.format, self.source
        if self.layout and self.layout not in form.layouts:
            owner = next((other.name for other in FORMATS.values() if self.layout in other.layouts), "")
            if form.layouts == ("",):
                whose = f" is one of {owner}'s" if owner else ""
                raise ValueError(f"layout {self.layout!r}{whose}; leave it out for {name}")
            raise ValueError(f"layout: {name} has no {self.layout!r}{nearest(self.layout, list(form.layouts))}")
        if self.gzip and (not form.gzip or self.layout == "parquet"):
            what = "Parquet" if self.layout == "parquet" else name
            raise ValueError(f"gzip: {what} is not published that way; leave it out")
        if self.funnel < 1 and not (isinstance(form.log, type) and issubclass(form.log, ShopLog)):
            raise ValueError(f"funnel: {name} is no shop and has none; leave it out")
        if form.most_days is not None and self.span > form.most_days:
            raise ValueError(f"days: a log of {name} can have {form.most_days} at most, its times have no year")
        if self.per_day and self.span > MOST_FILES:
            raise ValueError(f"per_day: at most {MOST_FILES} days, or there are too many files; choose fewer days")
        for dial in ("late_rows", "duplicate_files"):
            if getattr(self.dirt, dial) and not self.per_day:
                raise ValueError(f"dirt.{dial} needs per_day: a log in one piece has no other file")
        refused = {**form.refuses, **form.refuses_in.get(self.chosen_layout, {})}
        for dial, why in refused.items():
            if getattr(self.dirt, dial):
                raise ValueError(f"dirt.{dial} makes no sense for {name}: {why}")
        return self

    @property
    def format(self) -> Format:
        return FORMATS[self.source]

    @property
    def span(self) -> int:
        """Days."""
        return self.days or self.format.days

    @property
    def chosen_layout(self) -> str:
        """``layout``, or the source's first."""
        return self.layout or self.format.layouts[0]

    @property
    def suffix(self) -> str:
        """What ``gzip`` adds to the names of the log's files."""
        return ".gz" if self.gzip else ""

    @property
    def swing(self) -> float:
        """``season``, or the source's default."""
        return self.format.season if self.season is None else self.season
