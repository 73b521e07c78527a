"""What Great Expectations is given to judge: one row of numbers that DuckDB computed, and where bad rows stand."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from hmar.errors import StorageError
from pipeline.ingest.accounts import Rejected
from pipeline.results import Accounts
from pipeline.storage.events_store import EventsManifest

MEASURES = "measures.json"


class Measures(BaseModel):
    """``measures.json`` of a staged delivery."""

    model_config = ConfigDict(frozen=True)

    metrics: dict[str, int | float | str | None]
    rejected: list[Rejected]
    based_on: str | None = None
    """What was published when the delivery was landed (:func:`pipeline.storage.events_store.state`), where it is added
    to that; None: it replaces whatever is there."""
    added: list[str] = []
    """Names of the raw files that this adds."""


def measure(found: Mapping[str, Any], manifest: EventsManifest, delivered: Accounts, target: str) -> dict[str, Any]:
    """The metrics by name: counts and shares from 0 to 1, moments in ISO 8601.

    Rows, duplicates and quarantined rows are those of the delivery; events, users, items and behaviors are those that
    would be published.

    Args:
        found: what :meth:`Candidates.metrics` gives.
    """
    events, rows, behaviors, total = found["events"], delivered.rows, manifest.behaviors, manifest.accounts
    shares = {f"share_{name}": count / max(events, 1) for name, count in behaviors.items()}
    return {
        **found,
        **shares,
        "rows": rows,
        "duplicates": delivered.duplicates,
        "duplicate_share": delivered.duplicates / max(rows, 1),
        "quarantined": delivered.quarantined,
        "quarantined_share": delivered.quarantined / max(rows, 1),
        "unaccounted_rows": total.rows - events - total.duplicates - total.quarantined,
        "blank_lines": delivered.blank_lines,
        "outside_window": manifest.outside_window,
        "target_events": behaviors.get(target, 0),
        "target_share": behaviors.get(target, 0) / max(events, 1),
    }


def read_measures(staging: Path) -> Measures:
    """The measures of a staged delivery.

    Raises:
        StorageError: the file is gone or damaged; landing again makes it anew.
    """
    path = staging / MEASURES
    try:
        return Measures.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValidationError) as error:
        raise StorageError(f"{path}: not readable ({error}); delete {staging} and run again") from None
