"""What a raw log format is to the simulator."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

import numpy as np
import pyarrow as pa

from pipeline.simulate.clocks import Clock
from pipeline.simulate.lines import Template
from pipeline.simulate.seasons import Season
from pipeline.simulate.world import DAY, Floats, Ints, World, generator

if TYPE_CHECKING:
    from pipeline.simulate.settings import SimulateSettings

Rows: TypeAlias = Any
"""An Arrow array of lines with their ends, or the Arrow table of a Parquet file."""


@dataclass(frozen=True)
class Kind:
    """One kind of file of a log.

    Attributes:
        file: its name. template: how its lines are written; None for Parquet.
        code, time: the columns that a wrong code or clock goes into. header: the first line, without its end.
        daily: its name where a file holds one day.
    """

    file: str
    template: Template | None
    code: int
    time: int
    header: str = ""
    daily: str = "{date}/{file}"

    def rows(self, columns: Sequence[Any]) -> Rows:
        if self.template:
            return self.template.lines(columns)
        return pa.table([pa.array(column) for column in columns], names=self.header.split(","))

    def name(self, day: date | None) -> str:
        """The file of that day; of the whole log for None."""
        return self.file if day is None else self.daily.format(date=day.isoformat(), file=self.file)


@dataclass(frozen=True)
class Batch:
    """Rows of one kind of file.

    Attributes:
        kind: its number. columns: aligned arrays [N] of integers or text, NumPy or Arrow.
        time: int64 [N], seconds UTC as an ingest reads them. behavior: int64 [N], number among the log's behaviors.
    """

    kind: int
    columns: Sequence[Any]
    time: Ints
    behavior: Ints

    def __len__(self) -> int:
        return len(self.time)

    @property
    def day(self) -> Ints:
        """Days since 1970, UTC."""
        return self.time // DAY


class Log(Protocol):
    """A log of one format, made block by block; blocks do not depend on each other."""

    @property
    def kinds(self) -> Sequence[Kind]:
        """Flaws go into the first one."""

    @property
    def behaviors(self) -> Sequence[str]:
        """In the order in which batches number them."""

    @property
    def clock(self) -> Clock:
        """Of the first kind."""

    @property
    def wrong_code(self) -> str:
        """A behavior, flag or rating that the source does not have."""

    @property
    def wrong_code_reason(self) -> str:
        """Why an ingest rejects it."""

    @property
    def item_id(self) -> Any:
        """The source's id of each item: int64 or bytes [V]."""

    def user_id(self, first: int, users: int) -> Any:
        """The source's ids of some users: int64 or bytes [users]."""

    def block(self, number: int, first: int, users: int) -> tuple[list[Batch], Floats]:
        """The rows of some users, and the users' tastes, float64 [users, C]."""

    def beside(self, directory: Path, folders: Sequence[str]) -> list[str]:
        """Write what stands beside the log; returns the names.

        Args:
            folders: of the daily files, relative to ``directory``; empty for a log in one piece.
        """


@dataclass(frozen=True)
class Format:
    """A raw log format before anything is drawn.

    Attributes:
        layouts: the first is the default. start: first second of the log, a local midnight, UTC. days: length if not
            given. offset: seconds that local time is ahead of UTC. holiday: a day that is busy if it is in the log.
        season: default of the dial. identical_rows: as the source's preset has it (``ingest.identical_rows``).
        refuses: flaw to why it makes no sense; refuses_in: the same by layout.
        gzip: whether the source is published that way. most_days: None if there is no limit.
    """

    name: str
    layouts: tuple[str, ...]
    start: int
    days: int
    log: "Callable[[SimulateSettings, World, Season], Log]"
    offset: int = 0
    holiday: date | None = None
    season: float = 1.0
    identical_rows: Literal["duplicate", "event"] = "duplicate"
    refuses: Mapping[str, str] = field(default_factory=dict)
    refuses_in: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    gzip: bool = True
    most_days: int | None = None


EQUAL_ROWS = "equal rows are separate events there; dirt.duplicate_files delivers whole files twice"
NO_UNIT = "its times have no unit"


def drawn(rng: np.random.Generator, most: int, count: int) -> Ints:
    """``count`` different ids from 1 to ``most``, or to three times as many as there are, in no order."""
    return rng.choice(max(most, 3 * count), count, replace=False) + 1


def purpose(seed: int) -> np.random.Generator:
    """The stream that ids are drawn from."""
    return generator(seed, 3)
