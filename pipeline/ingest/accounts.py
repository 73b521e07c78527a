"""Row accounts: what became of every line, per raw file and in total."""

import logging
from collections import Counter
from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict

from hmar.errors import HmarError
from pipeline.ingest.candidates import BLANK, DUPLICATE, Candidates, Fate
from pipeline.ingest.delivery import Identified
from pipeline.results import Accounts
from pipeline.sources import Reason
from pipeline.storage.events_store import Input

log = logging.getLogger("pipeline.ingest")


class Rejected(BaseModel):
    """Rows of one file quarantined for one reason, with the first of them as evidence."""

    model_config = ConfigDict(frozen=True)

    file: str
    reason: str
    rows: int
    first_row: int
    first_raw: str


def inputs(candidates: Candidates, identified: Sequence[Identified], fates: Sequence[Fate]) -> tuple[Input, ...]:
    """The accounts of each raw file; one line of log each."""
    found = []
    for number, one in enumerate(identified, start=1):
        counts: Counter[str | None] = Counter()
        for fate in fates:
            if fate.file_number == number:
                counts[fate.reason] += fate.rows
        blank, duplicates, events = counts.pop(BLANK, 0), counts.pop(DUPLICATE, 0), counts.pop(None, 0)
        account = Input(
            name=one.file.name,
            bytes=one.bytes,
            sha256=one.sha256,
            layout=one.file.layout.name,
            rows=candidates.lines[number - 1] - blank,
            events=events,
            duplicates=duplicates,
            quarantined=sum(counts.values()),
            blank_lines=blank,
        )
        reasons = ", ".join(f"{reason} {rows:,}" for reason, rows in sorted(counts.items(), key=str))
        log.info(
            "%s: %s rows = %s events + %s duplicates + %s quarantined%s%s",
            account.name,
            f"{account.rows:,}",
            f"{account.events:,}",
            f"{account.duplicates:,}",
            f"{account.quarantined:,}",
            f" ({reasons})" if reasons else "",
            f"; {blank:,} blank lines" if blank else "",
        )
        found.append(account)
    return tuple(found)


def total(files: Sequence[Input], fates: Sequence[Fate], outside_window: int) -> Accounts:
    """The accounts of the delivery.

    Raises:
        HmarError: rows differ from events + duplicates + quarantined (a defect of this program).
    """
    reasons: Counter[str] = Counter()
    for fate in fates:
        if fate.reason not in (None, BLANK, DUPLICATE):
            reasons[str(fate.reason)] += fate.rows
    # Rows outside the window are counted under that name even where the settings keep them.
    reasons[Reason.OUTSIDE_WINDOW] = max(reasons[Reason.OUTSIDE_WINDOW], outside_window)
    accounts = Accounts(
        rows=sum(one.rows for one in files),
        events=sum(one.events for one in files),
        duplicates=sum(one.duplicates for one in files),
        quarantined=sum(one.quarantined for one in files),
        blank_lines=sum(one.blank_lines for one in files),
        reasons={reason: rows for reason, rows in sorted(reasons.items()) if rows},
    )
    if accounts.rows != accounts.events + accounts.duplicates + accounts.quarantined:
        raise HmarError(f"the row accounts do not add up ({accounts}); nothing was published")
    return accounts


def rejected(candidates: Candidates, fates: Sequence[Fate]) -> list[Rejected]:
    """The quarantine in brief, most rows first."""
    found = [
        Rejected(
            file=candidates.files[fate.file_number - 1].name,
            reason=fate.reason,
            rows=fate.rows,
            first_row=fate.first_row,
            first_raw=(fate.first_raw or "")[:200],
        )
        for fate in fates
        if fate.reason is not None and fate.reason not in (BLANK, DUPLICATE)
    ]
    return sorted(found, key=lambda one: (-one.rows, one.file, one.reason))
