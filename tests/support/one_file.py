"""One raw file through the ingest: what became of each of its rows."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import pytest

from hmar.errors import DataError
from pipeline.results import Accounts
from pipeline.sources import delivery, source
from pipeline.stages.ingest import land
from pipeline.storage.events_store import files, read_manifest
from tests.support.raw_logs import quarantine, settings, write


class Stored(NamedTuple):
    """One event as it is stored."""

    user: Any
    item: Any
    behavior: str
    time: datetime
    category: Any
    value: float | None


@dataclass(frozen=True)
class Outcome:
    """The fates of the rows of one delivery, by (file, line number)."""

    events: dict[tuple[str, int], Stored]
    reasons: dict[tuple[str, int], str]
    accounts: Accounts

    def row(self, number: int) -> Stored | str:
        """The event or the reason that row ``number`` of the only file became."""
        found: dict[int, Stored | str] = {row: one for (_, row), one in self.events.items()}
        found.update({row: reason for (_, row), reason in self.reasons.items()})
        return found[number]


def ingest(dataset: str, raw: Path, home: Path, **values: Any) -> Outcome:
    """Land a file or directory; the rows are checked to be events, duplicates or quarantined, each exactly one."""
    s = settings(dataset, raw, home, **values)
    landed = land(s)
    events = {}
    with duckdb.connect() as connection:
        connection.execute("set timezone = 'UTC'")
        for path in files(read_manifest(landed.staging), landed.staging):
            for file, row, user, item, behavior, time, category, value in connection.execute(
                "select source_file, source_row, user_id, item_id, behavior, epoch_us(event_time), category_id, value "
                "from read_parquet(?)",
                [str(path)],
            ).fetchall():
                moment = datetime.fromtimestamp(time // 10**6, UTC).replace(microsecond=time % 10**6)
                events[file, row] = Stored(user, item, behavior, moment, category, value)
    reasons = {(one.source_file, one.source_row): one.reason for one in quarantine(s, landed)}
    accounts = landed.accounts
    assert (accounts.events, accounts.quarantined) == (len(events), len(reasons))
    assert accounts.rows == accounts.events + accounts.duplicates + accounts.quarantined
    assert not set(events) & set(reasons)
    return Outcome(events, reasons, accounts)


def ingest_text(dataset: str, text: str | bytes, directory: Path, name: str = "log", **values: Any) -> Outcome:
    """:func:`ingest` of one file with that text."""
    return ingest(dataset, write(directory / "raw" / name, text), directory / "home", **values)


def refusal(dataset: str, text: str | bytes, directory: Path, name: str = "log") -> str:
    """The one line with which a file of that text is refused."""
    path = write(directory / name, text)
    with pytest.raises(DataError) as refused:
        delivery(source(dataset), path)
    message = str(refused.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    return message
