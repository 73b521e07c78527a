"""Where a day's raw log lies: ``{date}`` in a path, filled in by the day a run is for."""

import string
from datetime import date
from pathlib import Path

from hmar.errors import SettingsError
from pipeline.settings import RetrainSettings


def given(s: RetrainSettings) -> Path:
    """``s.raw`` with ``{date}`` filled in by ``s.day``.

    Raises:
        SettingsError: the path has a placeholder and no day is set, or one that is not {date}.
    """
    if s.day is not None:
        return dated(s.raw, s.day)
    if wants_day(s.raw):
        raise SettingsError(
            f"raw: {s.raw} needs a day; set day (--day 2017-11-25), or let a schedule run it for the day it is due"
        )
    return dated(s.raw, date.min)


def wants_day(raw: str | Path) -> bool:
    """Whether a path has a placeholder.

    Raises:
        SettingsError: a brace is not closed.
    """
    return any(name is not None for _, name, _, _ in _parts(str(raw)))


def dated(raw: str | Path, day: date) -> Path:
    """``raw`` with ``{date}`` as YYYY-MM-DD, ``{date:%Y%m%d}`` in the given format, and ``{{`` as a brace.

    Raises:
        SettingsError: another placeholder, or a format that has no day in it or that strftime does not take.
    """
    found = []
    for text, name, how, conversion in _parts(str(raw)):
        found.append(text)
        if name is None:
            continue
        if name != "date" or conversion:
            raise SettingsError(f"raw: {raw}: unknown placeholder {{{name}}}; known: {{date}}, {{date:%Y%m%d}}")
        if how and ("%" not in how or "%" in (filled := day.strftime(how))):
            raise SettingsError(f"raw: {raw}: {how!r} is no format of a date; write for example {{date:%Y%m%d}}")
        found.append(filled if how else day.isoformat())
    return Path("".join(found))


def _parts(raw: str) -> list[tuple[str, str | None, str | None, str | None]]:
    try:
        return list(string.Formatter().parse(raw))
    except ValueError as error:
        raise SettingsError(f"raw: {raw}: {error}; a brace that belongs to the name is written twice") from None
