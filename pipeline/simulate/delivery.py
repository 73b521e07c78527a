"""The files of a log: in one piece or one per day, appended block by block, each with its account."""

import gzip
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.simulate.dirt import DUPLICATE, EVENT, QUARANTINED, Planted
from pipeline.simulate.formats.base import Kind
from pipeline.simulate.lines import content
from pipeline.simulate.world import Ints

EPOCH = date(1970, 1, 1)


@dataclass
class Account:
    """Where the rows of a file must go."""

    events: int = 0
    duplicates: int = 0
    quarantined: int = 0

    @property
    def rows(self) -> int:
        return self.events + self.duplicates + self.quarantined

    def add(self, other: "Account") -> None:
        self.events += other.events
        self.duplicates += other.duplicates
        self.quarantined += other.quarantined

    def describe(self) -> dict[str, int]:
        return {"rows": self.rows, **vars(self)}


@dataclass(frozen=True)
class Piece:
    """Rows to append to one file: bytes, or a table for Parquet."""

    file: str
    kind: Kind
    content: Any
    account: Account


def pieces(kind: Kind, planted: Planted, per_day: bool) -> list[Piece]:
    """The rows of a batch by file, compressed where the file's name says so."""
    if not len(planted.fate):
        return []
    if not per_day:
        return [_piece(kind, None, planted.rows, planted.fate)]
    order = np.argsort(planted.day, kind="stable")
    rows, day, fate = planted.rows.take(pa.array(order)), planted.day[order], planted.fate[order]
    start = np.flatnonzero(np.concatenate([[True], day[1:] != day[:-1]])).tolist()
    return [
        _piece(kind, calendar_day(day[a]), rows.slice(a, b - a), fate[a:b])
        for a, b in zip(start, [*start[1:], len(day)], strict=True)
    ]


def calendar_day(days: int) -> date:
    """The date of a number of days since 1970."""
    return EPOCH + timedelta(days=int(days))


def _piece(kind: Kind, day: date | None, rows: Any, fate: Ints) -> Piece:
    name = kind.name(day)
    counts = np.bincount(fate, minlength=3).tolist()
    account = Account(counts[EVENT], counts[DUPLICATE], counts[QUARANTINED])
    if kind.template is None:
        return Piece(name, kind, rows, account)
    return Piece(name, kind, packed(name, content(rows)), account)


def packed(name: str, text: Any) -> Any:
    """Bytes as they stand in a file of that name. Gzip allows members one after another, so pieces can be appended."""
    return gzip.compress(text, 6, mtime=0) if name.endswith(".gz") else text


@dataclass
class Delivery:
    """The files written so far."""

    directory: Path
    accounts: dict[str, Account] = field(default_factory=dict)
    late: Counter[tuple[int, int]] = field(default_factory=Counter)
    """Rows by own day and day of the file, days since 1970."""
    kinds: dict[str, Kind] = field(default_factory=dict)
    _tables: dict[str, pq.ParquetWriter] = field(default_factory=dict)

    def append(self, piece: Piece) -> None:
        new = piece.file not in self.accounts
        self.accounts.setdefault(piece.file, Account()).add(piece.account)
        path = self.directory / piece.file
        if new:
            self.kinds[piece.file] = piece.kind
            path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(piece.content, pa.Table):
            if new:
                self._tables[piece.file] = pq.ParquetWriter(path, piece.content.schema, compression="zstd")
            self._tables[piece.file].write_table(piece.content)
            return
        with path.open("ab") as stream:
            if new and piece.kind.header:
                stream.write(packed(piece.file, piece.kind.header.encode() + b"\n"))
            stream.write(piece.content)

    def append_cut(self, kind: Kind, row: Sequence[Any]) -> None:
        """End the last file of a kind with the beginning of a row.

        Args:
            row: one column of length 1 per column of the kind.
        """
        assert kind.template is not None, "settings refuse it"
        name = self.of(kind)[-1]
        line = kind.template.lines(row)[0].as_py()[:-1]
        with (self.directory / name).open("ab") as stream:
            stream.write(packed(name, kind.template.cut(line, 1.0).encode()))
        self.accounts[name].quarantined += 1

    def of(self, kind: Kind) -> list[str]:
        """The files of that kind, in order of their names."""
        return sorted(name for name, one in self.kinds.items() if one is kind)

    def close(self) -> None:
        for writer in self._tables.values():
            writer.close()

    def folders(self) -> list[str]:
        """Of the files, relative; none where all stand in the directory itself."""
        return sorted({name.rpartition("/")[0] for name in self.accounts} - {""})
