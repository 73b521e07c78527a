"""How traffic differs from day to day: weekends, a trend and one holiday. Hours of the day are the users' habits."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np

from pipeline.simulate.world import DAY, Floats, Ints

WEEKEND, TREND, HOLIDAY = 0.3, 0.6, 1.1
"""Logarithms at strength 1: a weekend day is 1.35 times as busy as a weekday, the last day 1.8 times as busy as the
first, the holiday 3 times as busy as a common day."""

_LEAST_DAYS = 4
"""A shorter log has no holiday."""


@dataclass(frozen=True)
class Season:
    """The days of a log.

    Attributes:
        start: first second, a local midnight, UTC. offset: seconds that local time is ahead of UTC.
        weights: float64 [days], relative traffic, mean 1. holiday: its day, counted from 0; None without seasons.
    """

    start: int
    offset: int
    weights: Floats
    holiday: int | None

    @classmethod
    def build(
        cls, start: int, days: int, offset: int = 0, strength: float = 0.0, holiday: date | None = None
    ) -> "Season":
        """``holiday`` is the day of the peak if the log covers it; else the peak is two thirds into the log."""
        if not strength:
            return cls(start, offset, np.ones(days), None)
        first = (start + offset) // DAY
        day = np.arange(days)
        named = (holiday - date(1970, 1, 1)).days - first if holiday else -1
        peak = named if 0 <= named < days else (2 * days // 3 if days >= _LEAST_DAYS else None)
        # 1970-01-01 was a Thursday.
        level = WEEKEND * np.isin((first + day + 3) % 7, (5, 6)) + TREND * day / max(days - 1, 1)
        if peak is not None:
            level[peak] += HOLIDAY
        weights = np.exp(strength * level)
        return cls(start, offset, weights / weights.mean(), peak)

    @property
    def days(self) -> int:
        return len(self.weights)

    @property
    def end(self) -> int:
        """The first second after the log."""
        return self.start + self.days * DAY

    @property
    def flat(self) -> bool:
        return self.holiday is None and bool((self.weights == 1).all())

    def draw(self, rng: np.random.Generator, count: int) -> Ints:
        """A day for each of ``count`` sessions, by weight, int64 [count]."""
        if self.flat:
            return rng.integers(self.days, size=count)
        running = np.cumsum(self.weights) / self.weights.sum()
        return np.minimum(np.searchsorted(running, rng.random(count), side="right"), self.days - 1)

    def bend(self, day: Floats) -> Floats:
        """Evenly spread moments (days since the start) to moments whose density follows the weights, order kept."""
        if self.flat:
            return day
        edges = np.concatenate([[0.0], np.cumsum(self.weights)])
        bent: Floats = np.interp(day, edges, np.arange(self.days + 1.0))
        return bent

    def describe(self) -> dict[str, Any]:
        """For truth.json."""
        first = datetime.fromtimestamp(self.start + self.offset, UTC).date()
        return {
            "first_day": first.isoformat(),
            "utc_offset_hours": self.offset // 3600,
            "day_weights": [round(weight, 6) for weight in self.weights.tolist()],
            "holiday": None if self.holiday is None else (first + timedelta(days=self.holiday)).isoformat(),
        }
