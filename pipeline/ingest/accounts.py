"""Row accounts: what became of every line, per raw file and in total."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence

from pydantic import BaseModel, ConfigDict

from hmar.errors import HmarError
from pipeline.ingest.candidates import BLANK, Candidates, Rejection, check_lines
from pipeline.ingest.delivery import Identified
from pipeline.ingest.writing import Merged
from pipeline.results import Accounts
from pipeline.sources import Reason
from pipeline.storage.events_store import Input, Partition

log = logging.getLogger("pipeline.ingest")


class Rejected(BaseModel):
    """Rows of one file quarantined for one reason, with the first of them as evidence."""

    model_config = ConfigDict(frozen=True)

    file: str
    reason: str
    rows: int
    first_row: int
    first_raw: str


def read_inputs(
    candidates: Candidates, identified: Sequence[Identified], rejections: Sequence[Rejection], merged: Merged
) -> list[Input]:
    """The accounts of the files that were read; events and duplicates are 0 until :func:`settle`.

    Raises:
        HmarError: a line is missing or counted twice (a defect of this program, nothing is published).
    """
    accounted = Counter(merged.delivered)
    blank: Counter[str] = Counter()
    reasons: dict[str, dict[str, int]] = {one.file.name: {} for one in identified}
    for rejection in rejections:
        accounted[rejection.file] += rejection.rows
        if rejection.reason == BLANK:
            blank[rejection.file] += rejection.rows
        else:
            reasons[rejection.file][rejection.reason] = rejection.rows
    check_lines(candidates.lines, accounted, candidates.files)
    return [
        Input(
            name=one.file.name,
            bytes=one.bytes,
            sha256=one.sha256,
            joined_sha256=one.content.joined_sha256,
            layout=one.file.layout.name,
            rows=candidates.lines[one.file.name] - blank[one.file.name],
            events=0,
            duplicates=0,
            quarantined=sum(reasons[one.file.name].values()),
            blank_lines=blank[one.file.name],
            reasons=dict(sorted(reasons[one.file.name].items())),
            outside_window=merged.outside_window[one.file.name] + reasons[one.file.name].get(Reason.OUTSIDE_WINDOW, 0),
        )
        for one in identified
    ]


def repeated_input(one: Identified, of: Input) -> Input:
    """The accounts of a file that was not read, because it holds what another one holds; until :func:`settle`."""
    return of.model_copy(update={"name": one.file.name, "bytes": one.bytes, "sha256": one.sha256})


def settle(files: Sequence[Input], partitions: Sequence[Partition], repeats: Mapping[str, str]) -> tuple[Input, ...]:
    """All files by name, with their events as the partitions have them; what is no event of a file is a duplicate.

    Args:
        repeats: file -> the file whose content it repeats: all of its rows are duplicates.

    Raises:
        HmarError: a file has more events than good rows (a defect of this program, nothing is published).
    """
    events: Counter[str] = Counter()
    for partition in partitions:
        events.update(partition.inputs)
    settled = []
    for one in sorted(files, key=lambda file: file.name):
        rejected = {"quarantined": 0, "reasons": {}, "outside_window": 0} if one.name in repeats else {}
        one = one.model_copy(update={**rejected, "events": events.pop(one.name, 0)})
        duplicates = one.rows - one.quarantined - one.events
        if duplicates < 0:
            raise HmarError(f"{one.name}: more events than rows ({one}); nothing was published")
        settled.append(one.model_copy(update={"duplicates": duplicates}))
    if events:
        raise HmarError(f"events of unknown files ({', '.join(sorted(events))}); nothing was published")
    return tuple(settled)


def tell(files: Sequence[Input]) -> None:
    """One line of log for each of the files."""
    for one in files:
        reasons = ", ".join(f"{reason} {rows:,}" for reason, rows in one.reasons.items())
        log.info(
            "%s: %s rows = %s events + %s duplicates + %s quarantined%s%s",
            one.name,
            f"{one.rows:,}",
            f"{one.events:,}",
            f"{one.duplicates:,}",
            f"{one.quarantined:,}",
            f" ({reasons})" if reasons else "",
            f"; {one.blank_lines:,} blank lines" if one.blank_lines else "",
        )


def total(files: Sequence[Input], partitions: Sequence[Partition]) -> Accounts:
    """The accounts of all files together.

    Raises:
        HmarError: rows differ from events + duplicates + quarantined (a defect of this program).
    """
    accounts = _sum(files, sum(partition.rows for partition in partitions), sum(one.duplicates for one in files))
    return _checked(accounts)


def added(new: Sequence[Input], left_out: int, before: Accounts | None, after: Accounts) -> Accounts:
    """The accounts of a delivery alone: events are what it added to those there were.

    Args:
        left_out: rows that became duplicates through it; of whichever file, of two equal rows one does.
        before, after: the accounts of all files without and with it.

    Raises:
        HmarError: they differ by another number of events (a defect of this program, nothing is published).
    """
    good = sum(one.rows - one.quarantined for one in new)
    accounts = _checked(_sum(new, good - left_out, left_out))
    if after.events - (before.events if before else 0) != accounts.events:
        raise HmarError(
            f"{accounts.events} events were added to {before.events if before else 0} and gave {after.events}; "
            "nothing was published"
        )
    return accounts


def rejected(rejections: Sequence[Rejection]) -> list[Rejected]:
    """The quarantine in brief, most rows first."""
    found = [
        Rejected(
            file=one.file,
            reason=one.reason,
            rows=one.rows,
            first_row=one.first_row,
            first_raw=(one.first_raw or "")[:200],
        )
        for one in rejections
        if one.reason != BLANK
    ]
    return sorted(found, key=lambda one: (-one.rows, one.file, one.reason))


def _sum(files: Sequence[Input], events: int, duplicates: int) -> Accounts:
    reasons: Counter[str] = Counter()
    for one in files:
        reasons.update(one.reasons)
    # Rows outside the window are counted under that name even where the settings keep them.
    outside = sum(one.outside_window for one in files)
    reasons[Reason.OUTSIDE_WINDOW] = max(reasons[Reason.OUTSIDE_WINDOW], outside)
    return Accounts(
        rows=sum(one.rows for one in files),
        events=events,
        duplicates=duplicates,
        quarantined=sum(one.quarantined for one in files),
        blank_lines=sum(one.blank_lines for one in files),
        reasons={reason: rows for reason, rows in sorted(reasons.items()) if rows},
    )


def _checked(accounts: Accounts) -> Accounts:
    if accounts.rows != accounts.events + accounts.duplicates + accounts.quarantined:
        raise HmarError(f"the row accounts do not add up ({accounts}); nothing was published")
    return accounts
