"""Flaws that real logs have, in exact numbers, so that an ingest can be held to account for each of them."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from hmar.settings import Section
from pipeline.simulate.lines import Row


class Dirt(Section):
    """Rows to add to a clean log; the clean rows stay what they are without them."""

    duplicates: int = Field(0, ge=0)
    """Exact copies of rows of the log."""
    outside_window: int = Field(0, ge=0)
    """Rows whose timestamp is years before the first plausible moment."""
    unknown_codes: int = Field(0, ge=0)
    """Rows whose behavior code, or rating, the source does not know."""
    short_lines: int = Field(0, ge=0)
    """Rows that lack their last column."""
    cut_last_line: bool = False
    """Whether the file ends in the middle of a row, as after an interrupted copy."""

    @property
    def quarantined(self) -> int:
        """Rows that an ingest must reject."""
        return self.outside_window + self.unknown_codes + self.short_lines + self.cut_last_line


def dirty_rows(dirt: Dirt, rng: np.random.Generator, rows: Sequence[Row], code: str, code_column: int) -> list[Row]:
    """The rows to mix into ``rows`` (made from copies of them), without the cut last one.

    Args:
        code: an unknown code. code_column: where it goes; the timestamp is the last column.
    """
    chosen: NDArray[np.int64] = rng.integers(
        len(rows), size=dirt.duplicates + dirt.outside_window + dirt.unknown_codes + dirt.short_lines
    )
    sample = [rows[i] for i in chosen]
    made: list[Row] = []
    for number, row in enumerate(sample):
        if number < dirt.duplicates:
            made.append(row)
        elif (number := number - dirt.duplicates) < dirt.outside_window:
            # Distinct seconds: two of them must not be duplicates of each other.
            made.append((*row[:-1], str(86_400 + number)))
        elif number - dirt.outside_window < dirt.unknown_codes:
            made.append((*row[:code_column], code, *row[code_column + 1 :]))
        else:
            made.append(row[:-1])
    return made
