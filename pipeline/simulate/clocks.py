"""How a source writes the time of a row, and what a wrong time looks like there."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.simulate.lines import scalar
from pipeline.simulate.world import DAY, Ints

BEIJING = 8 * 3600
END = 4_102_444_800
"""2100-01-01 00:00 UTC: no time from here on is believed."""
_MILLENNIUM = 978_307_200
"""2001-01-01 00:00 UTC, long before there were short videos."""


@dataclass(frozen=True)
class Clock:
    """One way to write a time.

    Attributes:
        text: seconds UTC, int64 [N], to a column (integers or text).
        past: the n-th of as many different moments as asked for, long before the log. zero: an empty clock.
        future: the n-th of different moments nobody believes; where a format has none, after the log.
        other_unit: a right time in a unit that the source does not use; None if the format has no units.
        reasons: flaw (a field of Dirt) to the reason an ingest gives, for the four of them.
    """

    text: Callable[[Ints], Any]
    past: Callable[[int], str]
    future: Callable[[int], str]
    zero: str
    other_unit: Callable[[str], str] | None
    reasons: dict[str, str]


def days(seconds: Ints, form: Callable[[np.datetime64], str]) -> pa.Array:
    """The day of each second, written once per day that occurs, text [N]."""
    day = seconds // DAY
    present, place = np.unique(day, return_inverse=True)
    written = [form(np.datetime64(int(one), "D")) for one in present]
    return pa.array(written, pa.large_string()).take(pa.array(place))


def iso_day(day: np.datetime64) -> str:
    return str(day)


_OF_DAY = [f"{s // 3600:02}:{s // 60 % 60:02}:{s % 60:02}" for s in range(DAY)]


def time_of_day(seconds: Ints) -> pa.Array:
    """HH:MM:SS, text [N]."""
    return pa.array(_OF_DAY, pa.large_string()).take(pa.array(seconds % DAY))


def _joined(first: pa.Array, second: pa.Array) -> pa.Array:
    return pc.binary_join_element_wise(first, second, scalar(" "))


def _german_day(day: np.datetime64) -> str:
    year, month, number = str(day).split("-")
    return f"{number}.{month}.{year}"


def _hours(seconds: Ints) -> pa.Array:
    hour = pa.array([f"{h:02}" for h in range(24)], pa.large_string())
    local = seconds + BEIJING
    return _joined(days(local, iso_day), hour.take(pa.array(local % DAY // 3600)))


def _mmdd(seconds: Ints) -> Ints:
    day = ((seconds + BEIJING) // DAY).astype("datetime64[D]")
    month = day.astype("datetime64[M]")
    number: Ints = (month.astype(np.int64) % 12 + 1) * 100 + (day - month).astype(np.int64) + 1
    return number


def _old_day(n: int) -> str:
    return str(np.datetime64("1971-01-01") + n % 7000)


def _late_day(n: int) -> str:
    return str(np.datetime64("2117-01-01") + n % 70_000)


def _old_second(n: int) -> str:
    """A day and a second: both change from one to the next."""
    return f"{_old_day(n)} {_OF_DAY[n % DAY]}"


_BEFORE, _BEYOND = "outside_window", "timestamp_out_of_range"

SECONDS = Clock(
    text=lambda seconds: seconds,
    past=lambda n: str(DAY + n),
    future=lambda n: str(END + n),
    zero="0",
    other_unit=lambda text: text + "000",
    reasons={
        "outside_window": _BEFORE,
        "far_future": _BEYOND,
        "zero_time": _BEFORE,
        "wrong_unit": "timestamp_in_milliseconds",
    },
)
MILLISECONDS = Clock(
    text=lambda milliseconds: milliseconds,
    past=lambda n: str(1000 * (_MILLENNIUM + n)),
    future=lambda n: str(1000 * (END + n)),
    zero="0",
    other_unit=lambda text: text[:-3],
    reasons={
        "outside_window": _BEFORE,
        "far_future": _BEYOND,
        "zero_time": _BEYOND,
        "wrong_unit": "timestamp_in_seconds",
    },
)
DATES = Clock(
    text=lambda seconds: days(seconds, iso_day),
    past=_old_day,
    future=_late_day,
    zero="0000-00-00",
    other_unit=None,
    reasons={"outside_window": _BEFORE, "far_future": _BEYOND, "zero_time": "bad_timestamp"},
)
DATETIMES = Clock(
    text=lambda seconds: _joined(days(seconds, iso_day), time_of_day(seconds)),
    past=_old_second,
    future=lambda n: f"{_late_day(n)} 12:00:00",
    zero="0000-00-00 00:00:00",
    other_unit=None,
    reasons={"outside_window": _BEFORE, "far_future": _BEYOND, "zero_time": "bad_timestamp"},
)
HOURS = Clock(
    text=_hours,
    past=lambda n: f"{_old_day(n)} 07",
    future=lambda n: f"{_late_day(n)} 07",
    zero="0000-00-00 00",
    other_unit=None,
    reasons={"outside_window": _BEFORE, "far_future": _BEYOND, "zero_time": "bad_timestamp"},
)
LOCAL = Clock(
    text=lambda seconds: _joined(days(seconds + BEIJING, _german_day), time_of_day(seconds + BEIJING)),
    past=lambda n: f"{_german_day(np.datetime64(_old_day(n)))} {_OF_DAY[n % DAY]}",
    future=lambda n: f"{_german_day(np.datetime64(_late_day(n)))} 12:00:00",
    zero="00.00.0000 00:00:00",
    other_unit=None,
    reasons={"outside_window": _BEFORE, "far_future": _BEYOND, "zero_time": "bad_timestamp"},
)
ISO = Clock(
    text=lambda seconds: pc.binary_join_element_wise(
        days(seconds, iso_day), scalar("T"), time_of_day(seconds), scalar("Z"), scalar("")
    ),
    past=lambda n: _old_second(n).replace(" ", "T") + "Z",
    future=lambda n: f"{_late_day(n)}T12:00:00Z",
    zero="0000-00-00T00:00:00Z",
    other_unit=None,
    reasons={"outside_window": _BEFORE, "far_future": _BEYOND, "zero_time": "bad_timestamp"},
)
STAMPS = Clock(
    text=lambda seconds: pa.array(seconds * 1_000_000, pa.timestamp("us")),
    past=_old_second,
    future=lambda n: f"{_late_day(n)} 12:00:00",
    zero="1970-01-01 00:00:00",
    other_unit=None,
    reasons={"outside_window": _BEFORE, "far_future": _BEYOND, "zero_time": _BEFORE},
)
MONTH_AND_DAY = Clock(
    text=_mmdd,
    # The format has no year: before May, and after the eleventh of November.
    past=lambda n: str(100 * (1 + n % 4) + 1 + n // 4 % 28),
    future=lambda n: str(1201 + n % 31),
    zero="0",
    other_unit=None,
    reasons={"outside_window": _BEFORE, "far_future": _BEFORE, "zero_time": "bad_timestamp"},
)
