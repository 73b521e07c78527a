"""What a delivery adds to the published events: which of its files are new, which repeat a content, what is refused."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb

from hmar import __version__
from hmar.errors import DataError, SettingsError
from pipeline.ingest.delivery import Content, Identified, shaping_settings, shaping_sql
from pipeline.settings import RetrainSettings
from pipeline.storage.events_store import EventsManifest, Input

_REMEDY = "run once with ingest.mode: replace over all files"


@dataclass(frozen=True)
class Repeats:
    """Files of equal content, where equal rows are events of their own: the first by name has the events."""

    of: Mapping[str, str]
    """File -> the one whose content it repeats; among all files, earlier ones included."""
    displaced: frozenset[str]
    """Earlier files that had the events until now, and are repeats from now on."""


def check_settings(s: RetrainSettings, published: EventsManifest) -> None:
    """Refuse to add events that were made in another way than the published ones.

    Raises:
        SettingsError: a setting, the SQL or a version differs; the first is named.
    """
    ours = _flat(shaping_settings(s))
    theirs = _flat(published.settings)
    for key, value in ours.items():
        if theirs.get(key) != value:
            raise SettingsError(
                f"{key}: {value!r} is not {theirs.get(key)!r}, which the published events of {s.name} were made with, "
                f"so nothing can be appended to them; set it back, or {_REMEDY}"
            )
    for what, our, their in (
        ("hmar", __version__, published.code_version),
        ("DuckDB", duckdb.__version__, published.duckdb_version),
        ("the SQL of sql/ingest", shaping_sql(s.source)[:12], published.sql[:12]),
    ):
        if our != their:
            raise SettingsError(
                f"ingest.mode: the published events of {s.name} were made by another version of {what} "
                f"({their}, now {our}), so nothing can be appended to them; {_REMEDY}"
            )


def new_files(identified: Sequence[Identified], published: Sequence[Input]) -> list[Identified]:
    """The files that are not among the published ones.

    Raises:
        DataError: a file has the name of a published one and another content.
    """
    known = {one.name: content_of(one) for one in published}
    for one in identified:
        earlier = known.get(one.file.name, one.content)
        if earlier != one.content:
            raise DataError(
                f"{one.file.path}: {one.file.name} was delivered before with another content (sha256 "
                f"{earlier.sha256[:12]}, now {one.sha256[:12]}); deliver the change under another name, or {_REMEDY}"
            )
    return [one for one in identified if one.file.name not in known]


def repeats(s: RetrainSettings, new: Sequence[Identified], published: Sequence[Input]) -> Repeats:
    """Which files repeat the content of another one; none where equal rows are duplicates anyway."""
    if s.ingest.identical_rows == "duplicate":
        return Repeats({}, frozenset())
    names: dict[tuple[str | None, ...], list[str]] = {}
    for content, layout in (
        *((one.content, one.file.layout.name) for one in new),
        *((content_of(one), one.layout) for one in published),
    ):
        names.setdefault((content.sha256, content.joined_sha256, layout), []).append(content.name)
    of = {name: min(equal) for equal in names.values() for name in equal if name != min(equal)}
    earlier = {one.name for one in published}
    return Repeats(of, frozenset(name for name, owner in of.items() if name in earlier and owner not in earlier))


def content_of(one: Input) -> Content:
    """A published file as far as the events depend on it."""
    return Content(one.name, one.sha256, one.joined_sha256)


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping) and key in ("ingest", "table"):
            found |= _flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found
