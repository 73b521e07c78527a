"""Flaws that real logs have, in exact numbers, so that an ingest can be held to account for each of them."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from hmar.errors import SettingsError
from hmar.settings import Section
from pipeline.simulate.formats.base import Batch, Kind, Log, Rows
from pipeline.simulate.world import Floats, Ints

LATEST = 3
"""A late row stands in the file of one of this many days after its own."""

EVENT, DUPLICATE, QUARANTINED = range(3)
"""What must become of a row."""


class Dirt(Section):
    """Rows to add to a clean log, and rows to put elsewhere; the clean rows stay what they are without them."""

    duplicates: int = Field(0, ge=0)
    """Exact copies of rows of the log."""
    duplicate_files: int = Field(0, ge=0)
    """per_day: files that are delivered a second time, byte by byte, in a folder of their own."""
    outside_window: int = Field(0, ge=0)
    """Rows whose clock stood years before the first plausible moment."""
    far_future: int = Field(0, ge=0)
    """Rows whose clock ran far ahead: beyond 2099 or, where the format has no years, after the log's end."""
    zero_time: int = Field(0, ge=0)
    """Rows whose time is all zeros."""
    wrong_unit: int = Field(0, ge=0)
    """Rows with milliseconds where the source has seconds, or the other way round."""
    unknown_codes: int = Field(0, ge=0)
    """Rows whose behavior code, flag or rating the source does not know."""
    short_lines: int = Field(0, ge=0)
    """Rows that lack their last column; in JSON, one of the keys."""
    cut_lines: int = Field(0, ge=0)
    """Beginnings of rows, with a line end, in the middle of the file."""
    cut_last_line: bool = False
    """Whether the file ends in the middle of a row, as after an interrupted copy."""
    shuffled_rows: int = Field(0, ge=0)
    """Rows that are taken out and put back elsewhere in the file. No account changes."""
    late_rows: int = Field(0, ge=0)
    """per_day: rows of one day that stand in the file of a later one, three days later at most. No account changes."""

    @property
    def quarantined(self) -> int:
        """Rows that an ingest must reject."""
        return sum(int(getattr(self, name)) for name in QUARANTINING) + self.cut_last_line

    def share(self, first: int, users: int, total: int) -> "tuple[Dirt, Dirt]":
        """The part of each number that falls to ``users`` of ``total`` users from ``first`` on, and to those before."""

        def until(user: int) -> dict[str, int]:
            return {name: getattr(self, name) * user // total for name in SPREAD}

        before, after = until(first), until(first + users)
        return Dirt(**{name: after[name] - before[name] for name in SPREAD}), Dirt(**before)


CLOCK = ("outside_window", "far_future", "zero_time", "wrong_unit")
QUARANTINING = (*CLOCK, "unknown_codes", "short_lines", "cut_lines")
SPREAD = ("duplicates", *QUARANTINING, "shuffled_rows", "late_rows")


@dataclass(frozen=True)
class Planted:
    """The rows of a batch as they go into files.

    Attributes:
        rows: lines, or a table of N rows. day: int64 [N], days since 1970 of the file of each. fate: int64 [N].
        late: (own day, day of the file) of each late row, int64 [L, 2].
    """

    rows: Rows
    day: Ints
    fate: Ints
    late: Ints


def clean(kind: Kind, batch: Batch) -> Planted:
    """A batch without flaws."""
    return Planted(
        kind.rows(batch.columns),
        batch.day,
        np.full(len(batch), EVENT),
        np.empty((0, 2), np.int64),
    )


def plant(
    dirt: Dirt, before: Dirt, rng: np.random.Generator, log: Log, kind: Kind, batch: Batch, last_day: int
) -> Planted:
    """A batch with flaws.

    Args:
        dirt: how many of each in this batch. before: how many of each went before, so that no two are equal by chance.
        last_day: the last day of the log, days since 1970; a row of that day cannot be late.

    Raises:
        SettingsError: more late or shuffled rows than there are rows.
    """
    made = _Made(rng, kind, batch)
    copied = made.add(DUPLICATE, dirt.duplicates)
    for name in CLOCK:
        made.add(QUARANTINED, getattr(dirt, name), kind.time, _Clock(log, name, getattr(before, name)))
    made.add(QUARANTINED, dirt.unknown_codes, kind.code, lambda text: [log.wrong_code] * len(text))
    made.add_short(dirt.short_lines)
    made.add_cut(dirt.cut_lines)

    day, late = batch.day.copy(), np.empty((0, 2), np.int64)
    if dirt.late_rows:
        may = np.setdiff1d(np.flatnonzero(batch.day < last_day), copied)
        chosen = _some(rng, may, dirt.late_rows, "late_rows")
        arrival = np.minimum(day[chosen] + rng.integers(1, LATEST + 1, len(chosen)), last_day)
        late = np.stack([day[chosen], arrival], axis=1)
        day[chosen] = arrival

    count = len(batch)
    place: Floats = np.arange(count, dtype=np.float64)
    if dirt.shuffled_rows:
        moved = _some(rng, np.arange(count), dirt.shuffled_rows, "shuffled_rows")
        place[moved] = rng.uniform(0, count, len(moved))
    rows, days, fates = made.all(day)
    order = np.argsort(np.concatenate([place, rng.uniform(0, count, len(days) - count)]), kind="stable")
    return Planted(rows.take(pa.array(order)), days[order], fates[order], late)


class _Clock:
    """Wrong times for a column of right ones."""

    def __init__(self, log: Log, flaw: str, first: int) -> None:
        self.clock, self.flaw, self.first = log.clock, flaw, first

    def __call__(self, text: list[str]) -> list[str]:
        if self.flaw == "zero_time":
            return [self.clock.zero] * len(text)
        if self.flaw == "wrong_unit":
            assert self.clock.other_unit is not None, "settings refuse it"
            return [self.clock.other_unit(one) for one in text]
        make = self.clock.past if self.flaw == "outside_window" else self.clock.future
        return [make(self.first + n) for n in range(len(text))]


class _Made:
    """Flawed copies of rows of a batch."""

    def __init__(self, rng: np.random.Generator, kind: Kind, batch: Batch) -> None:
        self.rng, self.kind, self.batch = rng, kind, batch
        self.columns = [pa.array(column) for column in batch.columns]
        self.parts: list[Rows] = [kind.rows(self.columns)]
        self.origins: list[Ints] = []
        self.fates: list[Ints] = [np.full(len(batch), EVENT)]

    def add(self, fate: int, count: int, column: int = 0, change: Any = None) -> Ints:
        """``count`` copies, one column of them changed by a function of its texts; the rows they are copies of."""
        origin, columns = self._copies(count)
        if count and change:
            old = columns[column]
            new = pa.array(change(pc.cast(old, pa.large_string()).to_pylist()), pa.large_string())
            columns[column] = new if self.kind.template else pc.cast(new, old.type)
        self._keep(fate, origin, self.kind.rows(columns))
        return origin

    def add_short(self, count: int) -> None:
        origin, columns = self._copies(count)
        if self.kind.template:
            self._keep(QUARANTINED, origin, self.kind.template.lines(columns, short=True))

    def add_cut(self, count: int) -> None:
        origin, columns = self._copies(count)
        if self.kind.template:
            whole = self.kind.template.lines(columns).to_pylist()
            shares = self.rng.random(count).tolist()
            cut = [self.kind.template.cut(line[:-1], share) + "\n" for line, share in zip(whole, shares, strict=True)]
            self._keep(QUARANTINED, origin, pa.array(cut, pa.large_string()))

    def all(self, day: Ints) -> tuple[Rows, Ints, Ints]:
        """Rows, day of the file and fate; the clean ones first, their days given, a copy is in the file of its day."""
        rows = (pa.concat_arrays if self.kind.template else pa.concat_tables)(self.parts)
        days = np.concatenate([day, *(self.batch.day[origin] for origin in self.origins)])
        return rows, days, np.concatenate(self.fates)

    def _copies(self, count: int) -> tuple[Ints, list[Any]]:
        if count and not len(self.batch):
            raise SettingsError("dirt: a block of users without rows cannot have flaws; choose more users or days")
        origin = self.rng.integers(max(len(self.batch), 1), size=count)
        return origin, [column.take(pa.array(origin)) for column in self.columns]

    def _keep(self, fate: int, origin: Ints, rows: Rows) -> None:
        self.parts.append(rows)
        self.origins.append(origin)
        self.fates.append(np.full(len(origin), fate))


def _some(rng: np.random.Generator, rows: Ints, count: int, dial: str) -> Ints:
    if count > len(rows):
        raise SettingsError(f"dirt.{dial}: more rows than the log can give; choose fewer, or more users")
    return rng.choice(rows, count, replace=False)
