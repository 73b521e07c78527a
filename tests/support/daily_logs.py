"""A Taobao log as one file a day, some rows of which come in a later day's file."""

from collections import defaultdict
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path

BEIJING = timezone(timedelta(hours=8))
LATE_EVERY = 40
"""One row in so many is late, by one or two days."""


def split_by_day(log: Path, out: Path, days: int) -> dict[date, Path]:
    """Write ``out/<day>/UserBehavior.csv`` for the first days of ``log``.

    Every 40th row is in the file of a later day, and every 40th is in that one, too.
    """
    rows: dict[date, list[str]] = defaultdict(list)
    for number, line in enumerate((log / "UserBehavior.csv").read_text(encoding="utf-8").splitlines()):
        day = datetime.fromtimestamp(int(line.split(",")[4]), BEIJING).date()
        late = day + timedelta(days=1 + number // LATE_EVERY % 2)
        kind = number % LATE_EVERY
        rows[late if kind == 0 else day].append(line)
        if kind == 1:
            rows[late].append(line)
    files = {}
    for day in sorted(rows)[:days]:
        files[day] = out / day.isoformat() / "UserBehavior.csv"
        files[day].parent.mkdir(parents=True)
        files[day].write_text("".join(f"{row}\n" for row in rows[day]), encoding="utf-8")
    return files


def partitions_of(file: Path) -> set[str]:
    """The days (UTC) that the file's rows belong to."""
    times = (int(line.split(",")[4]) for line in file.read_text(encoding="utf-8").splitlines())
    return {datetime.fromtimestamp(time, UTC).date().isoformat() for time in times}
