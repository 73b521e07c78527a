"""An imaginary shop's own log as CSV, TSV, JSON lines or Parquet, and the settings that read it as a table."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from pipeline.simulate import ids
from pipeline.simulate.clocks import BEIJING, ISO, LOCAL, SECONDS, STAMPS, Clock
from pipeline.simulate.formats.base import NO_UNIT, Batch, Format, Kind
from pipeline.simulate.formats.shops import ShopLog
from pipeline.simulate.lines import Template, words
from pipeline.simulate.seasons import Season
from pipeline.simulate.texts import titles
from pipeline.simulate.world import Floats, World, generator

if TYPE_CHECKING:
    from pipeline.simulate.settings import SimulateSettings

START = 1_704_643_200
"""2024-01-08 00:00 in Beijing: the shop notes local times in one of the layouts."""
SETTINGS = "shop.yaml"
CODES = {"view": "look", "wish": "star", "basket": "add", "order": "pay"}

_NAMES = ("when", "what", "visitor", "sku", "department", "price", "title")
_JSON = (
    '{"when": "%", "what": "%", "visitor": {"id": "%"}, '
    '"item": {"sku": "%", "department": "%", "price": %, "title": "%"}}'
)
_CLOCKS = {"csv": SECONDS, "tsv": LOCAL, "json": ISO, "parquet": STAMPS}
_TIMES = {
    "csv": "when",
    "tsv": '{column: when, format: "%d.%m.%Y %H:%M:%S", zone: Asia/Shanghai}',
    "json": "{column: when, unit: iso8601}",
    "parquet": "{column: when}",
}
_SUFFIXES = {"csv": "csv", "tsv": "tsv", "json": "jsonl", "parquet": "parquet"}


class TableLog(ShopLog):
    behaviors = tuple(CODES)
    wrong_code = "steal"
    wrong_code_reason = "unknown_behavior"

    def __init__(self, s: "SimulateSettings", world: World, season: Season) -> None:
        super().__init__(s, world, season, most_items=10**9, most_users=10**9)
        self.layout = s.chosen_layout
        self.clock: Clock = _CLOCKS[self.layout]
        self.suffix = _SUFFIXES[self.layout] + s.suffix
        self.item_id: Any = ids.codes(self.item_id, s.seed, ids.DIGITS, 8, prefix=b"SKU-")
        self.items, self.codes = ids.text(self.item_id), words(list(CODES.values()))
        departments = [f"Department {n}" for n in range(int(self.fine.max()) + 1)]
        self.departments = words(departments).take(self.fine)
        rng = generator(s.seed, 7)
        self.prices: Floats = np.round(rng.lognormal(3.0, 1.0, s.items), 2)
        self.titles = words([self._title(title) for title in titles(rng, s.items)])
        self.kinds = (self._kind(),)

    def _kind(self) -> Kind:
        columns = dict.fromkeys(_NAMES)
        template: Template | None = None
        if self.layout == "csv":
            # The last column is quoted, and so is every comma in it.
            template = replace(Template.delimited(len(columns), ","), whole=',"')
        elif self.layout == "tsv":
            template = Template.delimited(len(columns), "\t")
        elif self.layout == "json":
            template = replace(Template.json(_JSON, left_out=1), short_reason="unknown_behavior")
        header = "" if self.layout == "json" else ("\t" if self.layout == "tsv" else ",").join(_NAMES)
        return Kind(f"log.{self.suffix}", template, code=1, time=0, header=header, daily="{date}." + self.suffix)

    def _title(self, title: str) -> str:
        return {"csv": f'"{title}, ""as new"""', "json": f'{title}, \\"as new\\"'}.get(self.layout, title)

    def user_id(self, first: int, users: int) -> Any:
        return ids.codes(self.users[first : first + users], self.s.seed + 1, ids.DIGITS, 9, prefix=b"v")

    def block(self, number: int, first: int, users: int) -> tuple[list[Batch], Floats]:
        made, tastes, rng = self.events(number, users)
        made = made.where(rng.permutation(len(made)))
        columns = [
            self.clock.text(made.time),
            self.codes.take(made.behavior),
            ids.text(self.user_id(first, users)).take(made.user),
            self.items.take(made.item),
            self.departments.take(made.item),
            pa.array(self.prices).take(made.item),
            self.titles.take(made.item),
        ]
        return [Batch(0, columns, made.time, made.behavior)], tastes

    def beside(self, directory: Path, folders: Sequence[str]) -> list[str]:
        nested = self.layout == "json"
        behaviors = ", ".join(f"{name}: {code}" for name, code in CODES.items())
        lines = [
            "# Reads the log of this directory: hmar retrain --settings shop.yaml --raw .",
            "dataset: table",
            "name: shop",
            "ingest:",
            f"  since: {_moment(self.season.start)}",
            f"  until: {_moment(self.season.end)}",
            "table:",
            f"  user: {'visitor.id' if nested else 'visitor'}",
            f"  item: {'item.sku' if nested else 'sku'}",
            f"  time: {_TIMES[self.layout]}",
            "  behavior: what",
            f"  behaviors: [{behaviors}]",
            f"  category: {'item.department' if nested else 'department'}",
            f"  value: {'item.price' if nested else 'price'}",
            f'  files: "*.{self.suffix}"',
        ]
        (directory / SETTINGS).write_text("\n".join(lines) + "\n", encoding="utf-8")
        return [SETTINGS]


def _moment(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()


FORMAT = Format(
    name="table",
    layouts=("csv", "tsv", "json", "parquet"),
    start=START,
    days=28,
    log=TableLog,
    offset=BEIJING,
    refuses_in={
        "tsv": {"wrong_unit": NO_UNIT},
        "json": {"wrong_unit": NO_UNIT},
        "parquet": {
            "wrong_unit": NO_UNIT,
            **dict.fromkeys(("short_lines", "cut_lines", "cut_last_line"), "a Parquet file has no lines"),
        },
    },
)
